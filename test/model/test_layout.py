"""Headers of model files, well-formed and hostile; the safetensors library is the oracle."""

import json
from collections.abc import Callable
from math import prod

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn_py.model.dtypes import SIZES
from fedn_py.model.layout import (
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    ModelLayout,
    NotAModel,
    NothingToTrain,
    UnsupportedModel,
    head_size,
    parse_layout,
)

ModelFile = Callable[..., bytes]

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda n: n != "__metadata__")
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def tensor_sets(draw: st.DrawFn) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    result = {}
    for name in draw(st.lists(names, unique=True, max_size=6)):
        dtype, shape = draw(st.sampled_from(sorted(SIZES))), draw(shapes)
        size = prod(shape) * SIZES[dtype]
        result[name] = (dtype, shape, draw(st.binary(min_size=size, max_size=size)))
    return result


def with_header(header: bytes | str, body: bytes = b"") -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return len(raw).to_bytes(8, "little") + raw + body


def with_entry(body: bytes = b"", **entry: object) -> bytes:
    return with_header(json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | entry}), body)


def parse(file: bytes) -> ModelLayout:
    return parse_layout(file, len(file))


@given(tensors=tensor_sets(), padding=st.integers(0, 9), order=st.randoms())
def test_a_layout_agrees_with_the_library_for_all_types(a_model_file: ModelFile, tensors, padding, order) -> None:
    header_order = list(tensors)
    order.shuffle(header_order)
    file = a_model_file(tensors, header_order=header_order, padding=padding)

    layout = parse(file)

    found = {t.name: {"dtype": t.dtype, "shape": list(t.shape), "data": file[t.begin : t.end]} for t in layout.tensors}
    assert found == dict(safetensors.deserialize(file))
    assert [t.begin for t in layout.tensors] == sorted(t.begin for t in layout.tensors)
    assert layout.header_size == head_size(file[:8])
    assert layout.file_size == len(file)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
def test_files_that_the_library_writes_are_read(dtype: str) -> None:
    arrays = {"a": np.ones((2, 3), dtype), "scalar": np.array(1, dtype), "empty": np.zeros((0, 7), dtype)}
    file = safetensors.numpy.save(arrays, metadata={"format": "np"})

    layout = parse(file)

    assert {t.name: t.shape for t in layout.tensors} == {"a": (2, 3), "scalar": (), "empty": (0, 7)}
    for tensor in layout.tensors:
        assert file[tensor.begin : tensor.end] == arrays[tensor.name].tobytes()


def test_the_head_alone_is_enough(an_f32_model: ModelFile) -> None:
    file = an_f32_model(w=[1.0, 2.0])
    assert parse_layout(file[: head_size(file[:8])], len(file)) == parse(file)


def test_float_tensors_make_up_the_update_in_the_order_of_their_bytes(a_model_file: ModelFile) -> None:
    layout = parse(
        a_model_file(
            {
                "z": ("F32", (2, 2), bytes(16)),
                "steps": ("I64", (), bytes(8)),
                "a": ("BF16", (), bytes(2)),
                "none": ("F16", (0, 5), b""),
                "mask": ("BOOL", (3,), bytes(3)),
            },
            header_order=["a", "mask", "none", "steps", "z"],
        )
    )
    assert {tensor.name for tensor in layout.float_tensors} == {"z", "a", "none"}
    assert [tensor.name for tensor in layout.float_tensors if tensor.count] == ["z", "a"]
    assert (layout.n_parameters, layout.update_dtype, layout.update_size, layout.sum_size) == (5, "<f4", 20, 40)
    assert [layout.tensor_at(index).name for index in range(5)] == ["z", "z", "z", "z", "a"]


def test_one_f64_tensor_makes_the_whole_update_float64(a_model_file: ModelFile) -> None:
    layout = parse(a_model_file({"a": ("F16", (3,), bytes(6)), "b": ("F64", (1,), bytes(8))}))
    assert (layout.update_dtype, layout.update_size) == ("<f8", 32)


def test_an_empty_model_can_be_read_but_not_trained() -> None:
    layout = parse(with_header("{}"))
    assert (layout.tensors, layout.n_parameters, layout.update_size) == ((), 0, 0)
    with pytest.raises(NothingToTrain):
        layout.check_trainable()


def test_a_model_of_integers_only_cannot_be_trained(a_model_file: ModelFile) -> None:
    with pytest.raises(NothingToTrain):
        parse(a_model_file({"steps": ("I32", (2,), bytes(8))})).check_trainable()


def test_a_signature_depends_on_names_types_shapes_and_order_and_on_nothing_else(a_model_file: ModelFile) -> None:
    a, b = ("F32", (2,), bytes(8)), ("F32", (2,), b"\x01" * 8)
    reference = parse(a_model_file({"a": a, "b": b})).signature()
    assert parse(a_model_file({"a": b, "b": a}, header_order=["b", "a"], padding=5)).signature() == reference
    others = [
        {"b": b, "a": a},
        {"a": a, "c": b},
        {"a": ("I32", (2,), bytes(8)), "b": b},
        {"a": ("F32", (2, 1), bytes(8)), "b": b},
        {"a": a},
    ]
    assert len({reference, *(parse(a_model_file(other)).signature() for other in others)}) == 6


# ---- hostile headers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\x02\0\0",
        b"\0" * 8,
        b"\x01" + b"\0" * 7 + b"{",
        b"\x09" + b"\0" * 7 + b"{}",
        b"\xff" * 8 + b"{}",
        b"PK\x03\x04\x14\x00\x00\x00" + bytes(50),
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00" + bytes(50),
    ],
)
def test_a_file_without_a_whole_header_is_no_model(file: bytes) -> None:
    with pytest.raises(NotAModel) as caught:
        parse(file)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "  {}",
        "\ufeff{}",
        "{",
        "{}}",
        "{} x",
        "nul",
        '{"w": 1}',
        '{"w": null}',
        '{"w": NaN}',
        '{"w": -Infinity}',
        '{"w": []}',
        '{"__metadata__": {"a": 1}}',
        '{"__metadata__": ["a"]}',
        '{"__metadata__": null}',
        '{"__metadata__": {"a": "\\ud800"}}',
        '{"__metadata__": {"a": "b", "a": "b"}}',
        '{"__metadata__": {}, "__metadata__": {}}',
        '{"w": {"dtype": "F32", "shape": [0]}}',
        '{"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0], "more": 1}}',
        '{"w": {"dtype": "F32", "dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}',
        '{"": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}',
        '{"\\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}',
        '{"' + "n" * 1025 + '": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}',
        '{"w": {"dtype": "F32", "shape": [' + "9" * 5000 + '], "data_offsets": [0, 0]}}',
        b'{"w\xff": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}',
        '{"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}'.encode("utf-16-le"),
    ],
)
def test_a_header_that_is_not_as_it_must_be_is_no_model(header: str | bytes) -> None:
    with pytest.raises(NotAModel):
        parse(with_header(header))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": 4},
        {"dtype": None},
        {"dtype": ["F32"]},
        {"shape": 1},
        {"shape": [1.0]},
        {"shape": [True]},
        {"shape": ["1"]},
        {"shape": [-1]},
        {"shape": [2]},
        {"shape": [[1]]},
        {"shape": [2**63]},
        {"shape": [2**62, 2**62]},
        {"shape": [2**62, 4, 0], "data_offsets": [0, 0]},
        {"data_offsets": [0]},
        {"data_offsets": [0, 4, 4]},
        {"data_offsets": [4, 0]},
        {"data_offsets": [0, 8]},
        {"data_offsets": [1, 5]},
        {"data_offsets": [2**62, 2**62 + 4]},
        {"data_offsets": [-4, 0]},
        {"data_offsets": {"0": 4}},
    ],
)
def test_an_entry_that_contradicts_itself_or_the_file_is_no_model(entry: dict[str, object]) -> None:
    with pytest.raises(NotAModel):
        parse(with_entry(bytes(4), **entry))


@pytest.mark.parametrize("dtype", ["C64", "F8_E4M3", "F4", "f32", "", "X" * 10_000])
def test_an_element_type_that_is_not_supported_is_named_with_a_way_out(dtype: str) -> None:
    with pytest.raises(UnsupportedModel, match="'w'") as caught:
        parse(with_entry(bytes(4), dtype=dtype))
    assert "BF16" in caught.value.remedy
    assert len(caught.value.message) < 200


def test_more_than_32_dimensions_are_not_supported() -> None:
    assert parse(with_entry(bytes(4), shape=[1] * 32)).n_parameters == 1
    with pytest.raises(UnsupportedModel, match="33 dimensions"):
        parse(with_entry(bytes(4), shape=[1] * 33))


@pytest.mark.parametrize(
    "ranges", [[(0, 4), (0, 4)], [(0, 4), (2, 6)], [(0, 4), (5, 9)], [(0, 4), (4, 8), (4, 8)], [(4, 8)]]
)
def test_ranges_that_overlap_or_leave_gaps_are_no_model(ranges: list[tuple[int, int]]) -> None:
    entries = {f"t{i}": {"dtype": "F32", "shape": [1], "data_offsets": pair} for i, pair in enumerate(ranges)}
    with pytest.raises(NotAModel, match="begins at byte"):
        parse(with_header(json.dumps(entries), bytes(max(end for _, end in ranges))))


@pytest.mark.parametrize("extra", [-1, 1, 10**15])
def test_a_file_longer_or_shorter_than_its_tensors_is_no_model(an_f32_model: ModelFile, extra: int) -> None:
    file = an_f32_model(w=[1.0])
    with pytest.raises(NotAModel, match="its tensors end at"):
        parse_layout(file, len(file) + extra)


def test_a_header_larger_than_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(UnsupportedModel, match="header"):
        head_size((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
    assert head_size(MAX_HEADER_BYTES.to_bytes(8, "little")) == MAX_HEADER_BYTES + 8


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [100, 100_000, 5_000_000])
def test_deep_nesting_is_refused(opening: str, depth: int) -> None:
    with pytest.raises((NotAModel, UnsupportedModel)):
        parse(with_header('{"w":' + opening * depth))


@pytest.mark.parametrize("filling", ["[],", "{},", '"ab",', "1,"])
def test_a_header_that_would_unfold_into_gigabytes_is_refused_unread(filling: str) -> None:
    with pytest.raises(UnsupportedModel, match="lists more"):
        parse(with_header('{"w":[' + filling * 3_000_000 + "0]}"))


def test_a_hundred_thousand_tensors_are_read_and_one_more_is_refused() -> None:
    def with_tensors(count: int) -> bytes:
        entries = (f'"t{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(count))
        return with_header("{" + ",".join(entries) + "}")

    assert len(parse(with_tensors(MAX_TENSORS)).tensors) == MAX_TENSORS
    with pytest.raises(UnsupportedModel, match="100,001 tensors"):
        parse(with_tensors(MAX_TENSORS + 1))


def assert_parses_or_is_refused(file: bytes) -> None:
    """What is accepted must be consistent, and acceptable to the library as well."""
    try:
        layout = parse(file)
    except (NotAModel, UnsupportedModel):
        return
    position = layout.header_size
    for tensor in layout.tensors:
        assert tensor.begin == position
        assert tensor.end - tensor.begin == prod(tensor.shape) * SIZES[tensor.dtype]
        position = tensor.end
    assert position == len(file)
    assert {name for name, _ in safetensors.deserialize(file)} == {tensor.name for tensor in layout.tensors}


@given(tensors=tensor_sets(), cut=st.floats(0, 1))
def test_a_truncated_file_is_no_model(a_model_file: ModelFile, tensors, cut: float) -> None:
    file = a_model_file(tensors)
    with pytest.raises(NotAModel):
        parse(file[: int(cut * (len(file) - 1))])


@settings(max_examples=500)
@given(tensors=tensor_sets(), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_give_a_consistent_layout_or_a_named_fault(a_model_file: ModelFile, tensors, flips) -> None:
    file = bytearray(a_model_file(tensors))
    head = int.from_bytes(file[:8], "little") + 8
    for place, mask in flips:
        file[int(place * (head - 1))] ^= mask
    assert_parses_or_is_refused(bytes(file))


@settings(max_examples=300)
@given(st.binary(max_size=100), st.binary(max_size=20))
def test_random_bytes_give_a_consistent_layout_or_a_named_fault(header: bytes, body: bytes) -> None:
    assert_parses_or_is_refused(header)
    assert_parses_or_is_refused(with_header(header, body))
    assert_parses_or_is_refused(with_header(b"{" + header, body))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["F32", "U8"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
extents = st.one_of(st.integers(-1, 5), st.sampled_from([2**31, 2**63 - 1, 2**64, 1.0, True]))
entry_like = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "F32", "F8_E5M2"]) | json_values,
        "shape": st.lists(extents, max_size=3) | json_values,
        "data_offsets": st.lists(extents, min_size=1, max_size=3) | json_values,
    }
)


@settings(max_examples=500)
@given(
    st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), entry_like | json_values, max_size=3),
    st.binary(max_size=20),
)
def test_any_json_gives_a_consistent_layout_or_a_named_fault(header: dict[str, object], body: bytes) -> None:
    assert_parses_or_is_refused(with_header(json.dumps(header), body))
