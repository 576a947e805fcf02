"""What a combiner says of a masked cell: whose sum it is, signed, and the metrics that may go out one by one."""

from collections import Counter
from collections.abc import Iterable, Mapping

from fedn_py.aggregation.metrics import MAX_NAMES
from fedn_py.identity import ClientId, Digest
from fedn_py.protocol.masked.cell_work import StoreSum
from fedn_py.protocol.masked.encoding import as_line
from fedn_py.protocol.masked.round_messages import CellClosed, Refused
from fedn_py.protocol.messages import Exclusion, Metrics, MetricsSummary

_REASON_BYTES = 100
"""Of a refusal, in what is signed of a cell: with that many a cell of any size fits into a message."""


def closed_cell(effect: StoreSum, digest: Digest) -> CellClosed:
    """Return what a combiner signs of its sum."""
    refused = tuple(Refused(bytes.fromhex(one.client), _line(one)) for one in effect.excluded)
    return CellClosed(effect.ctx, effect.rows, bytes.fromhex(digest), refused)


def _line(exclusion: Exclusion) -> str:
    return as_line(exclusion.reason).encode()[:_REASON_BYTES].decode(errors="ignore")


def released(told: Mapping[ClientId, Metrics]) -> MetricsSummary:
    """Return metrics by client; of more than MAX_NAMES in all, those that most clients gave."""
    counts = Counter(name for metrics in told.values() for name in metrics)
    names = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_NAMES]
    return MetricsSummary(by_client={client: _named(metrics, names) for client, metrics in told.items()})


def _named(metrics: Metrics, names: Iterable[str]) -> Metrics:
    return {name: metrics[name] for name in names if name in metrics}
