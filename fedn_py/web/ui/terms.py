"""A session's terms in words."""

from collections.abc import Iterator, Sequence

from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionOptions


def masking_in_words(options: SessionOptions, rounds: Sequence[RoundView] = ()) -> str:
    """Return how a session hides its updates, in one line.

    Args:
        rounds: in order; what follows from the size of the cells is told as the newest masked one of them had it.
    """
    if options.masking == "none":
        return "none: combiners and the reducer can read each client's update"
    masked = options.masked
    parts = [
        f"clip {masked.clip:g}",
        *_by_size(masked, rounds),
        f"largest cell {masked.n_max or 'by cell size'}",
        f"weight cap {masked.weight_cap:,} at {masked.weight_unit:,} samples a unit",
        *(f"{name} within ±{bound:g}" for name, bound in masked.metrics.items()),
    ]
    return f"{options.masking}: {', '.join(parts)}"


def _by_size(masked: MaskedOptions, rounds: Sequence[RoundView]) -> Iterator[str]:
    for one in reversed(rounds):
        if one.masking is not None:
            had = one.masking
            yield f"k {had.k}, r {had.r}, g_min {had.g_min} and reopen {had.reopen} in round {one.number}"
            return
    for name, value in (("k", masked.k), ("r", masked.r), ("g_min", masked.g_min)):
        yield f"{name} {value or 'by cell size'}"
    yield f"reopen {masked.reopen or 'by replicas'}"
