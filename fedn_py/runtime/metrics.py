"""What every server process measures of itself, and the page that Prometheus reads.

Rules, for every metric:

- Its name begins with ``fedn_``, and ends with its unit (``_seconds``, ``_bytes``), a counter's with ``_total``.
- A label has few values, all known beforehand: no client, combiner, session, address or free text is one.
- A process has one registry, made when it is put together and passed down; there is none in a module.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import fedn_py
from fedn_py.runtime.reason_codes import OTHER, REASON_CODES

STORE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROUND_BUCKETS_S = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0)

_LAG_EVERY_S = 1.0
_LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """What Prometheus is answered."""

    body: bytes
    content_type: str


def metrics_page(registry: CollectorRegistry, accept: str) -> MetricsPage:
    """Return all metrics of a process, in the form that the header Accept of a request asks for."""
    encode, content_type = choose_encoder(accept)
    return MetricsPage(encode(registry), content_type)


def new_registry(role: str) -> CollectorRegistry:
    """Return a process's registry, with what the library knows of the process and the build that runs."""
    disable_created_metrics()  # a series beside each of ours that nobody asks for
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    build = Gauge(
        "fedn_build_info",
        "The release of fedn_py that runs, and in which role.",
        ["version", "role"],
        registry=registry,
    )
    build.labels(fedn_py.__version__, role).set(1)
    return registry


def counter_by_reason(registry: CollectorRegistry, name: str, what: str) -> Counter:
    """Return a counter with a label for the codes of reasons; all are there from the start.

    A series that begins at 1 looks to Prometheus as if nothing had happened: only what rises is an increase.
    """
    counter = Counter(name, f"{what}, by the code of the reason.", ["reason"], registry=registry)
    for code in (*sorted(REASON_CODES), OTHER):
        counter.labels(code)
    return counter


def measure_certificate(registry: CollectorRegistry, expires: datetime) -> None:
    """Show until when the process's certificate is good."""
    gauge = Gauge(
        "fedn_certificate_expiry_timestamp_seconds", "When this process's certificate expires.", registry=registry
    )
    gauge.set(expires.timestamp())


def measure_disk(registry: CollectorRegistry, folder: Path) -> None:
    """Show how full the disk under a process's state folder is, whenever it is asked for."""
    free = Gauge("fedn_state_disk_free_bytes", "Bytes free on the disk of this process's state_dir.", registry=registry)
    size = Gauge("fedn_state_disk_size_bytes", "Bytes of the disk of this process's state_dir.", registry=registry)
    free.set_function(lambda: shutil.disk_usage(folder).free)
    size.set_function(lambda: shutil.disk_usage(folder).total)


class LoopLag:
    """How late the event loop comes to what is due: the first sign of a process that has too much to do."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lag = Histogram(
            "fedn_event_loop_lag_seconds",
            "How late the event loop came to a task that was due, measured once a second.",
            buckets=_LAG_BUCKETS_S,
            registry=registry,
        )

    async def watch(self) -> None:
        """Measure until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self._lag.observe(max(0.0, clock() - due))


class StoreMetrics:
    """How long the stores take, how their operations end, and what is wrong with those that fail."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "fedn_store_operation_duration_seconds",
            "Time that an operation of a store took; of streams, the time that the store itself was waited for.",
            ["store", "operation", "outcome"],
            buckets=STORE_BUCKETS_S,
            registry=registry,
        )
        self._errors = Counter(
            "fedn_store_errors_total",
            "Operations of a store that failed, by the name of the fault.",
            ["store", "error"],
            registry=registry,
        )

    def observer(self, store: str, faults: Iterable[str]) -> Callable[[str, str, str, float], None]:
        """Return what is told the operation, outcome, fault (empty for none) and seconds of each call of one store.

        Args:
            faults: names of all that there can be.
        """
        for fault in faults:
            self._errors.labels(store, fault)

        def observe(operation: str, outcome: str, error: str, seconds: float) -> None:
            self._seconds.labels(store, operation, outcome).observe(seconds)
            if error:
                self._errors.labels(store, error).inc()

        return observe


class TransferMetrics(Collector):
    """Bulk bytes that a process received and sent over gRPC, read where they are counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._received: Callable[[], int] = int
        self._sent: Callable[[], int] = int
        registry.register(self)

    def read(self, *, received: Callable[[], int], sent: Callable[[], int]) -> None:
        """Read from here on what these return: bytes so far."""
        self._received, self._sent = received, sent

    def collect(self) -> Iterable[Metric]:
        """Give the two counters."""
        counters = CounterMetricFamily(
            "fedn_transfer_bytes_total",
            "Bytes of models, packages, updates and sums that this process received and sent over its gRPC port.",
            labels=["direction"],
        )
        counters.add_metric(["received"], self._received())
        counters.add_metric(["sent"], self._sent())
        yield counters


class PhaseMetrics:
    """In which phase a state machine is, and how long each phase took.

    Args:
        name: of the gauge; that of the durations begins with it.
        at_rest: phases that last until somebody wants something, which are not measured.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        what: str,
        phases: Sequence[str],
        *,
        at_rest: frozenset[str],
        clock: Callable[[], float],
    ) -> None:
        self._clock, self._at_rest = clock, at_rest
        self._now, self._since = phases[0], clock()
        self._phase = Enum(name, f"The phase of {what}: 1 for the present one.", states=phases, registry=registry)
        self._seconds = Histogram(
            f"{name}_duration_seconds",
            f"How long the phases of {what} took, those at rest left out.",
            ["phase"],
            buckets=ROUND_BUCKETS_S,
            registry=registry,
        )

    def enter(self, phase: str) -> None:
        """Be in a phase from now on."""
        if phase == self._now:
            return
        began, self._since = self._since, self._clock()
        if self._now not in self._at_rest:
            self._seconds.labels(self._now).observe(self._since - began)
        self._now = phase
        self._phase.state(phase)
