"""Masked attempts at the round at hand: in memory, and in the round's document, which is the truth.

Every change of an attempt is in the document before anything follows from it. The key that opens its sums is in the
document only wrapped, and once it was unset there it is nowhere.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedn_py.errors import OwnFault
from fedn_py.identity import ClientId, CombinerName, Digest, SessionId
from fedn_py.protocol.masked.contexts import CellTerms, cell_terms
from fedn_py.protocol.masked.opening_work import Attempt, Cell, CellSeat
from fedn_py.protocol.masked.round_messages import CommitteeBody, Plan
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.messages import Exclusion, MaskedPartial
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.masked_documents import (
    AttemptDocument,
    MaskedDocument,
    as_json,
    attempt_of,
    body_text,
    committee_of,
    signed_of,
)
from fedn_py.reducer.newest_attempt import NewestAttemptFile, newest
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.records import (
    MaskedCellRecord,
    MaskedRoundRecord,
    OrderedCell,
    RoundRecord,
    SumParticipant,
    round_key,
)
from fedn_py.reducer.round_records import CommittedElsewhere, Names, write_attempt
from fedn_py.reducer.state_key import StateKey
from fedn_py.reducer.unmasking import OpenedCells
from fedn_py.store.ports import StoreUnavailable


class SetChanged(OwnFault):
    """A document has another set for a cell than the one that would be written: it is never opened twice."""

    def __init__(self) -> None:
        super().__init__(
            "the set of a masked cell in its document is not the one at hand",
            remedy="Only one reducer may run on these stores; start this one again, and it goes on from what is there.",
        )


@dataclass(slots=True)
class AttemptAtHand:
    """One attempt, with what its machine does not hold.

    Attributes:
        attempt: as it was saved last.
        left_out: clients of cells that were not ordered.
        partials: what combiners said of their cells.
        streams: (ctx, member) to its sealed stream, stored and found to be what its answer names.
        asked: (ctx, member) of whom the stream was asked.
        strays: objects that somebody named for this attempt and that it has no use for.
        changed: set when a stream has come or will not, and when the attempt was saved.
        round_secret: what opens the answers; None once it is unset, or where it is still wrapped in the document.
        opened: what the last opening gave; never written anywhere.
        naming: the model that its commit is about to name.
    """

    session: SessionId
    plan: Signed
    orders: Mapping[CombinerName, Signed]
    terms: Mapping[CombinerName, CellTerms]
    attempt: Attempt
    left_out: tuple[Exclusion, ...] = ()
    committees: dict[CombinerName, CommitteeBody] = field(default_factory=dict)
    partials: dict[CombinerName, MaskedPartial] = field(default_factory=dict)
    streams: dict[tuple[bytes, bytes], Digest] = field(default_factory=dict)
    asked: set[tuple[bytes, bytes]] = field(default_factory=set)
    strays: set[Digest] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    round_secret: bytes | None = field(default=None, repr=False)
    opened: OpenedCells | None = None
    naming: Digest | None = None

    @property
    def key(self) -> str:
        """The key of the round's document."""
        return round_key(self.session, self.attempt.round)

    @property
    def where(self) -> tuple[SessionId, int, int]:
        """Session, round and attempt, as events and effects name it."""
        return self.session, self.attempt.round, self.attempt.attempt

    @property
    def plan_body(self) -> Plan:
        """What the plan says."""
        return next(iter(self.terms.values())).plan

    def combiner_of(self, cell: Cell) -> CombinerName:
        """Return the name of the combiner that was ordered a cell."""
        return next(name for name, terms in self.terms.items() if terms.order.cell == cell.cell)

    def cell_at(self, combiner: CombinerName) -> Cell | None:
        """Return the cell that a combiner was ordered, None where it has none."""
        terms = self.terms.get(combiner)
        if terms is None:
            return None
        return next((cell for cell in self.attempt.cells if cell.cell == terms.order.cell), None)

    def cell_of(self, ctx: bytes) -> Cell | None:
        """Return the cell with this context."""
        return next((cell for cell in self.attempt.cells if cell.ctx == ctx), None)

    def objects(self) -> set[Digest]:
        """Return the objects that serve this attempt alone: masked sums and sealed streams."""
        sums = {Digest(cell.partial_sha256.hex()) for cell in self.attempt.cells if cell.partial_sha256 is not None}
        return sums | set(self.streams.values()) | self.strays

    def in_use(self) -> set[Digest]:
        """Return the objects that are needed yet; none once its key is unset."""
        if self.attempt.key == "unset":
            return set()
        return self.objects() | ({self.naming} if self.naming is not None else set())

    def document(self) -> AttemptDocument:
        """Return the attempt as it is kept."""
        return AttemptDocument(
            number=self.attempt.attempt,
            attempt=as_json(self.attempt),
            plan=body_text(self.plan),
            orders={name: body_text(order) for name, order in self.orders.items()},
            committees={name: body_text(body) for name, body in self.committees.items()},
            streams={f"{ctx.hex()}/{member.hex()}": digest for (ctx, member), digest in self.streams.items()},
        )


def from_document(session: SessionId, deployment: bytes, kept: AttemptDocument) -> AttemptAtHand:
    """Return an attempt as it was kept; raises AttemptDamaged."""
    plan = signed_of(kept.plan)
    orders = {name: signed_of(order) for name, order in kept.orders.items()}
    streams = {}
    for place, digest in kept.streams.items():
        ctx, _, member = place.partition("/")
        streams[bytes.fromhex(ctx), bytes.fromhex(member)] = digest
    return AttemptAtHand(
        session=session,
        plan=plan,
        orders=orders,
        terms={name: cell_terms(deployment, plan.body, order.body) for name, order in orders.items()},
        attempt=attempt_of(kept),
        committees={name: committee_of(body) for name, body in kept.committees.items()},
        streams=streams,
    )


def members_of(cell: Cell) -> tuple[ClientId, ...]:
    """Return the clients of a cell's committee."""
    return tuple(client_of(seat) for seat in cell.seats)


def client_of(seat: CellSeat) -> ClientId:
    """Return who sits there."""
    return ClientId(seat.client_id.hex())


def seen_by_people(at: AttemptAtHand, name_of: Names) -> MaskedRoundRecord:
    """Return how an attempt hides its updates, as people see it."""
    orders = [terms.order for terms in at.terms.values()]
    cells = tuple(
        MaskedCellRecord(
            combiner=at.combiner_of(cell),
            included=len(cell.rows),
            members=tuple(
                SumParticipant(
                    client_of(seat), name_of(client_of(seat)), seat.slot, seat.replica, seat.client_id in cell.answers
                )
                for seat in cell.seats
            ),
            opened=cell.opened,
            out=cell.out,
        )
        for cell in at.attempt.cells
    )
    return MaskedRoundRecord(
        scheme="pet",
        k=min(order.k for order in orders),
        r=min(order.r for order in orders),
        g_min=min(order.g_min for order in orders),
        reopen=at.attempt.reopen,
        cells=cells,
    )


class Attempts:
    """The attempts at the round at hand.

    Args:
        newest_file: names the newest attempt on this reducer's own disk.
        deployment: of the network.
        name_of: what people call a client.
    """

    def __init__(
        self,
        ledger: Ledger,
        patience: Patience,
        state_key: StateKey,
        *,
        newest_file: NewestAttemptFile,
        deployment: bytes,
        name_of: Names,
    ) -> None:
        self._ledger = ledger
        self._patience = patience
        self._state_key = state_key
        self._newest_file = newest_file
        self._deployment = deployment
        self._name_of = name_of
        self._at_hand: dict[int, AttemptAtHand] = {}
        self._key = ""

    # ---- what is at hand

    def all(self) -> Sequence[AttemptAtHand]:
        """Return the attempts at the round at hand, the newest first."""
        return [self._at_hand[number] for number in sorted(self._at_hand, reverse=True)]

    def of(self, session: SessionId, round_number: int, number: int) -> AttemptAtHand | None:
        """Return one attempt."""
        if self._key != round_key(session, round_number):
            return None
        return self._at_hand.get(number)

    def with_ctx(self, ctx: bytes) -> tuple[AttemptAtHand, Cell] | None:
        """Return the attempt and the cell with a context."""
        found = ((at, at.cell_of(ctx)) for at in self.all())
        return next(((at, cell) for at, cell in found if cell is not None), None)

    async def needed(self, session: SessionId, round_number: int, number: int) -> AttemptAtHand:
        """Return one attempt, from its document where it is not at hand; raises CommittedElsewhere."""
        if self.of(session, round_number, number) is None:
            key = round_key(session, round_number)
            record = await self._patience.until_done(lambda: self._ledger.get("rounds", key, RoundRecord))
            assert record is not None
            self.restore(record)
            if self.of(session, round_number, number) is None:
                raise CommittedElsewhere(record.plan)
        at = self.of(session, round_number, number)
        assert at is not None
        return at

    def restore(self, record: RoundRecord) -> None:
        """Take up the attempts of a round that was found in the store; raises AttemptDamaged."""
        self._forget(round_key(record.plan.session, record.plan.round_number))
        for kept in record.document.attempts if record.document is not None else ():
            at = from_document(record.plan.session, self._deployment, kept)
            self._at_hand[kept.number] = at

    def _forget(self, key: str) -> None:
        if self._key != key:
            self._at_hand, self._key = {}, key

    # ---- what is written

    async def begin(
        self, at: AttemptAtHand, fresh: RoundRecord, round_secret: bytes, ordered: Iterable[OrderedCell]
    ) -> RoundRecord:
        """Write a new attempt down, and its key with it, wrapped; then name it as the newest one.

        Raises:
            CommittedElsewhere, KeyStillHeld: it may not begin.
        """
        document = MaskedDocument((at.document(),), self._state_key.wrap(round_secret))
        record = replace(fresh, cells=tuple(ordered), masked=seen_by_people(at, self._name_of), document=document)
        await self._patience.until_done(lambda: write_attempt(self._ledger, record))
        await self.name_newest(at)
        self._forget(at.key)
        at.round_secret = round_secret
        self._at_hand[at.attempt.attempt] = at
        return record

    async def name_newest(self, at: AttemptAtHand) -> None:
        """Have it on this reducer's own disk how far an attempt is: before it is ordered, and before it is opened."""
        named = newest(at.session, at.attempt, at.plan)
        await self._patience.until_done(lambda: self._newest_file.write(named))

    async def save(self, at: AttemptAtHand, attempt: Attempt) -> None:
        """Store an attempt as it now is, acknowledged; until then it is at hand as it was, for words are said of it.

        Raises:
            SetChanged: the document has another set.
            Superseded: another reducer has taken over.
        """
        after = replace(at, attempt=attempt)
        kept = after.document()

        def saved(record: RoundRecord) -> RoundRecord:
            document = record.document
            before = None if document is None else document.of(kept.number)
            if document is None or before is None:
                raise CommittedElsewhere(record.plan)
            _check_sets(before, kept)
            attempts = tuple(kept if one.number == kept.number else one for one in document.attempts)
            masked = seen_by_people(after, self._name_of) if record.plan.attempt == kept.number else record.masked
            return replace(record, masked=masked, document=replace(document, attempts=attempts))

        await self._patience.until_done(lambda: self._ledger.change("rounds", at.key, RoundRecord, saved))
        at.attempt = attempt
        at.changed.set()

    async def secret_of(self, at: AttemptAtHand) -> bytes:
        """Return what opens an attempt's answers.

        Raises:
            WrongStateKey: it cannot be unwrapped here.
            CommittedElsewhere: it is gone.
        """
        if at.round_secret is None:
            record = await self._patience.until_done(lambda: self._ledger.get("rounds", at.key, RoundRecord))
            assert record is not None
            if record.document is None or not record.document.round_key or record.plan.attempt != at.attempt.attempt:
                raise CommittedElsewhere(record.plan)
            at.round_secret = self._state_key.unwrap(record.document.round_key)
        return at.round_secret

    async def unset_key(self, at: AttemptAtHand) -> None:
        """Remove an attempt's key from here, from its document, which is read back, and from the store's own log."""
        at.round_secret = at.opened = None
        await self._patience.until_done(lambda: self._unset(at))

    async def _unset(self, at: AttemptAtHand) -> None:
        def unset(record: RoundRecord) -> RoundRecord:
            if record.document is None or record.plan.attempt != at.attempt.attempt:
                raise CommittedElsewhere(record.plan)
            return replace(record, document=replace(record.document, round_key=""))

        await self._ledger.change("rounds", at.key, RoundRecord, unset)
        read_back = await self._ledger.get("rounds", at.key, RoundRecord)
        if read_back is None or read_back.document is None or read_back.document.round_key:
            raise StoreUnavailable(
                "the key of a masked attempt is still in the store", remedy="Look at the store: it lost a write."
            )
        await self._ledger.forget()


def _check_sets(before: AttemptDocument, after: AttemptDocument) -> None:
    """Raise SetChanged where a set that was stored would become another one, or an opening would be forgotten.

    Documents are compared as they are written: to read all of one takes long where its sets are large.
    """
    try:
        sets, opening = _sets_of(before)
    except (KeyError, TypeError):
        attempt_of(before)  # raises what is wrong with it
        raise
    now, opening_now = _sets_of(after)
    for cell, (ctx, included_hash) in sets.items():
        if included_hash is not None and now.get(cell) != (ctx, included_hash):
            raise SetChanged
    if not opening <= opening_now:
        raise SetChanged


def _sets_of(document: AttemptDocument) -> tuple[dict[str, tuple[str | None, str | None]], frozenset[str]]:
    attempt = document.attempt
    sets = {cell["cell"]: (cell["ctx"], cell["included_hash"]) for cell in attempt["cells"]}
    return sets, frozenset(attempt["opening"])
