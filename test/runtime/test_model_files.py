"""Model files, mapped: their layout is read, what is none is named, and nothing stays open."""

from pathlib import Path

import pytest
from artifacts import a_model

from fedn_py.model.layout import NotAModel
from fedn_py.model.vector import NotFinite, check_finite
from fedn_py.runtime.model_files import mapped_model, read_layout

MODEL = a_model({"w": ("F32", (1.0, 2.0)), "steps": ("I64", (3,))})


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model"
    path.write_bytes(content)
    return path


def open_files() -> int:
    # Files alone: sockets of a server that another test has told to end may close at any time.
    return sum(map(Path.is_file, Path("/proc/self/fd").iterdir()))


def test_a_model_is_mapped_with_its_layout(tmp_path: Path) -> None:
    before = open_files()
    with mapped_model(written(tmp_path, MODEL)) as (model, layout):
        assert model[:] == MODEL
        assert [tensor.name for tensor in layout.tensors] == ["w", "steps"]
        assert layout.n_parameters == 2
    assert open_files() == before


def test_its_layout_is_read_by_itself(tmp_path: Path) -> None:
    assert read_layout(written(tmp_path, MODEL)).file_size == len(MODEL)


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 64, MODEL[:-1], MODEL + b"x"])
def test_what_is_no_model_is_named_and_closed(tmp_path: Path, content: bytes) -> None:
    before = open_files()
    with pytest.raises(NotAModel):
        read_layout(written(tmp_path, content))
    assert open_files() == before


def test_a_fault_in_the_midst_of_reading_is_raised_as_it_is_and_the_file_closed(tmp_path: Path) -> None:
    before = open_files()
    path = written(tmp_path, a_model({"w": ("F32", (1.0, float("nan")))}))
    with pytest.raises(NotFinite), mapped_model(path) as (model, layout):
        check_finite(model, layout)
    assert open_files() == before
