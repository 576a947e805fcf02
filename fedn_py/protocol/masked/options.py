"""How a session masks its updates, as its starter chose; what is left at 0 follows from the size of each cell."""

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_WEIGHT_CAP = 10_000


@dataclass(frozen=True, slots=True)
class MaskedOptions:
    """The terms of a session's masked rounds.

    Attributes:
        clip: values of an update are clipped to +-clip, in model units.
        n_max: clients in one cell, at most; 0 for 64, or as many as a larger cell has.
        weight_cap: the largest weight of one client; near the largest sample count, as the error grows with it.
        weight_unit: samples for a weight of 1.
        k, r: slots of a committee and replicas of each; 0 for the defaults of the cell's size.
        g_min: clients in an opened sum, at least; 0 for the default of the cell's size.
        reopen: "strict" or "reducer"; empty for "reducer" where r is 1 and "strict" elsewhere.
        metrics: metric that is summed under the masks to the bound of its values.
    """

    clip: float = 1.0
    n_max: int = 0
    weight_cap: int = DEFAULT_WEIGHT_CAP
    weight_unit: int = 1
    k: int = 0
    r: int = 0
    g_min: int = 0
    reopen: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
