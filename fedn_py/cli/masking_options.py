"""The options of a masked session, and how a session's terms and a round's masking are shown."""

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fedn_py.cli.operator import ReopenName

if TYPE_CHECKING:
    from fedn_py.protocol.masked.options import MaskedOptions
    from fedn_py.reducer.shown_rounds import RoundMaskingView
    from fedn_py.reducer.shown_sessions import SessionOptions


class MaskingName(StrEnum):
    """How updates are hidden, as it is said on the command line."""

    none = "none"
    pet = "pet"


MaskingOption = Annotated[
    MaskingName,
    typer.Option(help="How updates are hidden: not at all, or so that only sums of many clients can ever be read."),
]
ClipOption = Annotated[
    float, typer.Option(metavar="X", help="Masked: clip each value of an update to +-X, in model units.")
]
NMaxOption = Annotated[
    int, typer.Option(metavar="N", help="Masked: clients in one cell at most; 0: 64, or as many as a larger cell has.")
]
WeightCapOption = Annotated[
    int,
    typer.Option(
        metavar="W", help="Masked: the largest weight of one client, in units; near the largest sample count is best."
    ),
]
WeightUnitOption = Annotated[int, typer.Option(metavar="SAMPLES", help="Masked: samples for a weight of 1.")]
SlotsOption = Annotated[
    int, typer.Option(metavar="K", help="Masked: parts that the masks of a cell are split into; 0: by its size.")
]
ReplicasOption = Annotated[
    int, typer.Option(metavar="R", help="Masked: clients that hold each part; one of them has to answer; 0: by size.")
]
GMinOption = Annotated[
    int, typer.Option("--g-min", metavar="N", help="Masked: clients in an opened sum at least; 0: by a cell's size.")
]
ReopenOption = Annotated[
    ReopenName | None,
    typer.Option(
        help="Masked: clients of a sum that was never opened try again when all its members (strict) or the reducer "
        "say so. Default: reducer with one replica, else strict.",
        show_default=False,
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=BOUND",
        help="Masked: sum this metric under the masks too, its values clipped to +-BOUND; may be given several times.",
    ),
]


def masked_options(*, metric: list[str] | None, reopen: ReopenName | None, **terms: float) -> "MaskedOptions":
    """Return the terms that a person gave."""
    from fedn_py.protocol.masked.options import MaskedOptions

    bounds = dict(_bound(text) for text in metric or ())
    return MaskedOptions(metrics=bounds, reopen=reopen.value if reopen else "", **terms)  # type: ignore[arg-type]


def _bound(text: str) -> tuple[str, float]:
    name, _, bound = text.rpartition("=")
    try:
        if name:
            return name, float(bound)
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not NAME=BOUND, such as loss=10", param_hint="--metric")


def terms_shown(options: "SessionOptions") -> str:
    """Return how a session hides its updates, in one line."""
    if options.masking == "none":
        return "none"
    masked = options.masked
    chosen = {
        "slots": masked.k,
        "replicas": masked.r,
        "g_min": masked.g_min,
        "n_max": masked.n_max,
        "reopen": masked.reopen,
    }
    parts = [
        f"clip {masked.clip:g}",
        f"weight cap {masked.weight_cap}",
        f"weight unit {masked.weight_unit}",
        *(f"{name} {value or 'by cell size'}" for name, value in chosen.items()),
        *(f"{name} within {bound:g}" for name, bound in masked.metrics.items()),
    ]
    return f"{options.masking}: {', '.join(parts)}"


def masking_shown(masking: "RoundMaskingView") -> str:
    """Return how a round's updates were hidden, in one line."""
    return f"{masking.scheme}: k {masking.k}, r {masking.r}, g_min {masking.g_min}, reopen {masking.reopen}"


def cells_shown(masking: "RoundMaskingView") -> Iterator[tuple[str, int, str, str]]:
    """Yield, for each cell: combiner, included clients, sum participants, state."""
    for cell in masking.cells:
        members = (
            f"{one.name} ({one.slot}.{one.replica}{'' if one.answered else ', no answer'})" for one in cell.members
        )
        state = cell.reason or ("opened" if cell.opened else "not opened")
        yield cell.combiner, cell.included, ", ".join(members), state
