"""The running sum of one cell: updates checked whole, then added whole, one at a time, with their metrics."""

import asyncio
import hashlib
from dataclasses import dataclass

from fedn_py.aggregation.admission import check_samples, check_size, check_update
from fedn_py.aggregation.metrics import MAX_NAMES, check_metrics, summarise
from fedn_py.aggregation.weighted_sum import WeightedSum
from fedn_py.identity import ClientId, Digest
from fedn_py.model.layout import ModelLayout
from fedn_py.model.pieces import elements
from fedn_py.protocol.messages import Metrics, MetricsRelease, MetricsSummary, UpdateHeader
from fedn_py.transport.completion import in_thread
from fedn_py.transport.spool import SpooledUpload


@dataclass(frozen=True, slots=True)
class ToldMetrics:
    """What one client told of its metrics, as far as its site releases them."""

    metrics: Metrics
    samples: int
    release: MetricsRelease


def told_metrics(metrics: Metrics, samples: int, release: MetricsRelease) -> ToldMetrics:
    """Take what a client told; raises InvalidSamples, InvalidMetrics."""
    check_samples(samples)
    return ToldMetrics(check_metrics(metrics), samples, release)


def summary_of(told: dict[ClientId, ToldMetrics]) -> MetricsSummary:
    """Add up what clients told; values go out one by one only where the site releases them so.

    Of more than MAX_NAMES metrics in all, those that the most samples stand behind go out: clients that make up names
    must not make a report that the reducer cannot take.
    """
    sums = summarise((one.metrics, one.samples) for one in told.values() if one.release != "none")
    names = sorted(sums.weights, key=lambda name: (-sums.weights[name], name))[:MAX_NAMES]
    by_client = {
        client: {name: one.metrics[name] for name in names if name in one.metrics}
        for client, one in told.items()
        if one.release == "client"
    }
    counts = {name: sum(name in one.metrics for one in told.values() if one.release != "none") for name in names}
    return MetricsSummary(
        {name: sums.weighted_sums[name] for name in names},
        {name: sums.weights[name] for name in names},
        by_client,
        counts,
    )


class CellSum:
    """The weighted sum of one cell's updates.

    Memory: 8 bytes a parameter and a few MiB, for any number of clients.

    Args:
        layout: of the round's base model.
    """

    def __init__(self, layout: ModelLayout) -> None:
        self.layout = layout
        self._sum: WeightedSum | None = None
        self._told: dict[ClientId, ToldMetrics] = {}
        self._adding = asyncio.Lock()

    def check_offer(self, header: UpdateHeader) -> None:
        """Raise WrongLength, InvalidSamples or InvalidMetrics for an update that need not be received at all."""
        check_size(header.size, self.layout)
        told_metrics(header.metrics, header.samples, header.release)

    async def add(self, client: ClientId, header: UpdateHeader, upload: SpooledUpload) -> None:
        """Check an update and add it.

        Raises:
            NotFinite, WrongLength, InvalidSamples, InvalidMetrics: it is unfit, and the sum is as it was.
        """
        told = told_metrics(header.metrics, header.samples, header.release)  # offered before there was a sum, perhaps
        async with self._adding:
            await in_thread(self._add, upload, header.samples)
            self._told[client] = told

    def _add(self, upload: SpooledUpload, samples: int) -> None:
        check_update(upload.blocks(), self.layout)
        if self._sum is None:  # the memory is taken with the first update, not with the order
            self._sum = WeightedSum(self.layout.n_parameters)
        self._sum.add(elements(upload.blocks(), self.layout.update_dtype), samples)

    async def whole(self) -> tuple[memoryview, Digest]:
        """Return the sum's own memory and its sha256; nothing is to be added from now on. Raises SumSpoiled."""
        async with self._adding:
            view = memoryview(b"") if self._sum is None else self._sum.view()
            return view, await in_thread(sha256_of, view)

    def training_metrics(self) -> MetricsSummary:
        """Return the metrics that came with the updates in the sum."""
        return summary_of(self._told)


def sha256_of(content: memoryview) -> Digest:
    """Return the sha256 of bytes."""
    return Digest(hashlib.sha256(content).hexdigest())
