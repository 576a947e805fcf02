"""Opening the sums of an attempt and committing the model that they make.

The sets are fixed before anything here begins. A stream that is missing to tell which of two replicas is right is
asked for; who does not send it is left out of the question.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fedn_py.aggregation.metrics import InvalidMetrics
from fedn_py.errors import FednError
from fedn_py.identity import ClientId, Digest
from fedn_py.protocol.masked.contexts import encoding_of
from fedn_py.protocol.masked.opening_work import Cell, CellNotOpened, CellOpened
from fedn_py.protocol.masked.round_messages import Answer, BeaconLink, CommittedCell, RoundCommitted
from fedn_py.protocol.masked.signing import Signed, read_signed
from fedn_py.protocol.masked_rounds_work import MaskedEvent
from fedn_py.protocol.messages import Exclusion
from fedn_py.protocol.reducer_work import Event, RoundNotSaved, RoundSaved
from fedn_py.reducer.attempts import AttemptAtHand, Attempts
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger, Superseded
from fedn_py.reducer.masked_documents import body_text
from fedn_py.reducer.masking_credentials import MaskingCredentials
from fedn_py.reducer.naming import look_after
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.phase_times import PhaseTimes
from fedn_py.reducer.records import IncludedClient, Measured, RoundRecord
from fedn_py.reducer.round_records import CommittedElsewhere, Names, measured, named, tell_commit
from fedn_py.reducer.token_book import now_ms
from fedn_py.reducer.unmasking import CellToOpen, MaskedModel, OpenedCells, masked_model, open_cells
from fedn_py.store.ports import Objects, ObjectStat

STREAM_S = 30.0
_STREAM_BYTES_PER_S = 1e6

AskStream = Callable[[AttemptAtHand, bytes, bytes], None]


def stream_within_s(at: AttemptAtHand) -> float:
    """Return how long a member may take to send the stream that it is asked for."""
    return STREAM_S + 4 * at.attempt.n_words / _STREAM_BYTES_PER_S


class CellCommits:
    """Opens cells and commits rounds.

    Args:
        scratch: folder for masked sums and sealed streams at hand.
        name_of: what people call a client.
        ask_stream: has a member send its sealed stream.
        phases: when the round at hand went from phase to phase.
        clock: seconds since 1970, for people.
    """

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        events: EventLog,
        scratch: Path,
        *,
        attempts: Attempts,
        patience: Patience,
        credentials: MaskingCredentials,
        name_of: Names,
        ask_stream: AskStream,
        phases: PhaseTimes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._objects = objects
        self._events = events
        self._scratch = scratch
        self._attempts = attempts
        self._patience = patience
        self._credentials = credentials
        self._name_of = name_of
        self._ask_stream = ask_stream
        self._phases = phases
        self._clock = clock

    # ---- opening

    async def open(self, at: AttemptAtHand, ctxs: Sequence[bytes]) -> list[Event]:
        """Open these cells; returns what came of each."""
        try:
            at.opened = await self._opened(at, ctxs)
        except (Superseded, CommittedElsewhere):
            raise
        except FednError as fault:
            reason = f"{fault.code}: {fault.message}"
            return [MaskedEvent(*at.where, CellNotOpened(ctx, reason)) for ctx in ctxs]
        verdicts: list[Event] = []
        for ctx in ctxs:
            outcome = at.opened.outcomes[ctx]
            self._tell_wrong(at, outcome.wrong)
            if outcome.fault is None:
                verdicts.append(MaskedEvent(*at.where, CellOpened(ctx)))
            else:
                reason = f"{outcome.fault.code}: {outcome.fault.message}"
                verdicts.append(MaskedEvent(*at.where, CellNotOpened(ctx, reason)))
        return verdicts

    async def _opened(self, at: AttemptAtHand, ctxs: Sequence[bytes]) -> OpenedCells:
        """Open cells, with the streams that turn out to be wanted."""
        secret = await self._attempts.secret_of(at)
        encoding = encoding_of(at.plan_body)
        silent: frozenset[tuple[bytes, bytes]] = frozenset()
        asked: set[tuple[bytes, bytes]] = set()
        while True:
            cells = [_to_open(at, ctx, silent) for ctx in ctxs]
            opened = await self._patience.until_done(
                lambda cells=cells: open_cells(self._objects, cells, encoding, secret, self._scratch)  # type: ignore[misc]
            )
            wanted = {(ctx, member) for ctx in ctxs for member in opened.outcomes[ctx].wanted} - silent
            if not wanted:
                return opened
            del opened  # its total takes the room that the next one needs
            silent |= wanted & asked  # it came, and is wanted still: there is no use in it
            silent |= await self._still_missing(at, wanted - asked)
            asked |= wanted

    async def _still_missing(
        self, at: AttemptAtHand, wanted: set[tuple[bytes, bytes]]
    ) -> frozenset[tuple[bytes, bytes]]:
        """Ask for streams and wait for them; returns those that did not come."""
        for ctx, member in sorted(wanted):
            self._ask_stream(at, ctx, member)
        try:
            async with asyncio.timeout(stream_within_s(at)):
                while not wanted <= at.streams.keys():
                    at.changed.clear()
                    await at.changed.wait()
        except TimeoutError:
            pass
        return frozenset(wanted - at.streams.keys())

    def _tell_wrong(self, at: AttemptAtHand, wrong: frozenset[bytes]) -> None:
        for member in sorted(wrong):
            name = self._name_of(ClientId(member.hex()))
            text = (
                f"sum participant {name} answered round {at.attempt.round} differently than the other replica of its "
                "slot, and wrongly: ask the operator to look at this client"
            )
            self._events.tell("replica.disagrees", text, "error", client=name, session=at.session)

    # ---- the commit

    async def commit(self, at: AttemptAtHand, ctxs: Sequence[bytes], base: Digest) -> list[Event]:
        """Make the model of these cells and commit it; returns RoundSaved or RoundNotSaved."""
        try:
            if at.opened is None or at.opened.passed != frozenset(ctxs):
                at.opened = None  # its total takes the room that the next one needs
                at.opened = await self._opened(at, ctxs)
            opened, encoding = at.opened, encoding_of(at.plan_body)
            names = [metric.name for metric in at.plan_body.metrics]

            async def make() -> MaskedModel:
                return await masked_model(self._objects, base, opened, ctxs, encoding, names, self._scratch)

            async def store() -> ObjectStat:
                return (await make()).stat

            model = await self._patience.until_done(make)
            at.naming = model.stat.digest  # no sweep takes it until it is named
            training = self._training(at, model)
            now = self._clock()  # once: a write that is repeated is the same write
            record = await self._patience.until_done(lambda: self._write(at, ctxs, model, training, now))
        except (Superseded, CommittedElsewhere):
            raise  # this reducer is not the one that decides here any more
        except FednError as fault:
            at.naming = None
            return [RoundNotSaved(*at.where, reason=f"{fault.code}: {fault.message}")]
        # What it raises ends this reducer: the round is committed, and nobody is told of a model that is not there.
        await self._patience.until_done(lambda: look_after(self._objects, model.stat.digest, store))
        at.opened = at.naming = None
        tell_commit(self._events, record)
        return [RoundSaved(*at.where, model=model.stat.digest)]

    def _training(self, at: AttemptAtHand, model: MaskedModel) -> Measured:
        try:
            released = measured([partial.training_metrics for partial in at.partials.values()], self._name_of).by_client
        except InvalidMetrics as fault:
            self._events.tell("metrics.refused", fault.message, "warning", session=at.session)
            released = {}
        return Measured(samples=model.samples, means=dict(model.metrics), by_client=released, counts=dict(model.givers))

    async def _write(
        self, at: AttemptAtHand, ctxs: Sequence[bytes], model: MaskedModel, training: Measured, now: float
    ) -> RoundRecord:
        cells = sorted((cell for cell in at.attempt.cells if cell.ctx in ctxs), key=lambda cell: cell.cell)
        committed_cells = tuple(_committed(cell) for cell in cells)
        digest = model.stat.digest
        commit = self._credentials.sign(
            RoundCommitted(
                at.plan_body.session,
                at.attempt.round,
                at.attempt.attempt,
                bytes.fromhex(digest),
                committed_cells,
                at.plan_body.parent_commit,
            )
        )
        link = _link(at, cells[0], commit)
        included = self._included(at, cells)
        excluded = named(excluded_of(at, ctxs), self._name_of)

        def committed(record: RoundRecord) -> RoundRecord:
            mine = record.document is not None and record.plan.attempt == at.attempt.attempt
            if not mine or (record.status == "committed" and record.model != digest):
                raise CommittedElsewhere(record.plan)
            if record.status == "committed":
                return record  # written before, and the answer was lost
            assert record.document is not None
            return replace(
                record,
                status="committed",
                ended=now,
                seconds=now - record.attempt_started,
                model=digest,
                model_size=model.stat.size,
                samples=model.samples,
                included=included,
                excluded=excluded,
                training=replace(training, clients=len(included)),
                document=replace(record.document, commit=body_text(commit), link=body_text(link)),
                phases=self._phases.of(record, now),
            )

        return await self._ledger.change(
            "rounds", at.key, RoundRecord, committed, model=digest, status="committed", created=now_ms(now)
        )

    def _included(self, at: AttemptAtHand, cells: Sequence[Cell]) -> tuple[IncludedClient, ...]:
        return tuple(
            IncludedClient(
                client := ClientId(row.client_id.hex()),
                self._name_of(client),
                at.combiner_of(cell),
                0,
                Digest(row.header_hash.hex()),
            )
            for cell in cells
            for row in cell.rows
        )


def _to_open(at: AttemptAtHand, ctx: bytes, silent: frozenset[tuple[bytes, bytes]]) -> CellToOpen:
    cell = at.cell_of(ctx)
    assert cell is not None
    assert cell.included_hash is not None
    assert cell.partial_sha256 is not None
    return CellToOpen(
        ctx=ctx,
        included_hash=cell.included_hash,
        n=len(cell.rows),
        partial=Digest(cell.partial_sha256.hex()),
        answers={member: answer for member, answer in cell.answers.items() if (ctx, member) not in silent},
        streams={member: digest for (of, member), digest in at.streams.items() if of == ctx},
        mode=at.plan_body.mode,
    )


def _committed(cell: Cell) -> CommittedCell:
    assert cell.ctx is not None
    assert cell.included_hash is not None
    return CommittedCell(cell.cell, cell.ctx, cell.included_hash, len(cell.rows))


def _link(at: AttemptAtHand, beacon_cell: Cell, commit: Signed) -> BeaconLink:
    """Return what leads to the next round's beacon: all that the beacon cell's members revealed, or nothing."""
    combiner = at.combiner_of(beacon_cell)
    answers = [beacon_cell.answers.get(seat.client_id) for seat in beacon_cell.seats]
    nonces = tuple(read_signed(answer, Answer).nonce for answer in answers if answer is not None)
    return BeaconLink(
        round=at.attempt.round,
        attempt=at.attempt.attempt,
        policy_hash=at.plan_body.policy_hash,
        order=at.orders[combiner],
        commit=commit,
        rows=at.committees[combiner].rows,
        nonces=nonces if len(nonces) == len(beacon_cell.seats) else (),
    )


def excluded_of(at: AttemptAtHand, ctxs: Sequence[bytes]) -> tuple[Exclusion, ...]:
    """Return everybody of an attempt who is in no sum of these cells, with the reason."""
    found = list(at.left_out)
    for cell in at.attempt.cells:
        partial = at.partials.get(at.combiner_of(cell))
        said = partial.excluded if partial is not None else ()
        found += said
        if cell.ctx not in ctxs:
            known = {exclusion.client for exclusion in said}
            others = sorted(ClientId(one.hex()) for one in cell.assigned)
            found += [Exclusion(client, cell.out) for client in others if client not in known]
    return tuple(found)
