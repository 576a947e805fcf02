"""What the reducer measures of its rounds and of the network, by looking at what its machine decides."""

import time
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fedn_py.errors import FednError
from fedn_py.identity import SessionId
from fedn_py.protocol import masked_rounds
from fedn_py.protocol.masked_rounds_work import Masked
from fedn_py.protocol.messages import Exclusion
from fedn_py.protocol.plain_cells import excluded_of
from fedn_py.protocol.reducer_terms import Roster, each, places
from fedn_py.protocol.reducer_work import (
    CloseFailedAttempt,
    Committing,
    Effect,
    Event,
    Idle,
    Paused,
    Reducer,
    TellCommitted,
    Validating,
    Work,
)
from fedn_py.reducer.views import phase_of
from fedn_py.runtime.mailbox import Step
from fedn_py.runtime.metrics import (
    ROUND_BUCKETS_S,
    LoopLag,
    PhaseMetrics,
    StoreMetrics,
    TransferMetrics,
    counter_by_reason,
    new_registry,
)
from fedn_py.runtime.reason_codes import code_of

PHASES = (
    "idle",
    "waiting",
    "planning",
    "sum",
    "updating",
    "sum2",
    "unmasking",
    "ending",
    "committing",
    "validating",
    "failed",
    "paused",
)
"""Every phase that ``views.phase_of`` names."""

_AT_REST = frozenset({"idle", "paused"})


class ReducerMetrics:
    """All metrics of a reducer process.

    Args:
        clock: seconds, monotonic.
        now: seconds since 1970.

    Attributes:
        registry: which holds them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        self.registry = new_registry("reducer")
        self.stores = StoreMetrics(self.registry)
        self.transfer = TransferMetrics(self.registry)
        self.loop_lag = LoopLag(self.registry)
        self.rounds = RoundMetrics(self.registry, clock, now)
        self.sweep = SweepMetrics(self.registry, now)
        self._active = Gauge(
            "fedn_reducer_active",
            "1 while this reducer is the active one, 0 while it stands by.",
            registry=self.registry,
        )

    def now_active(self) -> None:
        """Show that this reducer runs the rounds."""
        self._active.set(1)

    def no_longer_active(self) -> None:
        """Show that it does not, and that nobody is connected to it."""
        self._active.set(0)
        self.rounds.look_at(Reducer())


class SweepMetrics:
    """How the sweeps of unnamed objects ended."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float]) -> None:
        self._now = now
        self._succeeded = Gauge(
            "fedn_object_sweep_last_success_timestamp_seconds",
            "When a sweep of unnamed objects last came to its end; 0: not since this process started.",
            registry=registry,
        )
        self._failures = Counter(
            "fedn_object_sweep_failures_total", "Sweeps of unnamed objects that broke off.", registry=registry
        )

    def ended(self, fault: FednError | None) -> None:
        """Count the end of a sweep; None for a good one."""
        if fault is None:
            self._succeeded.set(self._now())
        else:
            self._failures.inc()


class RoundMetrics:
    """What becomes of rounds, of the updates in them, and who is there for them."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self._clock, self._now = clock, now
        self._phase = PhaseMetrics(
            registry, "fedn_round_phase", "the round at hand", PHASES, at_rest=_AT_REST, clock=clock
        )
        self._round: tuple[SessionId, int] | None = None
        self._began = clock()
        self._roster: Roster = {}
        self._make_round_metrics(registry)
        self._make_network_metrics(registry)

    def _make_round_metrics(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "fedn_round_duration_seconds",
            "Time of committed rounds, from when the first attempt could begin to the commit.",
            buckets=ROUND_BUCKETS_S,
            registry=registry,
        )
        self._committed = Counter("fedn_rounds_committed_total", "Rounds that made a model.", registry=registry)
        self._failed = counter_by_reason(
            registry, "fedn_round_attempts_failed_total", "Attempts at a round that made no model"
        )
        self._included = Counter(
            "fedn_round_updates_included_total", "Updates in the models of committed rounds.", registry=registry
        )
        self._excluded = counter_by_reason(
            registry,
            "fedn_round_updates_excluded_total",
            "Clients that were ordered an update and are in no model for it",
        )
        self._last = Gauge(
            "fedn_round_last_commit_timestamp_seconds",
            "When a round was last committed; 0: not since this process started.",
            registry=registry,
        )

    def _make_network_metrics(self, registry: CollectorRegistry) -> None:
        self._running = Gauge(
            "fedn_session_running", "1 while a session is under way and not paused.", registry=registry
        )
        self._rounds_wanted = Gauge(
            "fedn_session_rounds_wanted", "Rounds that the session at hand was started with.", registry=registry
        )
        self._rounds_done = Gauge(
            "fedn_session_rounds_committed", "Rounds that the session at hand has committed.", registry=registry
        )
        self._required = Gauge(
            "fedn_clients_required", "Clients that a round of the session at hand needs at least.", registry=registry
        )
        # Counted when they are asked for: a network of thousands changes more often than that.
        clients = Gauge("fedn_clients_connected", "Clients attached to any combiner.", registry=registry)
        clients.set_function(lambda: len(places(self._roster)))
        self._combiners = Gauge(
            "fedn_combiners_connected",
            "Combiners joined, or lost so shortly ago that they are waited for.",
            registry=registry,
        )

    def measured(self, step: Step[Reducer, Event, Effect]) -> Step[Reducer, Event, Effect]:
        """Return a step function that does the same and is looked at."""

        def stepped(state: Reducer, event: Event) -> tuple[Reducer, Sequence[Effect]]:
            after, effects = step(state, event)
            for effect in effects:
                self._count(state.work, effect)
            self.look_at(after)
            return after, effects

        return stepped

    def look_at(self, state: Reducer) -> None:
        """Show a state."""
        work = state.work
        self._phase.enter(phase_of(work))
        self._roster = state.roster
        self._combiners.set(len(state.roster))
        self._running.set(not isinstance(work, Idle | Paused))
        progress = None if isinstance(work, Idle) else work.progress
        self._required.set(progress.terms.clients_required if progress is not None else 0)
        self._rounds_wanted.set(progress.terms.rounds if progress is not None else 0)
        self._rounds_done.set(progress.committed if progress is not None else 0)
        at_hand = _round_of(work)
        if at_hand != self._round:
            self._round, self._began = at_hand, self._clock()

    def _count(self, work: Work, effect: Effect) -> None:
        match effect:
            case TellCommitted():
                self._committed.inc()
                self._last.set(self._now())
                self._seconds.observe(self._clock() - self._began)
                self._count_updates(work)
            case CloseFailedAttempt(reason=reason, excluded=excluded):
                self._failed.labels(code_of(reason)).inc()
                self._count_excluded(excluded)
            case _:
                pass

    def _count_updates(self, work: Work) -> None:
        match work:
            case Committing(cells=cells):
                self._included.inc(sum(len(cell.partial.included) for _, cell in each(cells) if cell.partial))
                self._count_excluded(excluded_of(cells))
            case Masked(attempt=attempt):
                self._included.inc(sum(len(cell.rows) for cell in attempt.cells if cell.opened))
                self._count_excluded(masked_rounds.excluded(work))
            case _:
                pass

    def _count_excluded(self, excluded: Iterable[Exclusion]) -> None:
        for exclusion in excluded:
            self._excluded.labels(code_of(exclusion.reason)).inc()


def _round_of(work: Work) -> tuple[SessionId, int] | None:
    """Return which round is worked at; None while none is: between two rounds, and while a session rests."""
    if isinstance(work, Idle | Paused | Validating):
        return None
    return work.progress.terms.session, work.progress.committed + 1
