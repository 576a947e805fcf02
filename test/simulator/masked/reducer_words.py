"""What the simulated reducer says to clients and hears of them; follows fedn_py/reducer/masked_words.py."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from simulator.masked.certified import CHAINS, NOW_S
from simulator.working import Work

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, CombinerName, Digest, InstanceId, SessionId
from fedn_py.protocol import messages
from fedn_py.protocol.masked.committee import BadCommittee, Member, check_committee
from fedn_py.protocol.masked.contexts import WrongContext, included_hash
from fedn_py.protocol.masked.encoding import as_line
from fedn_py.protocol.masked.opening import voids_of
from fedn_py.protocol.masked.opening_work import (
    AbortArrived,
    AnswerArrived,
    Cell,
    CellLost,
    CommitteeFormed,
    StreamFailed,
    StreamStored,
)
from fedn_py.protocol.masked.opening_work import Event as OpeningEvent
from fedn_py.protocol.masked.round_messages import Abort, Answer, Echo, Included, OpenSum2
from fedn_py.protocol.masked.signing import Signed, read_signed
from fedn_py.protocol.masked.words import (
    MOST_LINKS,
    AbortWanted,
    Links,
    LinksWanted,
    StoredCommittee,
    StreamSent,
    StreamWanted,
    WordFromClient,
)
from fedn_py.protocol.masked_rounds_work import MaskedEvent, MaskedPartialArrived
from fedn_py.reducer.attempts import AttemptAtHand, members_of
from fedn_py.reducer.cell_commits import stream_within_s
from fedn_py.store.ports import ObjectCorrupt, ObjectMissing

if TYPE_CHECKING:
    from simulator.masked.reducer_node import MaskedReducerNode


class ReducerWords:
    """Hears and says the words of masked rounds."""

    def __init__(self, node: "MaskedReducerNode") -> None:
        self._node = node

    def _all(self) -> list[AttemptAtHand]:
        return [self._node.attempts.at_hand[number] for number in sorted(self._node.attempts.at_hand, reverse=True)]

    # ---- combiners

    def committee_formed(self, name: CombinerName, said: messages.CommitteeFormed) -> None:
        """Look at a cell's committee as its clients do; one that they would refuse ends the cell."""
        at, cell = self._cell_at(name, said.generation)
        if at is None or cell is None:
            return self._tell_refused(name, WrongContext("committee"))
        terms = at.terms[name]
        try:
            standing = (self._node.speaker.policy, NOW_S)
            committee = check_committee(
                said.committee, terms.ctx0, terms.order, terms.plan.beacon, CHAINS, standing=standing
            )
            _check_assigned(committee.members, cell)
        except PeerFault as fault:
            self._tell_refused(name, fault)
            reason = f"{fault.code}: {fault.message}"
            return self._post(at, CellLost(cell.cell, cell.generation, reason), name)
        if cell.ctx is None:
            at.committees[name] = said.committee
        return self._post(at, CommitteeFormed(cell.cell, cell.generation, committee), name)

    def confirm_committee(self, at: AttemptAtHand, cell: bytes, ctx: bytes) -> None:
        """Tell the combiner of a cell that its committee is stored."""
        name = next(name for name, terms in at.terms.items() if terms.order.cell == cell)
        self._node.tell(name, messages.CommitteeStored(StoredCommittee(ctx)))

    def partial_arrived(self, name: CombinerName, instance: InstanceId, said: messages.MaskedPartial) -> None:
        """Take a combiner's answer to its order."""
        at, _ = self._cell_at(name, said.generation)
        if at is not None:
            at.partials.setdefault(name, said)
        self._node.take(MaskedPartialArrived(name, instance, said))

    def _cell_at(self, name: CombinerName, generation: int) -> tuple[AttemptAtHand | None, Cell | None]:
        for at in self._all():
            cell = at.cell_at(name)
            if cell is not None and cell.generation == generation % 2**32:
                return at, cell
        return None, None

    # ---- clients

    def heard(self, combiner: CombinerName, client: ClientId, word: WordFromClient) -> None:
        """Take what a client said and a combiner passed on."""
        try:
            self._take(combiner, client, word)
        except PeerFault as fault:
            self._tell_refused(combiner, fault)

    def _take(self, combiner: CombinerName, client: ClientId, word: WordFromClient) -> None:
        match word:
            case Signed(said=Echo.kind):
                _, cell = self._cell_of(read_signed(word, Echo).ctx, word)
                self._node.say([one for one in members_of(cell) if one != client], word)
            case Signed(said=Answer.kind):
                at, _ = self._cell_of(read_signed(word, Answer).ctx, word)
                self._post(at, AnswerArrived(word, stored=False), combiner, client)
            case Signed(said=Abort.kind):
                at, cell = self._cell_of(read_signed(word, Abort).ctx, word)
                self._post(at, AbortArrived(word), combiner, client)
                self._node.say([one for one in _assigned(cell) if one != client], word)
            case StreamSent():
                self._stream_sent(combiner, client, word)
            case LinksWanted():
                self._node.spawn(self._send_links(client, word))
            case _:
                raise WrongContext(type(word).__name__)

    def _with_ctx(self, ctx: bytes) -> tuple[AttemptAtHand, Cell] | None:
        found = ((at, at.cell_of(ctx)) for at in self._all())
        return next(((at, cell) for at, cell in found if cell is not None), None)

    def _cell_of(self, ctx: bytes, signed: Signed) -> tuple[AttemptAtHand, Cell]:
        found = self._with_ctx(ctx)
        if found is None or all(seat.client_key != signed.signer for seat in found[1].seats):
            raise WrongContext(signed.said)
        return found

    def _post(
        self, at: AttemptAtHand, event: OpeningEvent, combiner: CombinerName, client: ClientId | None = None
    ) -> None:
        self._node.take(MaskedEvent(*at.where, event, combiner, client))

    def _tell_refused(self, combiner: CombinerName, fault: FednError) -> None:
        self._node.world.chaos.noticed(f"word refused by the reducer: {fault.code}")

    # ---- streams

    def ask_stream(self, at: AttemptAtHand, ctx: bytes, member: bytes) -> None:
        """Have a member send the sealed stream of its answer; another replica is asked when it does not."""
        at.asked.add((ctx, member))
        self._node.say([ClientId(member.hex())], StreamWanted(ctx))
        self._node.spawn(self._await_stream(at, ctx, member), self._take_all)

    def _take_all(self, events: Iterable[MaskedEvent] | None) -> None:
        for event in events or ():
            self._node.take(event)

    def _await_stream(self, at: AttemptAtHand, ctx: bytes, member: bytes) -> Work:
        yield stream_within_s(at)
        cell = at.cell_of(ctx)
        if cell is None or (ctx, member) in at.streams or at.attempt.stage != "running":
            return []
        slot = next(seat.slot for seat in cell.seats if seat.client_id == member)
        others = {seat.client_id for seat in cell.seats if seat.slot == slot} & cell.answers.keys() - {member}
        self._node.world.chaos.noticed("a stream did not come in time")
        return [MaskedEvent(*at.where, StreamFailed(ctx, member))] if others - cell.failed else []

    def _stream_sent(self, combiner: CombinerName, client: ClientId, word: StreamSent) -> None:
        found, member = self._with_ctx(word.ctx), bytes.fromhex(client)
        if found is None or (word.ctx, member) not in found[0].asked or member not in found[1].answers:
            raise WrongContext(StreamSent.kind)
        if found[0].attempt.stage in {"running", "opening"}:
            self._node.spawn(self._look_at_stream(found[0], combiner, client, word), self._take_all)

    def _look_at_stream(self, at: AttemptAtHand, combiner: CombinerName, client: ClientId, word: StreamSent) -> Work:
        member, digest = bytes.fromhex(client), Digest(word.sha256.hex())
        place, cell = (word.ctx, member), at.cell_of(word.ctx)
        assert cell is not None
        answer = read_signed(cell.answers[member], Answer)
        stream: bytes | None = None
        with suppress(ObjectMissing, ObjectCorrupt):
            stream = yield from self._node.get(digest)
        found = None if stream is None else (len(stream), hashlib.sha256(stream).digest())
        if found != (answer.stream_bytes, answer.stream_hash):
            self._node.world.chaos.noticed("stream refused")
            at.changed.set()
            return [] if place in at.streams else [MaskedEvent(*at.where, StreamFailed(*place), combiner)]
        at.streams[place] = digest
        return [MaskedEvent(*at.where, StreamStored(*place), combiner, client)]

    # ---- what is said to members

    def ask_to_open(self, at: AttemptAtHand, opening: OpenSum2, clients: Iterable[ClientId] | None = None) -> None:
        """Ask a cell's committee, or these of it, to open its set; always in the same words."""
        cell = at.cell_of(opening.ctx)
        assert cell is not None
        asked = members_of(cell) if clients is None else tuple(clients)
        word = Included(self._node.speaker.sign(opening), cell.rows)
        if not self._node.world.chaos.happens("members shown two sets"):
            self._node.say(asked, word)
            return
        # What nobody but a reducer that lies does: some members are shown a set that lacks a client.
        others = [member for member in asked if self._node.world.rng.random() < 0.5]
        self._node.say([member for member in asked if member not in others], word)
        self._node.say(others, _with_one_less(word, self._node))

    def ask_to_abort(self, at: AttemptAtHand, reason: str) -> None:
        """Ask the committees of sets that are not opened to erase their keys."""
        for cell in at.attempt.cells:
            if cell.ctx is not None and cell.ctx not in at.attempt.opening:
                self._node.say(members_of(cell), AbortWanted(cell.ctx, as_line(reason)))

    def came(self, clients: frozenset[ClientId]) -> None:
        """Say again what clients that have just attached may have missed."""
        for at in self._all():
            for cell in at.attempt.cells:
                if cell.ctx is not None and not clients.isdisjoint(_assigned(cell)):
                    self._say_again(at, cell, cell.ctx, clients)

    def _say_again(self, at: AttemptAtHand, cell: Cell, ctx: bytes, clients: frozenset[ClientId]) -> None:
        members = [client for client in members_of(cell) if client in clients]
        stage = at.attempt.stage
        if stage == "running" and cell.included_hash is not None and not cell.out:
            silent = [client for client in members if bytes.fromhex(client) not in cell.answers]
            self.ask_to_open(at, OpenSum2(ctx, cell.included_hash, len(cell.rows)), silent)
        if stage in {"running", "opening"}:
            wanted = {ClientId(member.hex()) for of, member in at.asked - at.streams.keys() if of == ctx}
            self._node.say([client for client in members if client in wanted], StreamWanted(ctx))
        if stage == "given up" and ctx not in at.attempt.opening:
            asked = [client for client in members if bytes.fromhex(client) not in cell.aborted]
            self._node.say(asked, AbortWanted(ctx, "the attempt has ended"))
            for abort in cell.aborted.values():
                self._node.say(clients & _assigned(cell), abort)
        for void in voids_of(at.attempt):
            if void.ctx == ctx:
                self._node.say(clients & _assigned(cell), self._node.speaker.sign(void))

    # ---- links

    def _send_links(self, client: ClientId, word: LinksWanted) -> Work:
        yield self._node.world.chaos.store_s()
        store = self._node.world.store
        if SessionId(word.session.hex()) != store.terms.session:
            return
        rows = [store.rounds[number] for number in sorted(store.rounds) if number >= word.from_round]
        links = tuple(row.link for row in rows if row.status == "committed" and row.link is not None)
        self._node.say([client], Links(word.session, links[:MOST_LINKS]))


def _with_one_less(word: Included, node: "MaskedReducerNode") -> Included:
    opening = OpenSum2.decode(word.opening.body)
    left_out = node.world.rng.choice(word.rows)
    rows = tuple(row for row in word.rows if row != left_out)
    lie = OpenSum2(opening.ctx, included_hash(opening.ctx, rows), len(rows))
    node.world.invariants.servers.lied(lie)
    return Included(node.speaker.sign(lie), rows)


def _assigned(cell: Cell) -> frozenset[ClientId]:
    return frozenset(ClientId(client.hex()) for client in cell.assigned)


def _check_assigned(members: Iterable[Member], cell: Cell) -> None:
    for member in members:
        client = member.client.client_id
        if client not in cell.assigned:
            raise BadCommittee(client.hex()[:16], "has no ticket for this cell")
