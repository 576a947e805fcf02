"""From what the reducer keeps and holds to what it answers with."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, Generation
from fedn_py.protocol.masked_rounds import ANSWER_MARGIN_S, SUM_S
from fedn_py.protocol.masked_rounds_work import Masked, Planning
from fedn_py.protocol.messages import RoundProgress
from fedn_py.protocol.reducer import BY_OPERATOR, retry_delay_s
from fedn_py.protocol.reducer_terms import with_limits
from fedn_py.protocol.reducer_work import (
    Committing,
    Failed,
    Gathering,
    Idle,
    Paused,
    Updating,
    Validating,
    Work,
)
from fedn_py.reducer.records import (
    EventRecord,
    MadeModel,
    MaskedCellRecord,
    MaskedRoundRecord,
    Measured,
    PackageRecord,
    PhaseRecord,
    RoundRecord,
    SeedModelRecord,
    SessionRecord,
    TokenKept,
)
from fedn_py.reducer.shown_events import EventView
from fedn_py.reducer.shown_measurements import MetricView
from fedn_py.reducer.shown_objects import ModelView, PackageView
from fedn_py.reducer.shown_rounds import (
    AskedView,
    CombinerProgressView,
    ContributorView,
    ExcludedView,
    MaskedCellView,
    PhaseView,
    RoundMaskingView,
    RoundView,
    SumParticipantView,
)
from fedn_py.reducer.shown_sessions import SessionOptions, SessionStatus, SessionView
from fedn_py.reducer.shown_tokens import TokenView
from fedn_py.reducer.validations import means, training_metrics, validation_metrics

Names = Callable[[ClientId], ClientName]


class PhaseClock(Protocol):
    """When the phase at hand began, and an earlier one of the same attempt; seconds since 1970."""

    @property
    def since(self) -> float:
        """Return when the phase at hand began."""
        ...

    def began(self, phase: str) -> float:
        """Return when a phase of the attempt at hand began, or the one at hand where that was not seen."""
        ...


def phase_of(work: Work) -> str:
    """Return the name of the phase that the machine is in."""
    match work:
        case Idle():
            return "idle"
        case Gathering():
            return "waiting"
        case Planning():
            return "planning"
        case Masked():
            return work.phase
        case Updating():
            return "updating"
        case Committing():
            return "committing"
        case Validating():
            return "validating"
        case Failed():
            return "failed"
        case Paused():
            return "paused"


def waiting_of(work: Work) -> str:
    """Return why nothing goes on, empty when it does."""
    match work:
        case Gathering(reason=reason) | Paused(reason=reason):
            return reason
        case Failed(reason=reason):
            return f"the next attempt begins soon; the last one failed: {reason}"
        case _:
            return ""


def deadline_of(work: Work, phases: PhaseClock) -> float | None:
    """Return when the phase at hand ends at the latest; None where nobody can say.

    Timers of the machine run from where the phase began, with its margin for answers on their way.
    """
    match work:
        case Updating(plan=plan):
            return phases.since + plan.update_timeout_s + ANSWER_MARGIN_S
        case Masked(plan=plan) if work.phase in {"sum", "updating"}:
            return phases.began("sum") + SUM_S + plan.update_timeout_s + ANSWER_MARGIN_S
        case Validating(progress=progress, waiting=waiting) if waiting:
            return phases.since + progress.terms.validation_timeout_s + ANSWER_MARGIN_S
        case Failed(progress=progress):
            return phases.since + retry_delay_s(progress.terms, progress.attempt - 1)
        case _:
            return None


def round_number_of(work: Work) -> int | None:
    """Return the number of the round under way, None without one."""
    match work:
        case Idle():
            return None
        case Validating(progress=progress):
            return progress.committed
        case _:
            return work.progress.committed + 1


def session_view(record: SessionRecord, rounds_done: int, head: Digest | None, work: Work) -> SessionView:
    """Return a session as people see it; ``work`` is what the machine is doing now."""
    terms = record.terms if record.changed is None else with_limits(record.terms, record.changed)
    status: SessionStatus = record.status
    reason = record.reason
    if not isinstance(work, Idle) and work.progress.terms.session == terms.session:
        reason = waiting_of(work) or reason
        if record.status == "running" and isinstance(work, Gathering):
            status = "waiting"
    if record.status == "paused" and record.reason != BY_OPERATOR:
        status = "failed"
    options = SessionOptions(
        package=terms.package,
        seed_model=terms.seed_model,
        rounds=terms.rounds,
        name=record.name,
        clients_wanted=terms.clients_wanted,
        clients_required=terms.clients_required,
        update_timeout_s=terms.update_timeout_s,
        validate=terms.validate,
        validation_timeout_s=terms.validation_timeout_s,
        max_attempts=terms.max_attempts,
        retry_delay_s=terms.retry_delay_s,
        gather_timeout_s=terms.gather_timeout_s,
        parameters=json.loads(terms.parameters),
        masking=terms.masking,
        masked=terms.masked,
    )
    return SessionView(
        terms.session,
        terms.number,
        record.name,
        status,
        terms.rounds,
        rounds_done,
        options,
        reason,
        record.created,
        head,
        record.intent,
    )


def round_view(
    record: RoundRecord,
    work: Work,
    progress: Mapping[CombinerName, RoundProgress],
    *,
    now: float,
    phases: Sequence[PhaseRecord] = (),
    name_of: Names = lambda client: ClientName(client[:12]),
) -> RoundView:
    """Return a round as people see it, with what its combiners tell while it runs.

    Args:
        phases: of its last attempt, as far as they are known.
    """
    live = _is_at_hand(record, work)
    measured = validation_metrics(record)
    status = {"running": "running", "committed": "done", "failed": "failed"}[record.status]
    reason = record.failures[-1].reason if record.failures and record.status != "committed" else ""
    return RoundView(
        session=record.plan.session,
        number=record.plan.round_number,
        attempt=record.plan.attempt,
        phase=phase_of(work) if live else status,
        status="running" if status == "running" else "done" if status == "done" else "failed",
        started_at=record.started,
        seconds=record.seconds if record.status == "committed" else (record.ended or now) - record.attempt_started,
        reason=reason,
        clients=tuple(
            ContributorView(client.name, None if record.masked else client.samples) for client in record.included
        ),
        excluded=tuple(ExcludedView(c.name, c.reason, c.log) for c in record.excluded),
        combiners=tuple(sorted({cell.combiner for cell in record.cells})),
        samples=record.samples,
        metrics=means(measured),
        metrics_hidden=_hidden(measured),
        metrics_by_client={name: dict(values) for name, values in (record.validation or Measured()).by_client.items()},
        training_metrics=means(training_metrics(record)),
        model=record.model,
        progress=tuple(_progress(record, progress)) if live else (),
        asked=tuple(_asked(record, work, progress, name_of)) if live else (),
        phases=tuple(PhaseView(one.phase, one.started, (one.ended or now) - one.started) for one in phases),
        masking=_masking_view(record.masked) if record.masked else None,
    )


def _masking_view(masked: MaskedRoundRecord) -> RoundMaskingView:
    cells = sorted(masked.cells, key=lambda cell: cell.combiner)
    return RoundMaskingView(
        masked.scheme, masked.k, masked.r, masked.g_min, masked.reopen, tuple(_cell_view(cell) for cell in cells)
    )


def _cell_view(cell: MaskedCellRecord) -> MaskedCellView:
    members = sorted(cell.members, key=lambda member: (member.slot, member.replica))
    seen = tuple(SumParticipantView(one.name, one.slot, one.replica, one.answered) for one in members)
    return MaskedCellView(cell.combiner, cell.included, seen, cell.opened, cell.out)


def _is_at_hand(record: RoundRecord, work: Work) -> bool:
    match work:
        case Planning(progress=at) | Masked(progress=at) | Updating(progress=at) | Committing(progress=at):
            number = at.committed + 1
        case Validating(progress=at):
            number = at.committed
        case _:
            return False
    return (record.plan.session, record.plan.round_number) == (at.terms.session, number)


def _progress(record: RoundRecord, progress: Mapping[CombinerName, RoundProgress]) -> Iterable[CombinerProgressView]:
    first = min((cell.generation for cell in record.cells), default=Generation(0))
    for name, told in sorted(progress.items()):
        if told.generation >= first:
            yield CombinerProgressView(name, told.phase, told.included, told.training, told.excluded)


def _asked(
    record: RoundRecord, work: Work, progress: Mapping[CombinerName, RoundProgress], name_of: Names
) -> list[AskedView]:
    """Return everybody who was asked, by name; of an earlier cell of a combiner nobody who is in a later one."""
    found: dict[ClientId, AskedView] = {}
    for combiner, generation, clients in _orders(record, work):
        told = progress.get(combiner)
        at = {one.client: one for one in told.clients} if told and told.generation == generation else {}
        for client in clients:
            here = at.get(client)
            state, reason = (here.state, here.reason) if here is not None else ("asked", "")
            found[client] = AskedView(name_of(client), combiner, state, reason)
    return sorted(found.values(), key=lambda one: (one.name, one.combiner))


def _orders(record: RoundRecord, work: Work) -> Iterator[tuple[CombinerName, Generation, Iterable[ClientId]]]:
    if isinstance(work, Validating):
        yield from ((name, order.generation, order.clients) for name, order in sorted(work.waiting.items()))
    else:
        for cell in sorted(record.cells, key=lambda cell: cell.generation):
            yield cell.combiner, cell.generation, cell.clients


def model_view(record: RoundRecord | MadeModel) -> ModelView:
    """Return the model that a committed round made."""
    assert record.model is not None
    measured = validation_metrics(record)
    return ModelView(
        digest=record.model,
        number=record.plan.round_number,
        session=record.plan.session,
        parent=record.plan.base_model,
        size=record.model_size,
        created_at=record.ended,
        metrics=means(measured),
        samples=record.samples,
        metrics_hidden=_hidden(measured),
        clients=len(record.included),
        package=record.plan.package,
    )


def _hidden(metrics: Iterable[MetricView]) -> dict[str, str]:
    return {one.name: one.hidden for one in metrics if one.hidden}


def seed_view(record: SeedModelRecord) -> ModelView:
    """Return a seed model."""
    return ModelView(record.digest, 0, None, None, record.size, record.created)


def package_view(record: PackageRecord) -> PackageView:
    """Return a compute package."""
    return PackageView(
        record.digest,
        record.name,
        record.version,
        record.size,
        record.files,
        dict(record.entry_points),
        record.created,
    )


def event_view(record: EventRecord) -> EventView:
    """Return an event."""
    return EventView(record.seq, record.time, record.kind, record.severity, record.text, dict(record.subject))


def token_view(kept: TokenKept) -> TokenView:
    """Return a token without its hash."""
    token = kept.token
    return TokenView(token.id, token.role, token.label, kept.created, token.not_after, token.revoked, kept.last_used)
