from collections.abc import Callable

import pytest

from fedn_py.model.layout import ModelLayout, parse_layout
from fedn_py.model.matching import MissingTensor, UnexpectedTensor, WrongDtype, WrongShape, match_tensors

ModelFile = Callable[..., bytes]

WEIGHT = ("F32", (2, 3), bytes(24))
BIAS = ("F32", (3,), bytes(12))
STEPS = ("I64", (), bytes(8))


@pytest.fixture(scope="module")
def layout_of(a_model_file: ModelFile) -> Callable[..., ModelLayout]:
    def build(**tensors: tuple[str, tuple[int, ...], bytes]) -> ModelLayout:
        file = a_model_file(tensors)
        return parse_layout(file, len(file))

    return build


def test_tensors_in_another_order_match_by_name(layout_of) -> None:
    model = layout_of(steps=STEPS, bias=BIAS, weight=WEIGHT)
    base = layout_of(weight=WEIGHT, bias=BIAS, steps=STEPS)
    assert match_tensors(model, base) == {tensor.name: tensor for tensor in model.tensors}


def test_a_missing_tensor_is_named(layout_of) -> None:
    with pytest.raises(MissingTensor, match="'bias'") as caught:
        match_tensors(layout_of(weight=WEIGHT), layout_of(weight=WEIGHT, bias=BIAS))
    assert caught.value.tensor == "bias"


def test_an_unexpected_tensor_is_named(layout_of) -> None:
    with pytest.raises(UnexpectedTensor, match="'bias'"):
        match_tensors(layout_of(weight=WEIGHT, bias=BIAS), layout_of(weight=WEIGHT))


def test_a_wrong_type_is_named_with_both_types(layout_of) -> None:
    with pytest.raises(WrongDtype, match="'bias' is of type F16, in the global model of F32"):
        match_tensors(layout_of(bias=("F16", (3,), bytes(6))), layout_of(bias=BIAS))


def test_a_wrong_shape_is_named_with_both_shapes(layout_of) -> None:
    with pytest.raises(WrongShape, match=r"'weight' is of shape \[3, 2\], in the global model of \[2, 3\]") as caught:
        match_tensors(layout_of(weight=("F32", (3, 2), bytes(24))), layout_of(weight=WEIGHT))
    assert (caught.value.found, caught.value.expected) == ((3, 2), (2, 3))
    assert caught.value.remedy


def test_integer_tensors_must_match_too(layout_of) -> None:
    with pytest.raises(WrongShape, match="'steps'"):
        match_tensors(layout_of(weight=WEIGHT, steps=("I64", (1,), bytes(8))), layout_of(weight=WEIGHT, steps=STEPS))
