import json
from pathlib import Path

import numpy as np
import pytest

from fedn_py.package import InvalidMetrics, save_metrics


def test_a_json_path_is_written_as_it_is_and_beside_a_model_json_is_added(tmp_path: Path) -> None:
    save_metrics(tmp_path / "out.json", num_samples=10, accuracy=0.5)
    save_metrics(tmp_path / "model.safetensors", num_samples=np.int64(3), loss=np.float32(2))
    assert json.loads((tmp_path / "out.json").read_text()) == {"num_samples": 10, "accuracy": 0.5}
    assert json.loads((tmp_path / "model.safetensors.json").read_text()) == {"num_samples": 3, "loss": 2.0}


@pytest.mark.parametrize("samples", [0, -1, 1.5, True])
def test_a_number_of_samples_below_one_or_not_whole_is_refused(tmp_path: Path, samples: float) -> None:
    with pytest.raises(InvalidMetrics):
        save_metrics(tmp_path / "m.json", num_samples=samples)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "many", None, np.zeros(2)])
def test_a_metric_that_is_no_finite_number_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(InvalidMetrics):
        save_metrics(tmp_path / "m.json", num_samples=1, accuracy=value)  # type: ignore[arg-type]
