"""What a combiner measures of its cells and its clients, by looking at what its machine decides."""

import time
from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge

from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    Collecting,
    Combiner,
    Effect,
    Event,
    NoWork,
    Preparing,
    ReportFailure,
    Reporting,
    UpdateAdded,
    Validating,
    Work,
)
from fedn_py.protocol.masked.cell_work import CollectingKeys, CollectingUpdates, ReportingSum
from fedn_py.protocol.messages import UpdateReceipt
from fedn_py.runtime.mailbox import Step
from fedn_py.runtime.metrics import (
    LoopLag,
    PhaseMetrics,
    StoreMetrics,
    TransferMetrics,
    counter_by_reason,
    new_registry,
)
from fedn_py.runtime.reason_codes import code_of
from fedn_py.settings.roles import SpoolSettings
from fedn_py.transport.spool import Spool

PHASES = ("idle", "preparing", "keys", "collecting", "reporting", "validating")


class CombinerMetrics:
    """All metrics of a combiner process.

    Args:
        clock: seconds, monotonic.

    Attributes:
        registry: which holds them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = new_registry("combiner")
        self.stores = StoreMetrics(self.registry)
        self.transfer = TransferMetrics(self.registry)
        self.loop_lag = LoopLag(self.registry)
        self._phase = PhaseMetrics(
            self.registry, "fedn_cell_phase", "the cell at hand", PHASES, at_rest=frozenset({"idle"}), clock=clock
        )
        self._joined = Gauge(
            "fedn_combiner_joined", "1 while this combiner is joined to the active reducer.", registry=self.registry
        )
        self._clients = Gauge(
            "fedn_combiner_clients_connected", "Clients attached to this combiner.", registry=self.registry
        )
        self._make_update_metrics()

    def _make_update_metrics(self) -> None:
        self._admitted = Counter(
            "fedn_updates_admitted_total", "Updates that were added to a cell's sum.", registry=self.registry
        )
        self._refused = counter_by_reason(
            self.registry, "fedn_updates_refused_total", "Updates that were offered or sent and are in no sum"
        )
        self._failed = counter_by_reason(self.registry, "fedn_cells_failed_total", "Orders that could not be answered")
        self._held = Gauge(
            "fedn_spool_held_bytes",
            "Bytes set aside for updates that wait to be added.",
            ["place"],
            registry=self.registry,
        )
        self._room = Gauge(
            "fedn_spool_limit_bytes", "Bytes that the settings allow the spool.", ["place"], registry=self.registry
        )

    def measured(self, step: Step[Combiner, Event, Effect]) -> Step[Combiner, Event, Effect]:
        """Return a step function that does the same and is looked at."""

        def stepped(state: Combiner, event: Event) -> tuple[Combiner, Sequence[Effect]]:
            after, effects = step(state, event)
            if isinstance(event, UpdateAdded):
                self._admitted.inc()
            for effect in effects:
                self._count(effect)
            self._phase.enter(phase_of(after.work))
            if after.attached is not state.attached:
                self._clients.set(len(after.attached))
            return after, effects

        return stepped

    def refused(self, reason: str) -> None:
        """Count an update that is in no sum; the code of the reason comes first."""
        self._refused.labels(code_of(reason)).inc()

    def look_at(self, spool: Spool, limits: SpoolSettings, *, joined: bool) -> None:
        """Show what is not seen by looking at the machine."""
        self._joined.set(joined)
        self._held.labels("memory").set(spool.memory_held)
        self._held.labels("disk").set(spool.disk_held)
        self._room.labels("memory").set(limits.memory_bytes)
        self._room.labels("disk").set(limits.disk_bytes)

    def _count(self, effect: Effect) -> None:
        match effect:
            case AnswerUpload(receipt=UpdateReceipt(accepted=False, reason=reason)):
                self.refused(reason)
            case ReportFailure(failure):
                self._failed.labels(code_of(failure.reason)).inc()
            case _:
                pass


def phase_of(work: Work) -> str:
    """Return the name of the phase that a combiner's machine is in; a masked cell's are those of a plain one."""
    match work:
        case NoWork():
            return "idle"
        case Preparing():
            return "preparing"
        case CollectingKeys():
            return "keys"
        case Collecting() | CollectingUpdates():
            return "collecting"
        case Reporting() | ReportingSum():
            return "reporting"
        case Validating():
            return "validating"
