"""What plans are held to."""

import masked_world as world
import pytest

from fedn_py.masking.fixed_point import CannotHold
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.floors import (
    PlanBelowFloor,
    QuorumBeyondCommittee,
    WrongPolicy,
    check_floors,
    check_quorum,
    echo_quorum,
)


def check(terms: CellTerms, **policy: object) -> None:
    check_floors(terms, world.a_policy(**policy), world.POLICY_HASH)


def test_a_plan_at_every_floor_is_accepted() -> None:
    check(world.the_terms())
    check(world.the_terms(**world.REPLICATED), k_min=3, r_min=2)


PLAN_CHANGES = {
    "mode": {"mode": "xaynet"},
    "n_max": {"n_max": 1_001},
    "clip": {"clip": 10.5},
    "weight_cap": {"weight_cap": 1_000_001, "n_max": 10},
    "metrics": {"metrics_release": "client"},
}
ORDER_CHANGES = {"g_min": {"g_min": 2}, "k": {"k": 1}, "n_draw": {"n_draw": 4}}


@pytest.mark.parametrize("term", PLAN_CHANGES)
def test_a_plan_below_a_floor_is_refused_by_its_name(term: str) -> None:
    with pytest.raises(PlanBelowFloor) as refused:
        check(world.the_terms(world.a_plan(**PLAN_CHANGES[term])))
    assert refused.value.terms == (term,)


@pytest.mark.parametrize("term", ORDER_CHANGES)
def test_an_order_below_a_floor_is_refused_by_its_name(term: str) -> None:
    with pytest.raises(PlanBelowFloor) as refused:
        check(world.the_terms(**ORDER_CHANGES[term]))
    assert refused.value.terms == (term,)


def test_a_cell_that_draws_for_fewer_clients_than_it_opens_is_refused() -> None:
    """It would draw everybody, and servers could choose the committee by keeping others out."""
    with pytest.raises(PlanBelowFloor) as refused:
        check(world.the_terms(g_min=64, n_draw=63))
    assert refused.value.terms == ("n_draw",)
    check(world.the_terms(g_min=64, n_draw=64))


def test_what_the_policy_raises_is_asked_for() -> None:
    terms = world.the_terms()
    for name, floor, term in (
        ("modes", (), "mode"),
        ("r_min", 2, "r"),
        ("clip_min", 1.5, "clip"),
        ("reopen", "strict", "reopen"),
        ("metrics", "none", "metrics"),
    ):
        with pytest.raises(PlanBelowFloor) as refused:
            check(terms, **{name: floor})
        assert refused.value.terms == (term,)
    check(world.the_terms(world.a_plan(reopen="strict")), reopen="strict")


def test_all_that_is_below_is_named_at_once() -> None:
    with pytest.raises(PlanBelowFloor) as refused:
        check(world.the_terms(world.a_plan(clip=99.0), g_min=1, k=1))
    assert refused.value.terms == ("g_min", "k", "clip")


def test_a_plan_under_another_policy_is_refused() -> None:
    with pytest.raises(WrongPolicy):
        check(world.the_terms(world.a_plan(policy_hash=b"x" * 32)))


def test_a_plan_whose_sum_could_overflow_is_refused() -> None:
    with pytest.raises(CannotHold):
        check(world.the_terms(world.a_plan(weight_cap=10**6, n_max=10**4)), n_max_max=10**5)


def test_an_echo_that_one_corrupt_member_in_each_other_slot_could_cheat_is_refused() -> None:
    """With echo_c = 1, k = 3, r = 2 the quorum is 4 of 6, and two sets have it at once."""
    with pytest.raises(PlanBelowFloor) as refused:
        check(world.the_terms(**{**world.REPLICATED, "echo_c": 1}))
    assert refused.value.terms == ("echo_c",)


@pytest.mark.parametrize(
    ("k", "r", "quorum"),
    [(2, 1, 2), (2, 2, 3), (3, 2, 5), (5, 2, 8), (7, 2, 11)],
)
def test_the_quorum_holds_against_a_corrupt_member_in_all_slots_but_one(k: int, r: int, quorum: int) -> None:
    assert echo_quorum(k * r, k - 1) == quorum
    check_quorum(k, r, k - 1)


def test_no_two_sets_both_have_a_quorum() -> None:
    for members in range(1, 20):
        for corrupt in range(members):
            assert 2 * echo_quorum(members, corrupt) > members + corrupt


def test_a_quorum_that_no_committee_reaches_is_refused() -> None:
    with pytest.raises(QuorumBeyondCommittee, match="an echo of 7 is asked of 6 members"):
        check(world.the_terms(k=3, r=2, echo_c=6))
    check_quorum(3, 2, 4)
    with pytest.raises(QuorumBeyondCommittee):
        check_quorum(2, 1, 2)
    with pytest.raises(QuorumBeyondCommittee):
        check_quorum(3, 2, 6)
