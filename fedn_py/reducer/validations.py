"""What is shown of the metrics of committed rounds: means, how many clients stand behind them, and what is hidden.

In a masked round nobody is to learn a value that a site keeps inside means. So a mean is shown only where at least
``g_min`` clients gave it, and where as many of them do not release theirs one by one: from a mean and all values but
one, that one follows. Whatever shows means of a round takes them from here.
"""

import statistics
from collections.abc import Mapping

from fedn_py.reducer.records import MadeModel, Measured, RoundRecord
from fedn_py.reducer.shown_measurements import MetricView, ValidationView


def validation_view(record: RoundRecord | MadeModel) -> ValidationView:
    """Return what was measured in a committed round."""
    assert record.model is not None
    found = record.validation or Measured()
    return ValidationView(
        session=record.plan.session,
        number=record.plan.round_number,
        model=record.model,
        validated=record.validation is not None,
        clients=found.clients,
        samples=found.samples if found.clients >= _floor(record) else None,
        seconds=record.seconds,
        metrics=validation_metrics(record),
        training=training_metrics(record),
    )


def validation_metrics(record: RoundRecord | MadeModel) -> tuple[MetricView, ...]:
    """Return the metrics of a round's validation, by name."""
    return _metrics(record.validation or Measured(), _floor(record))


def training_metrics(record: RoundRecord | MadeModel) -> tuple[MetricView, ...]:
    """Return the metrics of a round's training, by name."""
    return _metrics(record.training, _floor(record))


def means(metrics: tuple[MetricView, ...]) -> dict[str, float]:
    """Return those means that are shown."""
    return {one.name: one.mean for one in metrics if one.mean is not None}


def _floor(record: RoundRecord | MadeModel) -> int:
    return record.masked.g_min if record.masked is not None else 0


def _metrics(measured: Measured, floor: int) -> tuple[MetricView, ...]:
    clients = sorted(measured.by_client.items())
    names = sorted(set(measured.means).union(*measured.by_client.values()))
    # Comprehensions on purpose: a page goes over the clients of hundreds of rounds.
    return tuple(
        _metric(name, measured, {client: values[name] for client, values in clients if name in values}, floor)
        for name in names
    )


def _metric(name: str, measured: Measured, released: Mapping[str, float], floor: int) -> MetricView:
    clients = measured.counts.get(name)
    hidden = _why_hidden(clients, len(released), floor) if name in measured.means else ""
    mean = None if hidden else measured.means.get(name)
    if not released:
        return MetricView(name, mean, clients, hidden)
    values = sorted(released.values())
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return MetricView(name, mean, clients, hidden, values[0], lower, median, upper, values[-1], released)


def _why_hidden(clients: int | None, released: int, floor: int) -> str:
    """Return why a mean is not shown, empty where it is; ``floor`` is 0 in a round that is not masked."""
    if not floor:
        return ""
    if clients is None:
        return "it is not known how many clients gave it"
    if clients < floor:
        return f"{clients} clients gave it, and a mean is shown of at least {floor}"
    if 0 < clients - released < floor:
        return f"{clients - released} clients keep theirs inside the mean, and it would tell of fewer than {floor}"
    return ""
