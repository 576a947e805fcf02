"""Messages are values: frozen, without room for anything else, compared by what they say."""

import dataclasses
import inspect
from typing import get_args

import pytest
from builders import ANNA, a_contribution, a_partial, a_plan, an_order

from fedn_py.protocol import messages

KINDS = [kind for _, kind in inspect.getmembers(messages, inspect.isclass) if kind.__module__ == messages.__name__]


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_is_a_frozen_value_that_explains_itself(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(kind)
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")


@pytest.mark.parametrize("union", [messages.ToCombiner, messages.FromCombiner, messages.ToClient, messages.FromClient])
def test_what_may_be_said_on_a_stream_are_messages(union: object) -> None:
    assert set(get_args(union)) <= set(KINDS)


def test_equal_words_are_equal_messages() -> None:
    assert an_order() == an_order()
    assert a_plan(attempt=2) != a_plan()
    assert a_partial(a_contribution(ANNA)) == a_partial(a_contribution(ANNA))


@pytest.mark.parametrize("kind", KINDS)
def test_no_message_carries_an_instant(kind: type) -> None:
    for field in dataclasses.fields(kind):
        assert not field.name.endswith(("_at", "_time", "deadline")), "clocks of two hosts are never compared"
