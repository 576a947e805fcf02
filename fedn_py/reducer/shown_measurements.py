"""What people and programs are shown of the metrics of a committed round."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedn_py.identity import Digest, SessionId


@dataclass(frozen=True, slots=True)
class MetricView:
    """One metric of a round, over its clients.

    Attributes:
        mean: weighted by samples; None where it is hidden, or nobody's value may go into it.
        clients: how many gave it; at least so many where it came out from under masks. None where that is not known.
        hidden: why the mean is not shown; empty where it is.
        minimum, lower_quartile, median, upper_quartile, maximum: of ``by_client``; None where that is empty.
        by_client: of the sites that release their values one by one.
    """

    name: str
    mean: float | None
    clients: int | None
    hidden: str = ""
    minimum: float | None = None
    lower_quartile: float | None = None
    median: float | None = None
    upper_quartile: float | None = None
    maximum: float | None = None
    by_client: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValidationView:
    """What a committed round's clients measured: of its model, and while they trained it.

    Attributes:
        model: the round's new global model, which was validated.
        validated: whether a validation has ended; it is asked for after the commit, or not at all.
        clients: how many gave metrics of the validation.
        samples: over how many samples; None where that would tell too few clients' counts in a masked round.
        seconds: that the round took.
        metrics: of the validation, by name.
        training: of the training, by name.
    """

    session: SessionId
    number: int
    model: Digest
    validated: bool
    clients: int
    samples: int | None
    seconds: float
    metrics: tuple[MetricView, ...] = ()
    training: tuple[MetricView, ...] = ()
