"""Performs what the machine of a sum participant asks for: one client's offer for one slot, and the seat it may become.

What is promised is on disk before it is said. The keys live here and nowhere else: whoever is restored from disk has
none, and says again what was said before, or nothing.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fedn_py.client.answer_sealing import seal_answer
from fedn_py.client.beliefs import Beliefs
from fedn_py.client.machines import Machines
from fedn_py.client.masked_files import MaskedFiles
from fedn_py.client.masked_memory import MaskedMemory
from fedn_py.client.memory_rows import KeptAnswer
from fedn_py.client.ports import Combiner
from fedn_py.client.registration import Registration
from fedn_py.client.secret_bytes import SeatKeys
from fedn_py.errors import OwnFault, PeerFault
from fedn_py.protocol.masked import member
from fedn_py.protocol.masked import member_work as work
from fedn_py.protocol.masked.answers import AnswerPlace
from fedn_py.protocol.masked.boxes import BadBox
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import nonce_commitment
from fedn_py.protocol.masked.differencing import Proofs
from fedn_py.protocol.masked.encoding import Body, as_line
from fedn_py.protocol.masked.member_work import Duty, State
from fedn_py.protocol.masked.registry import Registered
from fedn_py.protocol.masked.round_messages import BoxAck, BoxFor, Echo, Included, IncludedRow, KeyMessage, UpdateHeader
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.messages import SaidByClient
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.runtime.scratch import disk_faults
from fedn_py.transport.completion import in_thread

_log = logger("fedn_py.client")


@dataclass(frozen=True, slots=True)
class AttachedAgain:
    """The connection was lost and is back: what was said last may not have arrived."""


Event: TypeAlias = work.Event | AttachedAgain


def step(state: State, event: Event) -> tuple[State, list[work.Effect]]:
    """Advance a sum participant by one event; raises what ``member.step`` does."""
    match state, event:
        case work.Echoed(committee=committee, included_hash=digest), AttachedAgain():
            return state, [work.SendEcho(Echo(committee.ctx, digest))]
        case work.Answered(answer=answer), AttachedAgain():
            return state, [work.SendAnswer(answer)]
        case _, AttachedAgain():
            return state, []
        case _, _:
            return member.step(state, event)


class Promising:
    """Lets one member at a time look at what was promised and promise: two that overlap must see each other."""

    def __init__(self, memory: MaskedMemory) -> None:
        self.memory = memory
        self.turn = asyncio.Lock()


class MemberWork:
    """The shell around a sum participant's machine.

    Args:
        keys: None for one that was restored from disk.
        machines: what the machine is run by.
        aborted: told of this member's own Abort, which its update participant needs too.

    Attributes:
        mailbox: of the machine; its owner runs it.
    """

    def __init__(
        self,
        state: State,
        keys: SeatKeys | None,
        *,
        registration: Registration,
        promising: Promising,
        files: MaskedFiles,
        combiner: Combiner,
        machines: Machines,
        aborted: Callable[[Signed], None],
    ) -> None:
        self._keys, self._registration, self._promising, self._files = keys, registration, promising, files
        self._combiner, self._aborted = combiner, aborted
        self._acks: list[BoxAck] = []
        self._made: KeptAnswer | None = None
        self._serves = False
        self.mailbox: Mailbox[State, Event, work.Effect] = Mailbox(
            "sum participant", state, step, self.perform, on_fault=machines.stops(self.close)
        )

    @property
    def state(self) -> State:
        """The machine's present state."""
        return self.mailbox.state

    @property
    def ended(self) -> bool:
        """Whether nothing more will be said here."""
        return isinstance(self.state, work.Silent | work.Aborted)

    async def perform(self, effect: work.Effect) -> Iterable[Event] | None:
        """Do one effect."""
        memory = self._promising.memory
        match effect:
            case work.SaveMembership(session, round_number, attempt):
                await in_thread(memory.save_membership, session, round_number, attempt)
            case work.SendAck(ack):
                self._acks.append(ack)
            case work.SavePromise(record):
                await in_thread(memory.save_promise, record)
            case work.SendEcho(echo):
                _log.info("said which clients this sum participant was asked to open")
                self._say(echo)
            case work.SealAnswer(rows):
                _log.info("computing the answer for this slot", clients=len(rows))
                self.mailbox.spawn(self._seal(rows))
            case work.SaveAnswer():
                assert self._made is not None
                await in_thread(memory.save_answer, self._made)
            case work.SendAnswer(answer):
                _log.info("answered for its slot")
                self._combiner.send(SaidByClient(answer))
            case work.EraseKeys():
                self.erase()
                if self._serves and isinstance(self.state, work.Silent):
                    _log.info("serves no longer as a sum participant; its keys are erased", why=self.state.reason)
            case work.SaveAbort(ctx):
                await in_thread(memory.save_abort, ctx)
            case work.SendAbort(abort):
                _log.info("gave the cell up; its keys are erased", why=abort.reason)
                signed = self._registration.signed(abort)
                self._aborted(signed)
                self._combiner.send(SaidByClient(signed))
            case work.SendKeyMessage():
                pass  # all slots of a client are offered in one word
        return None

    def erase(self) -> None:
        """Overwrite the keys and all seeds."""
        if self._keys is not None:
            self._keys.erase()

    def close(self) -> None:
        """Erase what is left of the keys and end the machine."""
        self.erase()
        self.mailbox.close()

    def give_up(self) -> None:
        """Let the time of its phase be over."""
        self.mailbox.post(work.DeadlinePassed())

    def give_up_after(self, after_s: float) -> None:
        """Let the time of its phase be over in a while."""
        self.mailbox.start_timer(after_s, work.DeadlinePassed())

    # ---- what comes from others

    async def seat(self, committee: Committee, duty: Duty) -> bool:
        """Take a committee that was checked, and return whether it has a seat for this offer.

        Raises:
            BadCommittee: it seats this client with a key that it did not offer.
        """
        seat = committee.member(duty.client_id)
        if seat is not None and seat.slot != duty.slot:
            await self.mailbox.deliver(work.DeadlinePassed())  # seated by another of its offers
            return False
        await self.mailbox.deliver(work.CommitteeFormed(committee))
        self._serves = seat is not None
        if seat is not None:
            _log.info("serves as a sum participant", slot=seat.slot, replica=seat.replica)
        return self._serves

    async def take_boxes(self, boxes: Sequence[BoxFor], beliefs: Beliefs) -> None:
        """Open boxes and acknowledge them."""
        state = self.state
        if not isinstance(state, work.Opening) or self._keys is None:
            return
        seat = state.committee.member(state.duty.client_id)
        assert seat is not None
        n_words = state.duty.terms.encoding.n_words
        for found in await beliefs.opened(boxes, seat, self._keys.esk, state.committee, n_words):
            if isinstance(found, BadBox):
                _log.warning("refused a box", client=found.client_id.hex()[:16], reason=found.reason)
                await self.mailbox.deliver(work.BoxRefused(found.client_id, as_line(found.reason)))
            else:
                await self.mailbox.deliver(work.BoxAccepted(found.verified))
                self._keys.keep(found.verified.client.client_id, found.verified.hash, found.seed)
        self._acknowledge()

    async def take_included(self, included: Included, beliefs: Beliefs, proofs: Callable[[], Proofs]) -> None:
        """Take the set that is to be opened; promise it if nothing speaks against it.

        Raises:
            PeerFault: says why it is not promised.
        """
        state = self.state
        lacking = [box for box in included.boxes if _lacks(state, box)] if isinstance(state, work.Opening) else []
        if lacking:
            await self.take_boxes(lacking, beliefs)
        async with self._promising.turn:
            beliefs.check_standing_of(self._to_promise(included))
            memory = self._promising.memory.member()
            await self.mailbox.deliver(work.IncludedArrived(included, memory, proofs(), beliefs.reducers))
        if isinstance(state, work.Opening):
            self.give_up_after(state.duty.terms.plan.sum2_ms / 1_000)

    def _to_promise(self, included: Included) -> list[Registered]:
        """Return the clients of a set that is not promised yet: a policy may have come since their boxes did."""
        state = self.state
        if not isinstance(state, work.Opening):
            return []
        ids = {row.client_id for row in included.rows}
        return [header.client for client_id, header in state.accepted.items() if client_id in ids]

    def _acknowledge(self) -> None:
        """Say at once what was found of several boxes; of a client with two, in their order."""
        waiting, self._acks = self._acks, []
        together: list[BoxAck] = []
        named: set[bytes] = set()
        for ack in waiting:
            clients = {row.client_id for row in ack.accepted} | {refused.client_id for refused in ack.rejected}
            if named & clients:
                self._say(_merged(together))
                together, named = [], set()
            together.append(ack)
            named |= clients
        if together:
            self._say(_merged(together))

    async def _seal(self, rows: tuple[IncludedRow, ...]) -> list[Event]:
        state = self.state
        assert isinstance(state, work.Answering)
        assert self._keys is not None
        duty, ctx = state.duty, state.committee.ctx
        place = AnswerPlace(ctx, state.included_hash, duty.client_id, duty.slot)
        try:
            with disk_faults("sealing an answer"):
                answer = await in_thread(seal_answer, duty.terms, place, rows, self._keys, self._files.answer_path(ctx))
        except OwnFault as fault:
            _log.error("the answer cannot be sealed", reason=fault.message, what_to_do=fault.remedy)
            self.erase()
            return []
        plan = duty.terms.plan
        signed = self._registration.signed(answer)
        self._made = KeptAnswer(ctx, plan.session, plan.round, signed, answer.stream_bytes, answer.stream_hash)
        return [work.AnswerSealed(signed)]

    def _say(self, body: Body) -> None:
        self._combiner.send(SaidByClient(self._registration.signed(body)))


def key_message(duty: Duty, keys: SeatKeys) -> KeyMessage:
    """Return what a client publishes of its keys for a slot."""
    ctx0 = duty.terms.ctx0
    return KeyMessage(ctx0, duty.slot, duty.epk, nonce_commitment(ctx0, duty.client_id, bytes(keys.nonce)))


def _merged(acks: Sequence[BoxAck]) -> BoxAck:
    accepted = tuple(row for ack in acks for row in ack.accepted)
    return BoxAck(acks[0].ctx, accepted, tuple(refused for ack in acks for refused in ack.rejected))


def _lacks(state: work.Opening, box: BoxFor) -> bool:
    try:
        header = UpdateHeader.decode(box.header.body)
    except PeerFault:
        return True  # opening it names what is wrong
    return header.client_id not in state.accepted
