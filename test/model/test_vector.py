"""Updates made from model files and models made from updates, against exact fractions and the safetensors library."""

import mmap
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.model.layout import ModelLayout, parse_layout
from fedn_py.model.matching import WrongShape, match_arrays
from fedn_py.model.pieces import PIECE, WrongLength
from fedn_py.model.vector import NotFinite, apply_mean, check_finite, difference, difference_in_memory

ModelFile = Callable[..., bytes]
MiB = 1024 * 1024


def parse(file: bytes) -> ModelLayout:
    return parse_layout(file, len(file))


def update_of(new: bytes, base: bytes) -> np.ndarray:
    pieces = list(difference(new, base, parse(new), parse(base)))
    return np.concatenate(pieces) if pieces else np.empty(0)


def next_model(base: bytes, mean: np.ndarray, *, portion: int = 3) -> bytes:
    pieces = (mean[start : start + portion] for start in range(0, len(mean), portion))
    return b"".join(apply_mean(base, parse(base), pieces))


singles = st.floats(-1e6, 1e6, width=32)
any_single = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(st.tuples(singles, singles), min_size=1, max_size=20))
def test_an_update_is_the_exact_difference_rounded_once(an_f32_model: ModelFile, pairs) -> None:
    new, base = an_f32_model(w=[n for n, _ in pairs]), an_f32_model(w=[b for _, b in pairs])
    found = update_of(new, base)
    assert found.dtype == np.dtype("<f4")
    for value, (n, b) in zip(found, pairs, strict=True):
        exact = Fraction(n) - Fraction(b)
        assert abs(Fraction(float(value)) - exact) <= abs(exact) * Fraction(2) ** -24 + Fraction(2) ** -149


@given(st.lists(st.tuples(singles, singles), min_size=1, max_size=20))
def test_adding_an_update_to_its_base_gives_the_new_model_to_float32_precision(an_f32_model: ModelFile, pairs) -> None:
    new, base = an_f32_model(w=[n for n, _ in pairs]), an_f32_model(w=[b for _, b in pairs])
    result = safetensors.numpy.load(next_model(base, update_of(new, base).astype(np.float64)))
    scale = np.array([abs(n) + abs(b) for n, b in pairs])
    assert np.all(np.abs(result["w"] - np.array([n for n, _ in pairs])) <= scale * 2**-23)


@given(st.lists(st.tuples(any_single, any_single), min_size=1, max_size=40))
def test_a_difference_in_float32_is_the_one_that_float64_gives_rounded_once(an_f32_model: ModelFile, pairs) -> None:
    new, base = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    with np.errstate(over="ignore"):
        expected = (new.astype(np.float64) - base.astype(np.float64)).astype(np.float32)
    if np.isfinite(expected).all():
        found = update_of(an_f32_model(w=new), an_f32_model(w=base))
        assert found.view(np.uint32).tolist() == expected.view(np.uint32).tolist()
    else:
        with pytest.raises(NotFinite):
            update_of(an_f32_model(w=new), an_f32_model(w=base))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_update_of_a_model_in_memory_is_that_of_its_file(dtype: str) -> None:
    random = np.random.default_rng(0)

    def tensors() -> dict[str, np.ndarray]:
        values = {"w": random.normal(size=(PIECE // 100, 101)), "scalar": random.normal(size=()), "none": np.empty(0)}
        return {name: array.astype(dtype) for name, array in values.items()} | {"steps": np.arange(3)}

    old, new = tensors(), tensors()
    base = safetensors.numpy.save(old)
    match_arrays(new, parse(base))
    found = np.concatenate(list(difference_in_memory(new, base, parse(base))))
    from_file = update_of(safetensors.numpy.save(new), base)
    assert found.dtype == from_file.dtype
    assert found.tobytes() == from_file.tobytes()
    assert len(found) == PIECE // 100 * 101 + 1


def test_a_model_in_memory_with_a_difference_too_large_is_refused_by_the_tensors_name(an_f32_model: ModelFile) -> None:
    base = an_f32_model(w=[-3e38], b=[0.0])
    with pytest.raises(NotFinite, match="'w'"):
        list(difference_in_memory({"w": np.float32([3e38]), "b": np.float32([1])}, base, parse(base)))


def test_the_vector_follows_the_bytes_of_the_base_whatever_the_order_of_the_new_model(a_model_file: ModelFile) -> None:
    def f32(*values: float) -> tuple[str, tuple[int, ...], bytes]:
        return "F32", (len(values),), np.array(values, "<f4").tobytes()

    base = a_model_file({"z": f32(0, 0), "a": f32(0)}, header_order=["a", "z"])
    new = a_model_file({"a": f32(3), "z": f32(1, 2)}, padding=3)
    assert update_of(new, base).tolist() == [1, 2, 3]


def test_all_float_types_take_part_and_the_result_is_read_by_the_library(a_model_file: ModelFile) -> None:
    base = a_model_file(
        {
            "half": ("F16", (2,), np.array([1, 2], "<f2").tobytes()),
            "brain": ("BF16", (2,), (np.array([1, 2], "<f4").view("<u4") >> 16).astype("<u2").tobytes()),
            "single": ("F32", (), np.array(3, "<f4").tobytes()),
            "empty": ("F32", (0, 3), b""),
            "double": ("F64", (1, 1), np.array([4], "<f8").tobytes()),
        }
    )
    result = next_model(base, np.array([0.5, 0.25, 0.5, 0.25, 0.125, 2.0**-40]))
    tensors = dict(safetensors.deserialize(result))
    brain = np.frombuffer(tensors["brain"]["data"], "<u2").astype("<u4") << 16
    assert np.frombuffer(tensors["half"]["data"], "<f2").tolist() == [1.5, 2.25]
    assert brain.view("<f4").tolist() == [1.5, 2.25]
    assert np.frombuffer(tensors["single"]["data"], "<f4").tolist() == [3.125]
    assert np.frombuffer(tensors["double"]["data"], "<f8").tolist() == [4 + 2.0**-40]
    assert tensors["empty"]["shape"] == [0, 3]
    assert update_of(result, base).tolist() == [0.5, 0.25, 0.5, 0.25, 0.125, 2.0**-40]


def test_integer_and_bool_tensors_keep_the_values_of_the_global_model(a_model_file: ModelFile) -> None:
    def with_steps(weight: float, steps: int, flag: int) -> bytes:
        return a_model_file(
            {
                "steps": ("I64", (), steps.to_bytes(8, "little")),
                "flag": ("BOOL", (1,), bytes([flag])),
                "w": ("F32", (1,), np.array([weight], "<f4").tobytes()),
            }
        )

    base, new = with_steps(1.0, 100, 1), with_steps(3.0, 250, 0)
    assert update_of(new, base).tolist() == [2.0]
    assert next_model(base, np.array([2.0])) == with_steps(3.0, 100, 1)


def test_the_next_model_keeps_the_header_of_the_base(a_model_file: ModelFile) -> None:
    base = a_model_file({"w": ("F32", (1,), bytes(4))}, padding=7)
    assert next_model(base, np.array([1.0]))[:-4] == base[:-4]


def test_an_update_of_the_wrong_shape_is_refused_before_any_value_is_read(an_f32_model: ModelFile) -> None:
    new, base = an_f32_model(w=[1.0, 2.0]), an_f32_model(w=[1.0])
    with pytest.raises(WrongShape, match="'w'"):
        difference(new, base, parse(new), parse(base))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_new_model_with_a_value_that_is_not_finite_is_refused_by_the_tensors_name(
    an_f32_model: ModelFile, value: float
) -> None:
    new, base = an_f32_model(a=[0.0], b=[0.0, value]), an_f32_model(a=[0.0], b=[0.0, 0.0])
    with pytest.raises(NotFinite, match="tensor 'b'"):
        update_of(new, base)
    with pytest.raises(NotFinite, match="tensor 'b'"):
        check_finite(new, parse(new))
    check_finite(base, parse(base))


def test_a_difference_too_large_for_the_updates_type_is_refused(an_f32_model: ModelFile) -> None:
    with pytest.raises(NotFinite, match="'w'"):
        update_of(an_f32_model(w=[3e38]), an_f32_model(w=[-3e38]))


@pytest.mark.parametrize("mean", [np.nan, np.inf, 3e38])
def test_a_new_global_model_that_is_not_finite_is_not_made(an_f32_model: ModelFile, mean: float) -> None:
    with pytest.raises(NotFinite, match="'w' of the new global model"):
        next_model(an_f32_model(w=[3e38]), np.array([mean]))


@pytest.mark.parametrize("length", [0, 2, 4, 10])
def test_a_mean_of_another_length_is_refused(an_f32_model: ModelFile, length: int) -> None:
    with pytest.raises(WrongLength, match="the mean update"):
        next_model(an_f32_model(a=[0.0], b=[0.0, 0.0]), np.zeros(length))


def test_a_mapped_file_can_be_closed_while_a_fault_in_it_is_being_handled(
    an_f32_model: ModelFile, tmp_path: Path
) -> None:
    path = tmp_path / "new.safetensors"
    path.write_bytes(an_f32_model(a=[1.0], b=[np.nan]))
    base = an_f32_model(a=[0.0], b=[0.0])
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        pieces = difference(mapped, base, parse(path.read_bytes()), parse(base))
        next(pieces)
        try:
            next(pieces)
        except NotFinite:
            mapped.close()  # raises BufferError where a view is left
    assert mapped.closed


def test_a_model_of_64_mib_is_handled_with_a_few_mib_of_memory(tmp_path: Path) -> None:
    base_path, new_path, next_path = (tmp_path / name for name in ("base", "new", "next"))
    arrays = {"w": np.ones((4096, 3584), "<f4"), "half": np.ones(4 * MiB, "<f2"), "steps": np.ones(MiB, "<u2")}
    base_path.write_bytes(safetensors.numpy.save(arrays))
    new_path.write_bytes(safetensors.numpy.save(arrays | {"w": arrays["w"] * 2}))
    del arrays

    with base_path.open("rb") as base_file, new_path.open("rb") as new_file:
        base = mmap.mmap(base_file.fileno(), 0, access=mmap.ACCESS_READ)
        new = mmap.mmap(new_file.fileno(), 0, access=mmap.ACCESS_READ)
        layout = parse_layout(base[:4096], len(base))
        assert len(base) > 64 * MiB
        tracemalloc.start()
        mean = (piece.astype(np.float64) for piece in difference(new, base, parse_layout(new[:4096], len(new)), layout))
        with next_path.open("wb") as out:
            out.writelines(apply_mean(base, layout, mean))
        check_finite(base, layout)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10 * MiB
        assert next_path.stat().st_size == len(base)
        assert next_path.read_bytes() == new[:]
        base.close()
        new.close()


def test_pieces_are_of_limited_size(a_model_file: ModelFile) -> None:
    file = a_model_file({"w": ("F16", (PIECE * 2 + 1,), bytes(PIECE * 4 + 2))})
    assert [len(piece) for piece in difference(file, file, parse(file), parse(file))] == [PIECE, PIECE, 1]
