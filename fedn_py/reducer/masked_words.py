"""What is said between the reducer and the clients of masked cells, through whatever combiner they are attached to.

Words of members become events of their attempt's machine, or are passed on to those whom they are for; what a client
that comes back may have missed is said to it again. Nothing is decided here.
"""

import asyncio
import contextlib
from collections.abc import Iterable

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, CombinerName, Digest, InstanceId, SessionId
from fedn_py.protocol import messages
from fedn_py.protocol.masked.committee import BadCommittee, Member, check_committee
from fedn_py.protocol.masked.contexts import WrongContext
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
from fedn_py.protocol.masked.round_messages import Abort, Answer, BeaconLink, CellClosed, Echo, Included, OpenSum2
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
from fedn_py.protocol.reducer_work import Effect, Event, Reducer
from fedn_py.reducer.attempts import AttemptAtHand, Attempts, members_of
from fedn_py.reducer.cell_commits import stream_within_s
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.masked_documents import bytes_of
from fedn_py.reducer.masking_credentials import MaskingCredentials
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.records import RoundRecord, round_key
from fedn_py.reducer.roster import Roster
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.store.ports import ObjectCorrupt, ObjectMissing, Objects

_log = logger("fedn_py.reducer")


class TooLate(PeerFault):
    """A word is of a cell that is not at hand: of an earlier round, or of none."""

    def __init__(self) -> None:
        super().__init__("the cell is not of the round at hand", remedy="Nothing is to be done.")


class NoStream(PeerFault):
    """A member's sealed stream is not in the store, or is not what its answer names."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the sealed stream is refused: {why}", remedy="Another replica of the slot is asked.")


class MaskedWords:
    """Hears and says the words of masked rounds."""

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        events: EventLog,
        *,
        attempts: Attempts,
        patience: Patience,
        credentials: MaskingCredentials,
        roster: Roster,
        mailbox: Mailbox[Reducer, Event, Effect],
    ) -> None:
        self._ledger = ledger
        self._objects = objects
        self._events = events
        self._attempts = attempts
        self._patience = patience
        self._credentials = credentials
        self._roster = roster
        self._mailbox = mailbox
        self._linking: set[ClientId] = set()

    # ---- combiners

    def committee_formed(self, name: CombinerName, said: messages.CommitteeFormed) -> None:
        """Look at a cell's committee as its clients do; one that they would refuse ends the cell."""
        at, cell = self._cell_at(name, said.generation)
        if at is None or cell is None:
            return self._tell_refused(name, None, WrongContext("committee"))
        terms = at.terms[name]
        try:
            committee = check_committee(
                said.committee,
                terms.ctx0,
                terms.order,
                terms.plan.beacon,
                self._credentials.chains,
                standing=(self._credentials.policy, self._credentials.now_s),
            )
            _check_assigned(committee.members, cell)
        except PeerFault as fault:
            self._tell_refused(name, None, fault)
            reason = f"{fault.code}: {fault.message}"
            return self._post(at, CellLost(cell.cell, cell.generation, reason), name)
        if cell.ctx is None:
            at.committees[name] = said.committee
        return self._post(at, CommitteeFormed(cell.cell, cell.generation, committee), name)

    def confirm_committee(self, at: AttemptAtHand, cell: bytes, ctx: bytes) -> None:
        """Tell the combiner of a cell that its committee is stored; one that is away says its committee again."""
        name = next(name for name, terms in at.terms.items() if terms.order.cell == cell)
        entry = self._roster.combiners().get(name)
        if entry is not None:
            self._roster.send(name, entry.hello.instance, messages.CommitteeStored(StoredCommittee(ctx)))

    def partial_arrived(self, name: CombinerName, instance: InstanceId, said: messages.MaskedPartial) -> None:
        """Take a combiner's answer to its order."""
        at, cell = self._cell_at(name, said.generation)
        if at is not None and cell is not None and (cell.included_hash is None or name not in at.partials):
            if _is_of(cell, said):
                at.partials[name] = said
            if said.closed is not None:
                with contextlib.suppress(PeerFault):  # the machine refuses it by name
                    at.strays.add(Digest(read_signed(said.closed, CellClosed).partial_sha256.hex()))
        self._mailbox.post(MaskedPartialArrived(name, instance, said))

    def _cell_at(self, name: CombinerName, generation: int) -> tuple[AttemptAtHand | None, Cell | None]:
        for at in self._attempts.all():
            cell = at.cell_at(name)
            if cell is not None and cell.generation == generation % 2**32:
                return at, cell
        return None, None

    # ---- clients

    def heard(self, combiner: CombinerName, client: ClientId, word: WordFromClient) -> None:
        """Take what a client said and a combiner passed on."""
        try:
            self._take(combiner, client, word)
        except TooLate as late:  # replicas that answer after the commit are an everyday thing
            _log.info(
                "a word is passed over", client=self._roster.name_of(client), fault=late.code, reason=late.message
            )
        except PeerFault as fault:
            self._tell_refused(combiner, client, fault)

    def _take(self, combiner: CombinerName, client: ClientId, word: WordFromClient) -> None:
        match word:
            case Signed(said=Echo.kind):
                _, cell = self._cell_of(read_signed(word, Echo).ctx, word)
                self._roster.say([one for one in members_of(cell) if one != client], word)
            case Signed(said=Answer.kind):
                at, _ = self._cell_of(read_signed(word, Answer).ctx, word)
                self._post(at, AnswerArrived(word, stored=False), combiner, client)
            case Signed(said=Abort.kind):
                at, cell = self._cell_of(read_signed(word, Abort).ctx, word)
                self._post(at, AbortArrived(word), combiner, client)
                self._roster.say([one for one in _assigned(cell) if one != client], word)
            case StreamSent():
                self._stream_sent(combiner, client, word)
            case LinksWanted():
                self._links_wanted(client, word)
            case _:
                raise WrongContext(type(word).__name__)

    def _cell_of(self, ctx: bytes, signed: Signed) -> tuple[AttemptAtHand, Cell]:
        """Return the cell whose member says something; raises WrongContext for a stranger's words."""
        found = self._with_ctx(ctx)
        if all(seat.client_key != signed.signer for seat in found[1].seats):
            raise WrongContext(signed.said)
        return found

    def _with_ctx(self, ctx: bytes) -> tuple[AttemptAtHand, Cell]:
        found = self._attempts.with_ctx(ctx)
        if found is None:
            raise TooLate
        return found

    def _post(
        self, at: AttemptAtHand, event: OpeningEvent, combiner: CombinerName, client: ClientId | None = None
    ) -> None:
        self._mailbox.post(MaskedEvent(*at.where, event, combiner, client))

    def _tell_refused(self, combiner: CombinerName, client: ClientId | None, fault: FednError) -> None:
        who = f"combiner {combiner}" if client is None else f"{self._roster.name_of(client)}, through {combiner},"
        text = f"what {who} said was refused: {fault.code}: {fault.message}"
        self._events.tell("word.refused", text, "warning", combiner=combiner)

    # ---- streams

    def ask_stream(self, at: AttemptAtHand, ctx: bytes, member: bytes) -> None:
        """Have a member send the sealed stream of its answer; another replica is asked when it does not."""
        at.asked.add((ctx, member))
        self._roster.say([ClientId(member.hex())], StreamWanted(ctx))
        self._mailbox.spawn(self._await_stream(at, ctx, member))

    async def _await_stream(self, at: AttemptAtHand, ctx: bytes, member: bytes) -> list[Event]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(stream_within_s(at)):
                while (ctx, member) not in at.streams and at.attempt.stage == "running":
                    at.changed.clear()
                    await at.changed.wait()
        cell = at.cell_of(ctx)
        if cell is None or (ctx, member) in at.streams or at.attempt.stage != "running":
            return []
        slot = next(seat.slot for seat in cell.seats if seat.client_id == member)
        others = {seat.client_id for seat in cell.seats if seat.slot == slot} & cell.answers.keys() - {member}
        # With nobody to ask instead it may yet come, until the time for answers is over.
        return [MaskedEvent(*at.where, StreamFailed(ctx, member))] if others - cell.failed else []

    def _stream_sent(self, combiner: CombinerName, client: ClientId, word: StreamSent) -> None:
        found, member = self._with_ctx(word.ctx), bytes.fromhex(client)
        if (word.ctx, member) not in found[0].asked or member not in found[1].answers:
            raise WrongContext(StreamSent.kind)
        if found[0].attempt.stage in {"running", "opening"}:
            self._mailbox.spawn(self._look_at_stream(found[0], combiner, client, word))

    async def _look_at_stream(
        self, at: AttemptAtHand, combiner: CombinerName, client: ClientId, word: StreamSent
    ) -> list[Event]:
        member, digest = bytes.fromhex(client), Digest(word.sha256.hex())
        place = (word.ctx, member)
        cell = at.cell_of(word.ctx)
        assert cell is not None
        answer = read_signed(cell.answers[member], Answer)
        try:
            await self._patience.until_done(lambda: self._check_stream(word, answer))
        except (NoStream, ObjectMissing, ObjectCorrupt) as fault:
            self._tell_refused(combiner, client, fault)
            at.strays.add(digest)
            at.changed.set()
            return [] if place in at.streams else [MaskedEvent(*at.where, StreamFailed(word.ctx, member), combiner)]
        at.streams[place] = digest
        at.changed.set()
        return [MaskedEvent(*at.where, StreamStored(word.ctx, member), combiner, client)]

    async def _check_stream(self, word: StreamSent, answer: Answer) -> None:
        digest = Digest(word.sha256.hex())
        stat = await self._objects.stat(digest)
        if (stat.size, word.size) != (answer.stream_bytes, answer.stream_bytes):
            raise NoStream(f"it has {stat.size} bytes, said to be {word.size}, of {answer.stream_bytes}")
        if word.sha256 != answer.stream_hash:
            raise NoStream("its hash is not the one that its answer names")

    # ---- what is said to members

    def ask_to_open(self, at: AttemptAtHand, opening: OpenSum2, clients: Iterable[ClientId] | None = None) -> None:
        """Ask a cell's committee, or these of it, to open its set; always in the same words."""
        cell = at.cell_of(opening.ctx)
        assert cell is not None
        asked = members_of(cell) if clients is None else tuple(clients)
        self._roster.say(asked, Included(self._credentials.sign(opening), cell.rows))

    def ask_to_abort(self, at: AttemptAtHand, reason: str) -> None:
        """Ask the committees of sets that are not opened to erase their keys."""
        for cell in at.attempt.cells:
            if cell.ctx is not None and cell.ctx not in at.attempt.opening:
                self._roster.say(members_of(cell), AbortWanted(cell.ctx, as_line(reason)))

    def came(self, clients: frozenset[ClientId]) -> None:
        """Say again what clients that have just attached may have missed."""
        for at in self._attempts.all():
            for cell in at.attempt.cells:
                if cell.ctx is not None and not clients.isdisjoint(_assigned(cell)):
                    self._say_again(at, cell, cell.ctx, clients)

    def _say_again(self, at: AttemptAtHand, cell: Cell, ctx: bytes, clients: frozenset[ClientId]) -> None:
        members = [client for client in members_of(cell) if client in clients]
        stage = at.attempt.stage
        if stage == "running" and cell.included_hash is not None and not cell.out:
            # Those who have answered too: others may lack their echo.
            self.ask_to_open(at, OpenSum2(ctx, cell.included_hash, len(cell.rows)), members)
        if stage in {"running", "opening"}:
            wanted = {ClientId(member.hex()) for of, member in at.asked - at.streams.keys() if of == ctx}
            self._roster.say([client for client in members if client in wanted], StreamWanted(ctx))
        if stage == "given up" and ctx not in at.attempt.opening:
            asked = [client for client in members if bytes.fromhex(client) not in cell.aborted]
            self._roster.say(asked, AbortWanted(ctx, "the attempt has ended"))
            for abort in cell.aborted.values():  # a client that lacks one of them sits out
                self._roster.say(clients & _assigned(cell), abort)
        for void in voids_of(at.attempt):
            if void.ctx == ctx:
                self._roster.say(clients & _assigned(cell), self._credentials.sign(void))

    # ---- links of rounds that a client missed

    def _links_wanted(self, client: ClientId, word: LinksWanted) -> None:
        if client not in self._linking:  # it asks again until it has them
            self._linking.add(client)
            self._mailbox.spawn(self._send_links(client, word))

    async def _send_links(self, client: ClientId, word: LinksWanted) -> list[Event]:
        try:
            session = SessionId(word.session.hex())
            before = round_key(session, word.from_round - 1) if word.from_round > 1 else None
            found = await self._patience.until_done(
                lambda: self._ledger.find(
                    "rounds",
                    RoundRecord,
                    {"session": session, "status": "committed"},
                    limit=MOST_LINKS,
                    after=before,
                )
            )
            links = tuple(BeaconLink.decode(bytes_of(record.document.link)) for record in found if record.document)
            self._roster.say([client], Links(word.session, links))
        finally:
            self._linking.discard(client)
        return []


def _assigned(cell: Cell) -> frozenset[ClientId]:
    return frozenset(ClientId(client.hex()) for client in cell.assigned)


def _is_of(cell: Cell, said: messages.MaskedPartial) -> bool:
    """Say whether an answer is by the cell's own combiner and of this cell; of another one nothing is kept."""
    if said.closed is None:
        return True
    try:
        closed = read_signed(said.closed, CellClosed, signer=cell.combiner)
        return closed.ctx == cell.ctx and cell.rows in ((), closed.rows)
    except PeerFault:
        return False


def _check_assigned(members: Iterable[Member], cell: Cell) -> None:
    for member in members:
        client = member.client.client_id
        if client not in cell.assigned:
            raise BadCommittee(client.hex()[:16], "has no ticket for this cell")
