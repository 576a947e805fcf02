import json
import struct
from pathlib import Path

import numpy as np
import pytest

from fedn_py.package import InvalidTensors, UnreadableModel, load_model, save_model


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i8", "u1", "u8", "?"])
def test_a_model_comes_back_as_it_was_saved(tmp_path: Path, dtype: str) -> None:
    tensors = {
        "weights": np.arange(6).reshape(2, 3).astype(dtype),
        "scalar": np.array(1, dtype),
        "none": np.zeros((0, 4), dtype),
    }
    save_model(tmp_path / "model.safetensors", tensors)
    loaded = load_model(tmp_path / "model.safetensors")
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        np.testing.assert_array_equal(loaded[name], tensor)
        assert loaded[name].shape == tensor.shape


def test_a_transposed_view_is_saved_in_its_own_order(tmp_path: Path) -> None:
    view = np.arange(6.0).reshape(2, 3).T
    save_model(tmp_path / "m", {"x": view})
    np.testing.assert_array_equal(load_model(tmp_path / "m")["x"], view)


def test_saving_leaves_no_partial_file_behind(tmp_path: Path) -> None:
    save_model(tmp_path / "m", {"x": np.ones(2)})
    save_model(tmp_path / "m", {"x": np.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_bfloat16_comes_as_ml_dtypes_where_installed(tmp_path: Path) -> None:
    pytest.importorskip("ml_dtypes")
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "m").write_bytes(struct.pack("<Q", len(header)) + header + b"\x80\x3f\x00\x40")
    loaded = load_model(tmp_path / "m")
    assert loaded["a"].dtype.name == "bfloat16"
    assert loaded["a"].astype("f4").tolist() == [1.0, 2.0]
    save_model(tmp_path / "again", loaded)
    assert load_model(tmp_path / "again")["a"].dtype.name == "bfloat16"


def test_a_missing_file_and_a_file_of_another_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="no model file"):
        load_model(tmp_path / "missing")
    (tmp_path / "text").write_text("hello, this is no model")
    with pytest.raises(UnreadableModel, match="is not a model"):
        load_model(tmp_path / "text")


@pytest.mark.parametrize(
    "tensors", [{}, {"": np.ones(1)}, {"x": np.array(["a"])}, {"x": np.array([None])}, {"x": np.ones(1) * 1j}]
)
def test_what_a_model_cannot_hold_is_refused(tmp_path: Path, tensors: dict[str, object]) -> None:
    with pytest.raises(InvalidTensors):
        save_model(tmp_path / "m", tensors)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
