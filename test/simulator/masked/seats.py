"""A simulated client's offers and seats in committees; follows fedn_py/client/seats.py and member_work.py."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from simulator.masked.certified import CHAINS
from simulator.working import Part, Work

from fedn_py.client.member_work import AttachedAgain, key_message
from fedn_py.client.memory_rows import KeptAnswer
from fedn_py.client.secret_bytes import SeatKeys
from fedn_py.masking.pet import MaskSum, mask_key
from fedn_py.protocol.masked import member_work as work
from fedn_py.protocol.masked.answers import AnswerPlace, AnswerSealer, sealed_bytes
from fedn_py.protocol.masked.boxes import BadBox, open_box
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.encoding import as_line
from fedn_py.protocol.masked.member import AlreadyServing, offer, restored
from fedn_py.protocol.masked.member_work import Duty
from fedn_py.protocol.masked.round_messages import Abort, Answer, BoxAck, BoxFor, Echo, Included, IncludedRow, OpenSum2
from fedn_py.protocol.masked.round_messages import UpdateHeader as SignedHeader
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import AbortWanted, Boxes, KeyOffer, StreamSent, StreamWanted

if TYPE_CHECKING:
    from simulator.masked.client_node import MaskedClientNode

MARGIN_S = 120.0


class Seat:
    """One offer for one slot, and the seat that it may become.

    Args:
        keys: None for one that was restored from disk.
    """

    def __init__(self, node: "MaskedClientNode", name: str, state: Any, keys: SeatKeys | None) -> None:
        self._node, self.keys = node, keys
        self._acks: list[BoxAck] = []
        self._made: tuple[KeptAnswer, bytes] | None = None
        self.part = Part(node, name, state, node.world.machines.member, self._perform)

    @property
    def ended(self) -> bool:
        """Whether nothing more will be said here."""
        return isinstance(self.part.state, work.Silent | work.Aborted)

    def _perform(self, effect: work.Effect) -> None:
        node = self._node
        match effect:
            case work.SaveMembership(session, round_number, attempt):
                served = node.disk.memberships | {(session, round_number, attempt)}
                node.save(replace(node.disk, memberships=served))
            case work.SendAck(ack):
                self._acks.append(ack)
            case work.SavePromise(record):
                node.save(replace(node.disk, member=node.disk.member.with_promise(record)))
            case work.SendEcho(echo):
                node.say_signed(echo)
            case work.SealAnswer(rows):
                node.spawn(self._seal(rows))
            case work.SaveAnswer():
                assert self._made is not None
                node.save(node.disk.with_answer(*self._made))
            case work.SendAnswer(answer):
                node.say(answer)
            case work.EraseKeys():
                self.erase()
            case work.SaveAbort(ctx):
                node.save(replace(node.disk, aborted=node.disk.aborted | {ctx}))
            case work.SendAbort(abort):
                node.sending.learn_own_abort(node.say_signed(abort))
            case work.SendKeyMessage():
                pass  # all slots of a client are offered in one word

    def erase(self) -> None:
        """Overwrite the keys and all seeds."""
        if self.keys is not None:
            self.keys.erase()

    def close(self) -> None:
        """Erase what is left of the keys and end the machine."""
        self.erase()
        self.part.closed = True

    def give_up_after(self, after_s: float) -> None:
        """Let the time of its phase be over in a while."""
        self.part.later(after_s, work.DeadlinePassed())

    def seat(self, committee: Committee, duty: Duty) -> bool:
        """Take a committee, and return whether it has a seat for this offer; raises BadCommittee."""
        seat = committee.member(duty.client_id)
        if seat is not None and seat.slot != duty.slot:
            self.part.take(work.DeadlinePassed())
            return False
        self.part.take(work.CommitteeFormed(committee))
        return seat is not None

    def take_boxes(self, boxes: Sequence[BoxFor]) -> None:
        """Open boxes and acknowledge them."""
        state = self.part.state
        if not isinstance(state, work.Opening) or self.keys is None:
            return
        seat, n_words = state.committee.member(state.duty.client_id), state.duty.terms.encoding.n_words
        assert seat is not None
        for box in boxes:
            try:
                if self._node.world.chaos.happens("box does not open"):
                    raise BadBox(SignedHeader.decode(box.header.body).client_id, "its bytes were damaged on the way")
                found = open_box(
                    box, seat, bytes(self.keys.esk), committee=state.committee, n_words=n_words, chains=CHAINS
                )
            except BadBox as fault:
                self._node.world.chaos.noticed("box refused")
                self.part.take(work.BoxRefused(fault.client_id, as_line(fault.reason)))
            else:
                self.part.take(work.BoxAccepted(found.verified))
                self.keys.keep(found.verified.client.client_id, found.verified.hash, found.seed)
        self._acknowledge()

    def take_included(self, included: Included) -> None:
        """Take the set that is to be opened; raises PeerFault where it is not promised."""
        node, state = self._node, self.part.state
        if isinstance(state, work.Opening):
            self.take_boxes([box for box in included.boxes if _lacks(state, box)])
        proofs = node.sending.proofs
        self.part.take(work.IncludedArrived(included, node.disk.member, proofs, node.disk.reducers))
        if isinstance(state, work.Opening):
            self.give_up_after(state.duty.terms.plan.sum2_ms / 1_000)

    def _acknowledge(self) -> None:
        waiting, self._acks = self._acks, []
        for ack in waiting:
            self._node.say_signed(ack)

    def _seal(self, rows: tuple[IncludedRow, ...]) -> Work:
        node, state = self._node, self.part.state
        assert isinstance(state, work.Answering)
        yield node.world.chaos.uniform(0.05, 2)
        if self.keys is None or self.keys.erased:
            return
        duty, ctx = state.duty, state.committee.ctx
        seeds = [(row.client_id, bytes(self.keys.seeds[row.client_id][1])) for row in rows]
        words = np.empty(duty.terms.encoding.n_words, np.uint32)
        MaskSum(mask_key(ctx, client_id, duty.slot, seed) for client_id, seed in seeds).chunk(0, words)
        place = AnswerPlace(ctx, state.included_hash, duty.client_id, duty.slot)
        sealer = AnswerSealer(place, node.random_bytes())
        stream = sealer.piece(words.astype("<u4").tobytes(), last=True)
        sealed_key, stream_hash = sealer.finish(duty.terms.plan.rpk, node.random_bytes())
        answer = Answer(
            ctx, state.included_hash, duty.slot, bytes(self.keys.nonce), sealed_key, stream_hash, len(stream)
        )
        assert answer.stream_bytes == sealed_bytes(4 * len(words))
        signed, plan = node.signed(answer), duty.terms.plan
        kept = KeptAnswer(ctx, plan.session, plan.round, signed, len(stream), node.world.sha256(stream))
        self._made = kept, stream
        self.part.offer(work.AnswerSealed(signed))


def _lacks(state: work.Opening, box: BoxFor) -> bool:
    return SignedHeader.decode(box.header.body).client_id not in state.accepted


@dataclass(frozen=True)
class Offered:
    """What a client offered to one cell."""

    word: KeyOffer
    seats: tuple[tuple[Duty, Seat], ...]

    @property
    def open(self) -> bool:
        """Whether no committee has come yet."""
        return all(isinstance(seat.part.state, work.KeySent) for _, seat in self.seats)

    @property
    def over(self) -> bool:
        """Whether no seat is left that anything may be asked of."""
        return all(seat.ended for _, seat in self.seats)

    def give_up(self) -> None:
        """Let all keys go."""
        for _, seat in self.seats:
            seat.part.offer(work.DeadlinePassed())

    def close(self) -> None:
        """Erase what is left of the keys and end the machines."""
        for _, seat in self.seats:
            seat.close()


class Seats:
    """All of a client's seats."""

    def __init__(self, node: "MaskedClientNode") -> None:
        self._node = node
        self._seated: dict[bytes, Seat] = {}
        self._streaming: set[bytes] = set()

    def restore_all(self) -> None:
        """Take up the answers that an earlier life has left."""
        for ctx in list(self._node.disk.answers):
            self._restore(ctx)

    def offer(self, terms: CellTerms, drawn: Sequence[int]) -> Offered:
        """Offer a key for each slot that this client was drawn for; none where it has offered some before."""
        node, served = self._node, self._node.disk.memberships
        seats: list[tuple[Duty, Seat]] = []
        signed: list[Signed] = []
        try:
            for slot in drawn:
                keys = SeatKeys(bytearray(node.random_bytes()), bytearray(node.random_bytes()))
                node.world.invariants.clients.keys_drawn(node, keys)
                me = node.who.registered
                duty = Duty(terms, me.client_id, me.client_key, slot, keys.epk, node.disk.reducers)
                state, effects = offer(duty, served)
                seat = Seat(node, f"slot {slot} of {terms.ctx0.hex()[:6]}", state, keys)
                seat.part.perform(effects)
                seats.append((duty, seat))
                signed.append(node.signed(key_message(duty, keys)))
        except AlreadyServing:
            node.world.chaos.noticed("offers no key, as its earlier ones are gone")
        plan = terms.plan
        for _, seat in seats:
            seat.give_up_after((plan.sum_ms + plan.update_ms + plan.sum2_ms) / 1_000 + MARGIN_S)
        return Offered(KeyOffer(terms.ctx0, node.who.chain, tuple(signed)), tuple(seats))

    def take_committee(self, offered: Offered, committee: Committee) -> None:
        """Take a committee that was checked, with all of this client's offers to it; raises BadCommittee."""
        for duty, seat in offered.seats:
            if seat.seat(committee, duty):
                self._seated[committee.ctx] = seat

    def say_again(self) -> None:
        """Say what was said last, of everything that is not over."""
        for seat in list(self._seated.values()):
            seat.part.offer(AttachedAgain())

    def take_boxes(self, boxes: Boxes) -> None:
        """Open and acknowledge boxes."""
        seat = self._seated.get(boxes.ctx)
        if seat is not None:
            seat.take_boxes(boxes.boxes)

    def take_included(self, included: Included) -> None:
        """Take the set that is to be opened; raises PeerFault where it is not promised."""
        ctx = OpenSum2.decode(included.opening.body).ctx
        seat = self._seated.get(ctx)
        if seat is None:
            self._restore(ctx)
        else:
            seat.take_included(included)

    def take_echo(self, signed: Signed) -> None:
        """Take another member's echo."""
        seat = self._seated.get(Echo.decode(signed.body).ctx)
        if seat is not None and not seat.ended:
            seat.part.take(work.EchoArrived(signed))

    def take_abort_wanted(self, word: AbortWanted) -> None:
        """Give a cell up, if nothing was promised of it; raises CannotAbort."""
        seat, node = self._seated.get(word.ctx), self._node
        if seat is not None:
            seat.part.take(work.AbortAsked(word.reason))
        elif word.ctx in node.disk.aborted:
            node.world.chaos.noticed("an Abort is said again after a restart")
            node.sending.learn_own_abort(node.say_signed(Abort(word.ctx, word.reason)))

    def send_stream(self, word: StreamWanted) -> None:
        """Send the stream of an answer, as often as it is asked for."""
        if word.ctx in self._node.disk.answers and word.ctx not in self._streaming:
            self._streaming.add(word.ctx)
            self._node.spawn(self._stream(word.ctx))

    def _stream(self, ctx: bytes) -> Work:
        node, answer, stream = self._node, self._node.disk.answers[ctx], self._node.disk.streams[ctx]
        stored = yield from node.asked_of_combiner(
            lambda combiner, reply: combiner.cells.take_stream(node.id, stream, reply)
        )
        self._streaming.discard(ctx)
        if stored:
            node.say(StreamSent(ctx, answer.sha256, answer.size))

    def round_committed(self, session: bytes, round_number: int) -> None:
        """Let go of the answers of a round."""
        for answer in list(self._node.disk.answers.values()):
            if answer.session == session and answer.round <= round_number:
                self._node.save(self._node.disk.without_answer(answer.ctx))
                self.leave(answer.ctx)

    def let_go_of(self, voids: frozenset[bytes]) -> None:
        """Let go of answers that nobody can open any more; what was promised stays."""
        for ctx in [ctx for ctx in self._node.disk.answers if ctx in voids]:
            self._node.save(self._node.disk.without_answer(ctx))
            self.leave(ctx)

    def leave(self, ctx: bytes) -> None:
        """Let go of a seat."""
        seat = self._seated.pop(ctx, None)
        if seat is not None:
            seat.close()

    def _restore(self, ctx: bytes) -> None:
        """Bring back what an earlier life has promised of a cell, or say its promise again."""
        node = self._node
        answer = node.disk.answers.get(ctx)
        state, effects = restored(node.disk.member.promise(ctx), None if answer is None else answer.answer)
        if isinstance(state, work.Silent):
            for effect in effects:
                if isinstance(effect, work.SendEcho):
                    node.world.chaos.noticed("a restarted member says its promise again")
                    node.say_signed(effect.echo)
            return
        seat = self._seated[ctx] = Seat(node, f"answer of {ctx.hex()[:6]}", state, None)
        seat.part.offer(AttachedAgain())
