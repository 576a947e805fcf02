"""A trail is a chain from the seed model on: no gap, no fork, no stranger."""

import pytest

from fedn_py.identity import Digest
from fedn_py.reducer.trail import Link, faults_of

SEED, A, B, C = (Digest(letter * 64) for letter in "0abc")
WHOLE = (Link(1, SEED, A), Link(2, A, B), Link(3, B, C))


def test_a_chain_has_no_faults_in_whatever_order_it_comes() -> None:
    assert list(faults_of("s", SEED, WHOLE)) == []
    assert list(faults_of("s", SEED, WHOLE[::-1])) == []
    assert list(faults_of("s", SEED, ())) == []


@pytest.mark.parametrize(
    ("links", "said"),
    [
        (WHOLE[1:], "lacks round 1"),
        ((WHOLE[0], Link(4, A, C)), "lacks rounds 2 to 3"),
        ((WHOLE[0], Link(1, SEED, B)), "two models of round 1"),
        ((Link(1, B, A),), f"from model {B}, and the seed model is {SEED}"),
        ((WHOLE[0], Link(2, SEED, B)), f"from model {SEED}, and the model of round 1 is {A}"),
    ],
)
def test_what_is_wrong_is_named(links: tuple[Link, ...], said: str) -> None:
    (fault,) = faults_of("s", SEED, links)
    assert said in fault
