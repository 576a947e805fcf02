"""What has grown is a value like a tuple, and one element more copies none of the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.protocol.grown import Grown


@given(st.lists(st.tuples(st.integers(0, 30), st.integers())))
def test_what_has_grown_is_what_tuples_of_the_same_are_whichever_is_made_longer(steps: list[tuple[int, int]]) -> None:
    grown: list[tuple[Grown[int], tuple[int, ...]]] = [(Grown(), ())]
    for which, element in steps:
        one, same = grown[which % len(grown)]
        grown.append((one.and_(element), (*same, element)))
    for one, same in grown:
        assert one == same
        assert same == one
        assert one == Grown(same)
        assert hash(one) == hash(Grown(same))
        assert (len(one), list(one), one[1:], one[-1:], bool(one)) == (
            len(same),
            list(same),
            same[1:],
            same[-1:],
            bool(same),
        )
        assert [one[place] for place in range(-len(same), len(same))] == [*same, *same]
        assert one != (*same, 1)


def test_an_index_beyond_its_own_end_finds_nothing_of_a_longer_one() -> None:
    shorter = Grown([1])
    longer = shorter.and_(2)
    assert longer[1] == 2
    for place in (1, -2):
        with pytest.raises(IndexError):
            shorter[place]


def test_one_more_shares_all_others() -> None:
    one = Grown([1])
    two = one.and_(2)
    assert two._elements is one._elements
    assert one.and_(3)._elements is not one._elements  # a second time: the list has gone on without it
