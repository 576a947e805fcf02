"""The JSON file that says how many samples an entry point used and what it measured."""

import json
import math
import os
from pathlib import Path
from typing import SupportsFloat

from fedn_py.errors import OwnFault


class InvalidMetrics(OwnFault):
    """A number of samples or a metric that the network would refuse."""


def save_metrics(path: str | os.PathLike[str], *, num_samples: int, **metrics: SupportsFloat) -> None:
    """Write the number of samples and any metrics.

    Args:
        path: a path that ends in ``.json`` is written as it is (``OUT_JSON`` of validate); to any other one
            ``.json`` is added, so that train passes its ``OUT_MODEL`` here.
        num_samples: how many samples the model was trained or validated on; the weight of the result, at least 1.
        metrics: numbers by name, for example ``accuracy=0.93``; numpy scalars are fine.

    Raises:
        InvalidMetrics: num_samples is not a whole number of at least 1, or a metric is not a finite number.
    """
    values = {name: _number(name, value) for name, value in metrics.items()}
    if isinstance(num_samples, bool) or int(num_samples) != num_samples or num_samples < 1:
        raise InvalidMetrics(
            f"num_samples is {num_samples!r}, must be a whole number of at least 1",
            remedy="Give the number of samples that were used; a client without data should not train.",
        )
    text = os.fspath(path)
    target = Path(text if text.endswith(".json") else f"{text}.json")
    target.write_text(json.dumps({"num_samples": int(num_samples), **values}), encoding="utf-8")


def _number(name: str, value: SupportsFloat) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as fault:
        raise InvalidMetrics(f"metric {name!r} is {value!r}, no number", remedy="Give plain numbers.") from fault
    if not math.isfinite(number):
        raise InvalidMetrics(
            f"metric {name!r} is {number}",
            remedy="Metrics must be finite: a diverged training is better reported by raising an error.",
        )
    return number
