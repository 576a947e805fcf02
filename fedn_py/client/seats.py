"""This client's offers and seats in committees, each with a machine of its own, and the answers that are kept."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedn_py.client.beliefs import Beliefs
from fedn_py.client.machines import Machines
from fedn_py.client.masked_files import MaskedFiles
from fedn_py.client.masked_memory import MaskedMemory
from fedn_py.client.member_work import AttachedAgain, MemberWork, Promising, key_message
from fedn_py.client.memory_rows import KeptAnswer
from fedn_py.client.ports import Combiner
from fedn_py.client.registration import Registration
from fedn_py.client.secret_bytes import SeatKeys
from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import Digest
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.differencing import Proofs
from fedn_py.protocol.masked.member import AlreadyServing, offer, restored
from fedn_py.protocol.masked.member_work import (
    AbortAsked,
    Duty,
    EchoArrived,
    KeySent,
    SaveMembership,
    SendEcho,
    Silent,
    State,
)
from fedn_py.protocol.masked.round_messages import Abort, Echo, Included, OpenSum2
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import AbortWanted, Boxes, KeyOffer, StreamSent, StreamWanted
from fedn_py.protocol.messages import SaidByClient
from fedn_py.runtime.logging import logger
from fedn_py.transport.completion import in_thread

MARGIN_S = 120.0
"""How long keys outlive the phases of their attempt: for a reducer that is started again in between."""

_log = logger("fedn_py.client")


@dataclass(frozen=True, slots=True)
class Offered:
    """What a client offered to one cell.

    Attributes:
        word: with a key for each slot that it was drawn for.
        seats: the duties, and the machines that they became.
    """

    word: KeyOffer
    seats: tuple[tuple[Duty, MemberWork], ...]

    @property
    def open(self) -> bool:
        """Whether no committee has come yet."""
        return all(isinstance(member.state, KeySent) for _, member in self.seats)

    @property
    def over(self) -> bool:
        """Whether no seat is left that anything may be asked of."""
        return all(member.ended for _, member in self.seats)

    def give_up(self) -> None:
        """Let all keys go."""
        for _, member in self.seats:
            member.give_up()

    def close(self) -> None:
        """Erase what is left of the keys and end the machines."""
        for _, member in self.seats:
            member.close()


class NotAtHand(PeerFault):
    """A word is of a cell that this client has no part in, or none any more."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"this {kind} is of no cell that this client has a part in now",
            remedy="Late words are passed over like this now and then; nothing is to be done.",
        )


class Seats:
    """All of this client's seats.

    Args:
        proofs: what is known now of sets that can never be opened.
        aborted: told of this client's own Aborts.
    """

    def __init__(
        self,
        registration: Registration,
        memory: MaskedMemory,
        files: MaskedFiles,
        combiner: Combiner,
        *,
        beliefs: Beliefs,
        machines: Machines,
        proofs: Callable[[], Proofs],
        aborted: Callable[[Signed], None],
    ) -> None:
        self._registration, self._memory, self._files, self._combiner = registration, memory, files, combiner
        self._beliefs, self._machines, self._proofs, self._aborted = beliefs, machines, proofs, aborted
        self._promising = Promising(memory)
        self._seated: dict[bytes, MemberWork] = {}
        self._streams: dict[bytes, asyncio.Task[None]] = {}

    async def restore(self) -> None:
        """Take up the answers that an earlier life of this process has left."""
        for answer in self._memory.answers():
            self._restore(answer.ctx)

    async def close(self) -> None:
        """End the transfers."""
        for transfer in self._streams.values():
            transfer.cancel()
        await asyncio.gather(*self._streams.values(), return_exceptions=True)

    # ---- offers

    async def offer(self, terms: CellTerms, drawn: Sequence[int]) -> Offered:
        """Offer a key for each slot that this client was drawn for; none where it has offered some before."""
        me, reducers = self._beliefs.registered, self._beliefs.reducers
        served = self._memory.memberships()
        seats: list[tuple[Duty, MemberWork]] = []
        signed: list[Signed] = []
        try:
            for slot in drawn:
                keys = SeatKeys()
                duty = Duty(terms, me.client_id, me.client_key, slot, keys.epk, reducers)
                # All slots are one offer: what it is checked against is what was offered before it, and it is
                # remembered once.
                state, effects = offer(duty, served)
                member = self._member(state, keys)
                for effect in effects:
                    if isinstance(effect, SaveMembership) and not seats:
                        await member.perform(effect)
                seats.append((duty, member))
                signed.append(self._registration.signed(key_message(duty, keys)))
        except AlreadyServing as fault:
            _log.info("offers no key", why=fault.message)
        for _, member in seats:
            self._machines.begin(member.mailbox)
            member.give_up_after(_attempt_s(terms) + MARGIN_S)
        _tell_drawn([duty.slot for duty, _ in seats])
        return Offered(KeyOffer(terms.ctx0, me.chain, tuple(signed)), tuple(seats))

    async def take_committee(self, offered: Offered, committee: Committee) -> None:
        """Take a committee that was checked, with all of this client's offers to it.

        Raises:
            BadCommittee: it seats this client with a key that it did not offer.
        """
        for duty, member in offered.seats:
            if await member.seat(committee, duty):
                self._seated[committee.ctx] = member

    # ---- what comes

    def say_again(self) -> None:
        """Say what was said last, of everything that is not over."""
        for member in self._seated.values():
            member.mailbox.post(AttachedAgain())

    async def take_boxes(self, boxes: Boxes) -> None:
        """Open and acknowledge boxes; raises NotAtHand."""
        await self._at_hand(boxes.ctx, Boxes.kind).take_boxes(boxes.boxes, self._beliefs)

    async def take_included(self, included: Included) -> None:
        """Take the set that is to be opened; raises PeerFault where it is not promised."""
        ctx = OpenSum2.decode(included.opening.body).ctx
        member = self._seated.get(ctx)
        if member is None:
            if self._memory.member().promise(ctx) is None:
                raise NotAtHand(Included.kind)
            self._restore(ctx)
        else:
            await member.take_included(included, self._beliefs, self._proofs)

    async def take_echo(self, signed: Signed) -> None:
        """Take another member's echo; raises PeerFault where it is none, or of no cell at hand."""
        member = self._at_hand(Echo.decode(signed.body).ctx, Echo.kind)
        if not member.ended:
            await member.mailbox.deliver(EchoArrived(signed))

    async def take_abort_wanted(self, word: AbortWanted) -> None:
        """Give a cell up, if nothing was promised of it; raises CannotAbort, NotAtHand."""
        if word.ctx not in self._seated and word.ctx in self._memory.aborted():
            # By an earlier life of this process, whose word may not have arrived.
            signed = self._registration.signed(Abort(word.ctx, word.reason))
            self._aborted(signed)
            self._combiner.send(SaidByClient(signed))
            return
        await self._at_hand(word.ctx, AbortWanted.kind).mailbox.deliver(AbortAsked(word.reason))

    async def send_stream(self, word: StreamWanted) -> None:
        """Send the stream of an answer, as often as it is asked for; raises NotAtHand."""
        answer = self._answer(word.ctx)
        if answer is None:
            raise NotAtHand(StreamWanted.kind)
        under_way = self._streams.get(word.ctx)
        if under_way is None or under_way.done():
            self._streams[word.ctx] = asyncio.ensure_future(self._stream(answer))

    async def round_committed(self, session: bytes, round_number: int) -> None:
        """Let go of the answers of a round."""
        for answer in self._memory.answers():
            if answer.session == session and answer.round <= round_number:
                await in_thread(self._files.drop_answer, answer)
                self.leave(answer.ctx)

    async def let_go_of(self, voids: frozenset[bytes]) -> None:
        """Let go of answers that nobody can open any more; what was promised stays."""
        for answer in self._memory.answers():
            if answer.ctx in voids:
                await in_thread(self._files.drop_answer, answer)
                self.leave(answer.ctx)

    def leave(self, ctx: bytes) -> None:
        """Let go of a seat."""
        member = self._seated.pop(ctx, None)
        if member is not None:
            member.close()
        transfer = self._streams.pop(ctx, None)
        if transfer is not None:
            transfer.cancel()

    # ---- inside

    def _member(self, state: State, keys: SeatKeys | None) -> MemberWork:
        return MemberWork(
            state,
            keys,
            registration=self._registration,
            promising=self._promising,
            files=self._files,
            combiner=self._combiner,
            machines=self._machines,
            aborted=self._aborted,
        )

    def _at_hand(self, ctx: bytes, kind: str) -> MemberWork:
        member = self._seated.get(ctx)
        if member is None:
            raise NotAtHand(kind)
        return member

    def _answer(self, ctx: bytes) -> KeptAnswer | None:
        return next((answer for answer in self._memory.answers() if answer.ctx == ctx), None)

    def _restore(self, ctx: bytes) -> None:
        """Bring back what an earlier life of this process has promised of a cell, or say its promise again."""
        promise, answer = self._memory.member().promise(ctx), self._answer(ctx)
        state, effects = restored(promise, None if answer is None else answer.answer)
        if isinstance(state, Silent):
            _log.info("cannot answer for its slot", why=state.reason)
            for effect in effects:
                if isinstance(effect, SendEcho):
                    self._combiner.send(SaidByClient(self._registration.signed(effect.echo)))
            return
        member = self._seated[ctx] = self._member(state, None)
        self._machines.begin(member.mailbox)
        member.mailbox.post(AttachedAgain())

    async def _stream(self, answer: KeptAnswer) -> None:
        sha256 = Digest(answer.sha256.hex())
        try:
            path = await in_thread(self._files.path, answer)
            # The same id for the same bytes: what was cut is gone on with.
            await self._combiner.upload_object(sha256[:32], sha256, path)
        except FednError as fault:
            _log.warning("the answer's stream was not delivered; it is sent when asked for again", reason=fault.message)
            return
        _log.info("the answer's stream is delivered", bytes=answer.size)
        self._combiner.send(SaidByClient(StreamSent(answer.ctx, answer.sha256, answer.size)))


def _attempt_s(terms: CellTerms) -> float:
    plan = terms.plan
    return (plan.sum_ms + plan.update_ms + plan.sum2_ms) / 1_000


def _tell_drawn(slots: Sequence[int]) -> None:
    if slots:
        _log.info("drawn to serve as a sum participant; a key is offered for each slot", slots=list(slots))
    else:
        _log.info("not to serve as a sum participant in this attempt")
