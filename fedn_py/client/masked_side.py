"""The client's part in masked rounds: looks at what comes before the client's own machine hears of it.

A masked task is believed, or refused by name, and answered with an offer of keys; only then it is done. The update
that comes of it goes through the update participant's machine, whose records decide whether it may be sent.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fedn_py.client.beliefs import Beliefs
from fedn_py.client.machines import Machines
from fedn_py.client.masked_files import MaskedFiles
from fedn_py.client.masked_memory import MaskedMemory
from fedn_py.client.participant_work import NoLongerWanted, ParticipantWork, PolicyChanged
from fedn_py.client.ports import Combiner
from fedn_py.client.registration import Registration
from fedn_py.client.seats import NotAtHand, Offered, Seats
from fedn_py.client.update_sealing import PlainUpdate
from fedn_py.errors import PeerFault
from fedn_py.protocol.client import Event as ClientEvent
from fedn_py.protocol.client import Piece, UpdateKept, UpdateWithheld
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.encoding import MalformedMessage
from fedn_py.protocol.masked.participant_work import AbortArrived, NotOpenedArrived, RoundEnded
from fedn_py.protocol.masked.plans import BelievedPlan
from fedn_py.protocol.masked.round_messages import Abort, BeaconLink, CommitteeBody, Echo, Included, NotOpened
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import (
    AbortWanted,
    Boxes,
    Links,
    LinksWanted,
    StreamWanted,
    WordFromClient,
    WordToClient,
)
from fedn_py.protocol.messages import (
    MetricsRelease,
    RoundCommitted,
    SaidByClient,
    TaskFailed,
    TrainTask,
    ValidationOrder,
)
from fedn_py.runtime.logging import logger

_LINKS_WITHIN_S = 10.0
_MOST_CELLS = 8

_log = logger("fedn_py.client")


@dataclass(slots=True)
class _Cell:
    """A cell that this client is in.

    Attributes:
        task: the last one that asked for it.
        committee: comes, or is refused by name.
    """

    task: TrainTask
    terms: CellTerms
    offered: Offered
    committee: "asyncio.Future[Committee]" = field(default_factory=asyncio.Future)

    def __post_init__(self) -> None:
        # Read, or asyncio would report a refusal that nobody waits for.
        self.committee.add_done_callback(lambda done: done.exception())

    def close(self) -> None:
        if not self.committee.done():
            self.committee.set_exception(NoLongerWanted())
        self.offered.close()


class MaskedSide:
    """Believes, offers, serves and lets go; what ``Hearing`` hands it comes one after the other.

    Args:
        release: how far the site lets its metrics go.
    """

    def __init__(
        self,
        registration: Registration,
        memory: MaskedMemory,
        files: MaskedFiles,
        combiner: Combiner,
        *,
        release: MetricsRelease,
        beliefs: Beliefs,
        post: Callable[[ClientEvent], None],
    ) -> None:
        self._combiner, self._beliefs, self._post = combiner, beliefs, post
        self._machines = Machines()
        self._participant = ParticipantWork(
            registration,
            memory,
            files,
            combiner,
            release=release,
            rework_max=0 if beliefs.policy is None else beliefs.policy.rework_max,
            machines=self._machines,
        )
        self._seats = Seats(
            registration,
            memory,
            files,
            combiner,
            beliefs=beliefs,
            machines=self._machines,
            proofs=lambda: self._participant.state.proofs,
            aborted=lambda abort: self._participant.mailbox.post(AbortArrived(abort)),
        )
        self._cells: dict[bytes, _Cell] = {}
        self._links: asyncio.Queue[Links | None] = asyncio.Queue()

    async def run(self) -> None:
        """Run the machines until cancelled.

        Raises:
            OwnFault: something could not be remembered; the client must not go on.
        """
        self._machines.begin(self._participant.mailbox)
        await self._seats.restore()
        try:
            await self._machines.run()
        finally:
            for cell in self._cells.values():
                cell.close()
            await self._seats.close()

    # ---- what comes

    def say_again(self) -> None:
        """Say again what may not have arrived before the connection was lost."""
        for cell in self._cells.values():
            if cell.offered.open and not cell.committee.done():
                self._say(cell.offered.word)
        self._seats.say_again()

    async def take_policy(self, signed: Signed) -> None:
        """Take the operator's policy; raises PeerFault where it is none to go by."""
        policy = await self._beliefs.take_policy(signed)
        if policy is not None:
            _log.info("the operator's policy is known", version=policy.version, modes=", ".join(policy.modes))
            self._participant.mailbox.post(PolicyChanged(policy.rework_max))

    async def take_task(self, task: TrainTask) -> bool:
        """Believe a masked task and offer keys for it, or refuse it by name.

        Returns:
            Whether it is to be done.
        """
        try:
            believed = await self._beliefs.believe(task, self._more_links)
            for void in believed.terms.plan.voids:
                self._participant.mailbox.post(NotOpenedArrived(void, self._beliefs.reducers))
            await self._participant.plan_checked(believed.terms, believed.plan_hash)
            await self._seats.let_go_of(self._participant.state.proofs.voids)
            plan = believed.terms.plan
            await self._seats.round_committed(plan.session, plan.round - 1)  # as its plan shows
            cell = await self._cell(task, believed)
        except PeerFault as fault:
            self._refuse(task, fault)
            return False
        self._say(cell.offered.word)
        if cell.terms.ctx0 in self._participant.state.stored:
            _log.info("the masked update for this cell is kept; it will be sent again as it is")
            self._post(UpdateKept(Piece.of(task.plan)))
        return True

    async def take_word(self, word: WordToClient) -> None:
        """Take a word; raises PeerFault where it is refused."""
        match word:
            case CommitteeBody():
                await self._take_committee(word)
            case Boxes():
                await self._seats.take_boxes(word)
            case Included():
                await self._seats.take_included(word)
            case StreamWanted():
                await self._seats.send_stream(word)
            case AbortWanted():
                await self._seats.take_abort_wanted(word)
            case Links():
                self._links.put_nowait(word)
            case Signed():
                await self._take_signed(word)

    async def round_committed(self, committed: RoundCommitted) -> None:
        """Let go of what was kept for a round."""
        try:
            session = bytes.fromhex(committed.session)
        except ValueError:
            return  # none that a masked round can have
        await self._participant.mailbox.deliver(RoundEnded(session, committed.round_number))
        await self._seats.round_committed(session, committed.round_number)
        for ctx0, cell in list(self._cells.items()):
            if cell.terms.plan.session == session and cell.terms.plan.round <= committed.round_number:
                self._leave(ctx0)

    # ---- what the client's work asks

    @property
    def logs_may_go(self) -> bool:
        """Whether what a package printed or raised may leave this site, as far as the network's operator says."""
        return self._beliefs.logs_may_go

    async def check_still_plain(self, task: TrainTask) -> None:
        """Look again, before an update leaves in the clear, whether it may; raises as ``Beliefs.believe_training``."""
        await self._beliefs.believe_training(task)

    def check_still_clear(self, order: ValidationOrder) -> None:
        """Look again, before metrics leave in the clear, whether they may; raises as ``Beliefs.believe_validation``."""
        self._beliefs.believe_validation(order)

    def terms_of(self, task: TrainTask) -> CellTerms | None:
        """Return the terms of a task that was believed; None of a plain one."""
        cell = self._cell_of(task)
        return None if cell is None else cell.terms

    def training_failed(self, task: TrainTask) -> None:
        """Learn that a task has no update."""
        cell = self._cell_of(task)
        if cell is not None:
            self._participant.training_failed(cell.terms)

    async def send_update(self, task: TrainTask, plain: PlainUpdate | None) -> list[ClientEvent]:
        """Bring a task's update to the combiner, masked, and return what became of it.

        Args:
            plain: None where only a masked one may be kept, by an earlier life of this process.
        """
        cell = self._cell_of(task)
        if cell is None:
            fault = NoLongerWanted()
            return [UpdateWithheld(task.generation, f"{fault.code}: {fault.message}")]
        return await self._participant.send_update(task, cell.terms, cell.committee, plain)

    # ---- cells

    def _cell_of(self, task: TrainTask) -> _Cell | None:
        asked = (task.plan.session, task.generation)
        return next(
            (cell for cell in self._cells.values() if (cell.task.plan.session, cell.task.generation) == asked), None
        )

    async def _cell(self, task: TrainTask, believed: BelievedPlan) -> _Cell:
        terms = believed.terms
        cell = self._cells.get(terms.ctx0)
        if cell is None:
            for ctx0 in [ctx0 for ctx0, old in self._cells.items() if old.offered.over][:-_MOST_CELLS]:
                self._leave(ctx0)
            cell = _Cell(task, terms, await self._seats.offer(terms, self._beliefs.drawn(believed)))
            self._cells[terms.ctx0] = cell
        cell.task = task
        return cell

    def _leave(self, ctx0: bytes) -> None:
        cell = self._cells.pop(ctx0)
        if cell.committee.done() and cell.committee.exception() is None:
            self._seats.leave(cell.committee.result().ctx)
        cell.close()

    async def _take_committee(self, body: CommitteeBody) -> None:
        cell = self._cells.get(body.ctx0)
        if cell is None:
            raise NotAtHand(CommitteeBody.kind)
        if cell.committee.done():
            return
        try:
            committee = await self._beliefs.committee(body, cell.terms)
            await self._seats.take_committee(cell.offered, committee)
        except PeerFault as fault:
            cell.committee.set_exception(fault)
            cell.offered.give_up()
            self._refuse(cell.task, fault)
            return
        _log.info("the cell has its committee", slots=committee.slots, members=len(committee.members))
        cell.committee.set_result(committee)

    def _refuse(self, task: TrainTask, fault: PeerFault) -> None:
        _log.warning("takes no part", fault=fault.code, reason=fault.message, what_to_do=fault.remedy)
        self._combiner.send(TaskFailed(task.generation, f"{fault.code}: {fault.message}"))

    # ---- words

    async def _take_signed(self, signed: Signed) -> None:
        match signed.said:
            case Abort.kind:
                await self._participant.mailbox.deliver(AbortArrived(signed))
            case NotOpened.kind:
                await self._participant.mailbox.deliver(NotOpenedArrived(signed, self._beliefs.reducers))
                await self._seats.let_go_of(self._participant.state.proofs.voids)
            case Echo.kind:
                await self._seats.take_echo(signed)
            case _:
                raise MalformedMessage("signed word", "said", f"is {signed.said!r}")

    def links_came(self, links: Links | None) -> None:
        """Take links at once: a task may be waiting for them, for which None ends the wait."""
        self._links.put_nowait(links)

    async def _more_links(self, session: bytes, from_round: int) -> Sequence[BeaconLink]:
        while not self._links.empty():
            self._links.get_nowait()
        self._say(LinksWanted(session, from_round))
        try:
            async with asyncio.timeout(_LINKS_WITHIN_S):
                while (links := await self._links.get()) is not None:
                    if links.session == session:
                        return links.links
        except TimeoutError:
            pass
        return ()

    def _say(self, word: WordFromClient) -> None:
        self._combiner.send(SaidByClient(word))
