"""Performs what the reducer's machine asks for: writes rounds down, sends orders, commits models, tells people.

Everything the machine waits for is written before it is sent. While a store is away the work waits (``Patience``);
nothing is lost and nothing half done.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fedn_py.aggregation.metrics import InvalidMetrics
from fedn_py.errors import FednError
from fedn_py.identity import CombinerName, Digest
from fedn_py.protocol.masked_rounds_work import MaskedEffect, PlanMasked
from fedn_py.protocol.messages import CellOrder, PartialAggregate
from fedn_py.protocol.plain_cells import excluded_of
from fedn_py.protocol.reducer import BY_OPERATOR
from fedn_py.protocol.reducer_terms import each, with_limits
from fedn_py.protocol.reducer_work import (
    CloseFailedAttempt,
    CommitRound,
    Committing,
    Effect,
    Event,
    ExpectCombiner,
    ExtendAttempt,
    MoveClients,
    OpenAttempt,
    RecordChange,
    RecordIntent,
    RecordLimits,
    RecordNewWork,
    RecordSession,
    RecordValidation,
    Reducer,
    RoundNotSaved,
    RoundSaved,
    SendCancel,
    SendOrder,
    TellCommitted,
    TellCommittedAgain,
    TellRefused,
    TellWaiting,
    Updating,
)
from fedn_py.reducer.event_log import EventLog, Severity
from fedn_py.reducer.ledger import Ledger, Superseded
from fedn_py.reducer.masked_rounds import MaskedRounds
from fedn_py.reducer.masked_sessions import MaskingWasSetUp
from fedn_py.reducer.merging import next_model
from fedn_py.reducer.naming import is_named, look_after
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.phase_times import PhaseTimes
from fedn_py.reducer.records import (
    FailedAttempt,
    IncludedClient,
    Measured,
    RoundRecord,
    SessionRecord,
    round_key,
    with_failure,
)
from fedn_py.reducer.roster import Roster
from fedn_py.reducer.round_records import (
    CommittedElsewhere,
    measured,
    named,
    ordered,
    tell_commit,
    tell_excluded,
    tell_started,
    write_attempt,
)
from fedn_py.reducer.session_limits import told
from fedn_py.reducer.token_book import now_ms
from fedn_py.reducer.validations import means, validation_metrics
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.store.ports import Objects, ObjectStat


class Rounds:
    """The shell around the reducer's machine.

    Args:
        scratch: folder for the files of a merge.
        clock: seconds since 1970, for people; no decision hangs on it.
    """

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        events: EventLog,
        scratch: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._objects = objects
        self._events = events
        self._scratch = scratch
        self._clock = clock
        self.patience = Patience(events)
        self.phases = PhaseTimes(clock)
        self._roster: Roster | None = None
        self._mailbox: Mailbox[Reducer, Event, Effect] | None = None
        self._masked: MaskedRounds | None = None
        self._naming: Digest | None = None

    def attach(
        self, roster: Roster, mailbox: Mailbox[Reducer, Event, Effect], masked: MaskedRounds | None = None
    ) -> None:
        """Give the shell what it needs and what needs it; without ``masked`` it runs plain rounds only."""
        self._roster, self._mailbox, self._masked = roster, mailbox, masked

    @property
    def _network(self) -> Roster:
        assert self._roster is not None
        return self._roster

    async def perform(self, effect: Effect) -> Iterable[Event] | None:
        """Do one effect."""
        match effect:
            case OpenAttempt():
                await self.patience.until_done(lambda: self._open_attempt(effect))
            case ExtendAttempt():
                await self.patience.until_done(lambda: self._extend_attempt(effect))
            case ExpectCombiner(combiner, instance):
                self._network.expect(combiner, instance)
            case SendOrder(combiner, instance, order):
                if isinstance(order, CellOrder) and order.plan.masking != "none":
                    order = self._masked_rounds.order(combiner, order)
                elif self._masked is not None:
                    order = self._masked.plain_order(order)
                self._network.send(combiner, instance, order)
            case PlanMasked():
                return await self._masked_rounds.plan(effect)
            case MaskedEffect():
                return await self._masked_rounds.perform(effect)
            case MoveClients():
                self._move(effect)
            case SendCancel(combiner, instance, cancelled):
                self._network.send(combiner, instance, cancelled)
            case CommitRound():
                assert self._mailbox is not None
                self._mailbox.spawn(self._commit(effect))
            case CloseFailedAttempt():
                await self.patience.until_done(lambda: self._close_failed(effect))
            case TellCommitted(committed):
                self._network.send_all(committed)
            case TellCommittedAgain(combiner, instance, committed):
                self._network.send(combiner, instance, committed)
            case RecordValidation():
                await self.patience.until_done(lambda: self._record_validation(effect))
            case RecordIntent():
                await self.patience.until_done(lambda: self._record_intent(effect))
            case RecordChange():
                await self.patience.until_done(lambda: self._record_change(effect))
            case RecordLimits():
                await self.patience.until_done(lambda: self._record_limits(effect))
            case RecordSession():
                await self.patience.until_done(lambda: self._record_session(effect))
            case RecordNewWork():
                await self.patience.until_done(lambda: self._record_new_work(effect))
            case TellWaiting(session, number, reason):
                self._events.tell(
                    "round.waiting", f"round {number} waits: {reason}", session=session, round=str(number)
                )
            case TellRefused():
                self._tell_refused(effect)
        return None

    @property
    def _masked_rounds(self) -> MaskedRounds:
        if self._masked is None:
            raise MaskingWasSetUp
        return self._masked

    def _tell_refused(self, effect: TellRefused) -> None:
        combiner = effect.combiner
        if effect.client is None:
            text = f"the answer of combiner {combiner} was refused: {effect.reason}"
            self._events.tell("partial.refused", text, "error", combiner=combiner)
        else:
            name = self._network.name_of(effect.client)
            text = f"what client {name} said, through combiner {combiner}, was refused: {effect.reason}"
            self._events.tell("word.refused", text, "warning", client=name, combiner=combiner)

    def in_use(self) -> set[Digest]:
        """Return what no sweep may take though no document may name it yet: sums that came, a model to be committed."""
        assert self._mailbox is not None
        found = self._masked.in_use() if self._masked is not None else set()
        if self._naming is not None:
            found.add(self._naming)
        work = self._mailbox.state.work
        if isinstance(work, Updating | Committing):
            sums = (cell.partial.sum_object for _, cell in each(work.cells) if cell.partial is not None)
            found.update(digest for digest in sums if digest is not None)
        return found

    # ---- an attempt begins and fails

    def _move(self, effect: MoveClients) -> None:
        self._network.move(effect.combiner, effect.clients, effect.targets)
        text = f"{len(effect.clients)} clients of combiner {effect.combiner} are sent elsewhere: {effect.reason}"
        self._events.tell("cell.too_small", text, "warning", combiner=effect.combiner)

    async def _open_attempt(self, effect: OpenAttempt) -> None:
        plan, now = effect.plan, self._clock()
        cells = ordered(effect.cells)
        fresh = RoundRecord(plan, "running", effect.generation, cells, started=now, attempt_started=now)
        await write_attempt(self._ledger, fresh)
        tell_started(self._events, fresh)

    async def _extend_attempt(self, effect: ExtendAttempt) -> None:
        plan, cells = effect.plan, ordered(effect.cells)

        def extended(record: RoundRecord) -> RoundRecord:
            if record.plan != plan or record.status != "running":
                raise CommittedElsewhere(plan)
            return replace(record, cells=cells, generation=effect.generation)

        key = round_key(plan.session, plan.round_number)
        before = await self._ledger.get("rounds", key, RoundRecord)
        record = await self._ledger.change("rounds", key, RoundRecord, extended)
        known = {cell.generation for cell in before.cells} if before is not None else set()
        for cell in record.cells:
            if cell.generation not in known:
                text = f"{len(cell.clients)} clients of a lost combiner are asked again at combiner {cell.combiner}"
                where = {"session": plan.session, "round": str(plan.round_number)}
                self._events.tell("cell.ordered_again", text, "warning", combiner=cell.combiner, **where)

    async def _close_failed(self, effect: CloseFailedAttempt) -> None:
        plan = effect.plan
        failure = FailedAttempt(plan.attempt, effect.reason, self._clock())
        excluded = named(effect.excluded, self._network.name_of)

        def failed(record: RoundRecord) -> RoundRecord:
            if record.status == "committed":
                raise CommittedElsewhere(plan)
            already = any(known.attempt == plan.attempt for known in record.failures)
            phases = self.phases.of(record, failure.ended)
            return record if already else replace(with_failure(record, failure, excluded), phases=phases)

        key = round_key(plan.session, plan.round_number)
        await self._ledger.change("rounds", key, RoundRecord, failed, status="failed")
        where = {"session": plan.session, "round": str(plan.round_number)}
        tell_excluded(self._events, excluded, where)
        text = f"round {plan.round_number}, attempt {plan.attempt} failed: {effect.reason}"
        self._events.tell("round.failed", text, "error", **where)

    # ---- the commit

    async def _commit(self, effect: CommitRound) -> list[Event]:
        plan = effect.plan
        attempt = (plan.session, plan.round_number, plan.attempt)
        partials = [(name, cell.partial) for name, cell in each(effect.cells) if cell.partial is not None]
        summed = [partial for _, partial in partials if partial.sum_object is not None]
        digests = [partial.sum_object for partial in summed if partial.sum_object is not None]
        weights = [partial.weight for partial in summed]
        try:

            async def store() -> ObjectStat:
                return await next_model(self._objects, plan.base_model, digests, weights, self._scratch)

            model = await self.patience.until_done(store)
            self._naming = model.digest
            training = measured([partial.training_metrics for _, partial in partials], self._network.name_of)
            now = self._clock()  # once: a write that is repeated is the same write
            record = await self.patience.until_done(lambda: self._write_commit(effect, model, partials, training, now))
        except (Superseded, CommittedElsewhere):
            raise  # this reducer is not the one that decides here any more
        except FednError as fault:
            self._naming = None
            await self._drop(digests)
            return [RoundNotSaved(*attempt, reason=f"{fault.code}: {fault.message}")]
        # What it raises ends this reducer: the round is committed, and nobody is told of a model that is not there.
        await self.patience.until_done(lambda: look_after(self._objects, model.digest, store))
        self._naming = None
        await self._drop(digests)
        tell_commit(self._events, record)
        return [RoundSaved(*attempt, model=model.digest)]

    async def _write_commit(
        self,
        effect: CommitRound,
        model: ObjectStat,
        partials: Sequence[tuple[CombinerName, PartialAggregate]],
        training: Measured,
        now: float,
    ) -> RoundRecord:
        plan = effect.plan
        included = tuple(
            IncludedClient(c.client, self._network.name_of(c.client), combiner, c.samples, c.update_sha256)
            for combiner, partial in sorted(partials, key=lambda told: told[0])
            for c in partial.included
        )
        excluded = named(excluded_of(effect.cells), self._network.name_of)

        def committed(record: RoundRecord) -> RoundRecord:
            if record.plan != plan or (record.status == "committed" and record.model != model.digest):
                raise CommittedElsewhere(plan)
            if record.status == "committed":
                return record  # written before, and the answer was lost
            return replace(
                record,
                status="committed",
                ended=now,
                seconds=now - record.attempt_started,
                model=model.digest,
                model_size=model.size,
                samples=sum(client.samples for client in included),
                included=included,
                excluded=excluded,
                training=replace(training, clients=len(included)),
                phases=self.phases.of(record, now),
            )

        key = round_key(plan.session, plan.round_number)
        return await self._ledger.change(
            "rounds", key, RoundRecord, committed, model=model.digest, status="committed", created=now_ms(now)
        )

    async def _drop(self, digests: Sequence[Digest]) -> None:
        """Remove the partial aggregates of an attempt that has ended; what stays behind takes room and no more."""
        for digest in digests:
            try:
                if not await is_named(self._ledger, digest):  # a combiner may name whatever it likes
                    await self._objects.delete(digest)
            except FednError as fault:
                text = f"a partial aggregate could not be removed: {fault.message}"
                self._events.tell("object.kept", text, "warning", object=digest)

    # ---- after it

    async def _record_validation(self, effect: RecordValidation) -> None:
        where = {"session": effect.session, "round": str(effect.round_number)}
        try:
            result = measured([report.metrics for report in effect.reports], self._network.name_of)
        except InvalidMetrics as fault:
            self._events.tell("validation.refused", fault.message, "error", **where)
            return
        result = replace(
            result,
            clients=sum(report.validated for report in effect.reports),
            samples=sum(report.samples for report in effect.reports),
            excluded=named(tuple(e for report in effect.reports for e in report.excluded), self._network.name_of),
        )
        key = round_key(effect.session, effect.round_number)

        def validated(record: RoundRecord) -> RoundRecord:
            return replace(record, validation=result, phases=self.phases.of(record))

        record = await self._ledger.change("rounds", key, RoundRecord, validated)
        shown = means(validation_metrics(record))
        values = ", ".join(f"{name} {value:.4f}" for name, value in shown.items()) or "no metrics"
        text = f"round {effect.round_number} validated on {result.clients} clients: {values}"
        self._events.tell("round.validated", text, **where)
        for client in result.excluded:
            missing = f"{client.name} did not validate round {effect.round_number}: {client.reason}"
            self._events.tell("validation.missing", missing, "warning", client=client.name, **where)
        for combiner in effect.missing:
            missing = f"combiner {combiner} did not report the validation of round {effect.round_number}"
            self._events.tell("validation.missing", missing, "warning", combiner=combiner, **where)

    async def _record_new_work(self, effect: RecordNewWork) -> None:
        def renewed(record: SessionRecord) -> SessionRecord:
            return replace(record, terms=replace(record.terms, parameters=effect.parameters))

        await self._ledger.change("sessions", effect.session, SessionRecord, renewed)
        text = "the session does a new work on the same global model: its clients train anew, with another seed"
        self._events.tell("session.new_work", text, "warning", session=effect.session)

    async def _record_intent(self, effect: RecordIntent) -> None:
        def intended(record: SessionRecord) -> SessionRecord:
            return replace(record, intent=effect.intent)

        await self._ledger.change("sessions", effect.session, SessionRecord, intended)

    async def _record_change(self, effect: RecordChange) -> None:
        await self._ledger.change(
            "sessions", effect.session, SessionRecord, lambda record: replace(record, changed=effect.limits)
        )
        text = f"session changed, from its next attempt on: {told(effect.before, effect.limits)}"
        self._events.tell("session.changed", text, session=effect.session)

    async def _record_limits(self, effect: RecordLimits) -> None:
        def renewed(record: SessionRecord) -> SessionRecord:
            return replace(record, terms=with_limits(record.terms, effect.limits), changed=None)

        await self._ledger.change("sessions", effect.session, SessionRecord, renewed)

    async def _record_session(self, effect: RecordSession) -> None:
        await self._ledger.change(
            "sessions",
            effect.session,
            SessionRecord,
            lambda record: replace(record, status=effect.status, reason=effect.reason, intent="run"),
            status=effect.status,
        )
        if effect.status in {"finished", "stopped"}:
            self._network.end_moves()
        text = f"session {effect.status}" + (f": {effect.reason}" if effect.reason else "")
        severity: Severity = "warning" if effect.status == "paused" and effect.reason != BY_OPERATOR else "info"
        self._events.tell(f"session.{effect.status}", text, severity, session=effect.session)
