"""An update's values: the same however they are cut, from memory or from a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fedn_py.client.update_values import TensorsChanged, UpdateValues
from fedn_py.model.layout import NotAModel
from fedn_py.transport.chunks import CHUNK_BYTES


def models(dtype: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors that end anywhere in a chunk, one of them larger than a chunk and one without a value."""
    rng = np.random.default_rng(7)
    sizes = {"a": 3, "b": 400_001, "c": 0, "d": 1, "e": 131_072, "f": 70_000}
    base = {name: rng.normal(size=size).astype(dtype) for name, size in sizes.items()}
    return base, {name: values + rng.normal(size=values.shape).astype(dtype) for name, values in base.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("in_memory", [True, False])
def test_chunks_are_full_and_begin_where_they_are_asked_to(tmp_path: Path, dtype: Any, in_memory: bool) -> None:
    base, trained = models(dtype)
    save_file(base, tmp_path / "base")
    save_file(trained, tmp_path / "trained")
    values = UpdateValues(tmp_path / "base", trained if in_memory else tmp_path / "trained")
    whole = b"".join(piece.tobytes() for piece in values.pieces())
    expected = np.concatenate([trained[name] - base[name] for name in sorted(base)]).astype(dtype)
    assert sorted(np.frombuffer(whole, dtype)) == sorted(expected)
    assert (values.count, values.size, len(whole)) == (len(expected), expected.nbytes, expected.nbytes)
    for offset in (0, 1, 12, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 7, len(whole) - 1):
        chunks = [b"".join(pieces) for pieces in values.chunks(offset)]
        assert b"".join(chunks) == whole[offset:]
        assert all(len(chunk) == CHUNK_BYTES for chunk in chunks[1:-1])
        assert max(map(len, chunks)) <= CHUNK_BYTES
    values.close()


def test_arrays_that_change_after_they_were_looked_through_are_not_sent(tmp_path: Path) -> None:
    base, trained = models(np.float32)
    save_file(base, tmp_path / "base")
    values = UpdateValues(tmp_path / "base", trained)
    assert list(values.pieces())
    assert b"".join(part for chunk in values.chunks(0) for part in chunk)
    trained["b"][400_000] += 1.0
    with pytest.raises(TensorsChanged):
        list(values.chunks(0))


def test_nothing_of_what_is_no_model_stays_open(tmp_path: Path) -> None:
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "base")
    (tmp_path / "trained").write_bytes(b"no model")
    with pytest.raises(NotAModel):
        UpdateValues(tmp_path / "base", tmp_path / "trained")
