from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.model.pieces import Cursor, WrongLength, elements

cuts = st.lists(st.integers(0, 400), max_size=12)


def cut(content: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(content)) for place in places), len(content)]
    return [content[begin:end] for begin, end in pairwise(edges)]


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=50), cuts, st.sampled_from(["<f4", "<f8"]))
def test_bytes_cut_anywhere_give_the_same_elements(values: list[float], places: list[int], dtype: str) -> None:
    chunks = cut(np.array(values, dtype).tobytes(), places)
    assert [x for array in elements(chunks, dtype) for x in array.tolist()] == values


def test_an_element_that_is_not_whole_is_refused() -> None:
    with pytest.raises(WrongLength, match="has 7 bytes, not 8"):
        list(elements([bytes(4), bytes(3)], "<f4"))


@given(st.integers(0, 60), cuts, st.lists(st.integers(1, 20), min_size=1))
def test_a_cursor_gives_every_element_once_in_order(count: int, places: list[int], portions: list[int]) -> None:
    arrays = elements(cut(np.arange(count, dtype="<f8").tobytes(), places), "<f8")
    cursor = Cursor(arrays, "it", count * 8)
    taken: list[float] = []
    while len(taken) < count:
        piece = cursor.take(portions[len(taken) % len(portions)])
        assert 1 <= len(piece) <= portions[len(taken) % len(portions)]
        taken += piece.tolist()
    cursor.finish()
    assert taken == list(range(count))


def test_a_cursor_names_a_stream_that_ends_early() -> None:
    cursor = Cursor([np.zeros(2), np.zeros(0)], "the sum", 24)
    cursor.take(2)
    with pytest.raises(WrongLength, match="the sum has 16 bytes, not 24") as caught:
        cursor.take(1)
    assert (caught.value.found, caught.value.expected) == (16, 24)


def test_a_cursor_names_a_stream_that_goes_on_too_long() -> None:
    cursor = Cursor([np.zeros(2), np.zeros(0), np.zeros(1)], "the sum", 16)
    cursor.take(2)
    with pytest.raises(WrongLength, match="the sum has 24 bytes, not 16"):
        cursor.finish()
