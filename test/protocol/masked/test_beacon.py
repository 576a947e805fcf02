"""From one beacon to the next: links that show what they claim, and nothing a server made up."""

from dataclasses import replace
from typing import Any

import masked_world as world
import pytest

from fedn_py.protocol.masked.beacon import (
    BeaconTerms,
    KnownBeacon,
    WrongBeacon,
    check_beacon,
    follow,
    session_start,
)
from fedn_py.protocol.masked.contexts import CellTerms, commit_hash
from fedn_py.protocol.masked.lottery import NOTHING_REVEALED, next_beacon, reveals_of
from fedn_py.protocol.masked.round_messages import BeaconLink, CommittedCell, RoundCommitted
from fedn_py.protocol.masked.signing import sign

START = session_start(world.DEPLOYMENT, world.SESSION, 1, world.EPOCH_SEED)


def a_commit(terms: CellTerms, ctx: bytes, known: KnownBeacon, **changed: Any) -> RoundCommitted:
    cells = (CommittedCell(terms.order.cell, ctx, b"h" * 32, 5), CommittedCell(b"Z" * 16, b"z" * 32, b"h" * 32, 5))
    plan = terms.plan
    return replace(
        RoundCommitted(plan.session, plan.round, plan.attempt, world.MODEL, cells, known.parent_commit), **changed
    )


def a_link(known: KnownBeacon, **changed: Any) -> BeaconLink:
    """The link of a committed round; ``commit_`` before a name changes the commit."""
    plan = world.a_plan(round=known.round, beacon=known.beacon, parent_commit=known.parent_commit)
    terms = world.the_terms(plan, **world.REPLICATED)
    committee = world.a_committee(terms)
    in_commit = {
        name.removeprefix("commit_"): changed.pop(name) for name in list(changed) if name.startswith("commit_")
    }
    link = BeaconLink(
        round=known.round,
        attempt=1,
        policy_hash=world.POLICY_HASH,
        order=sign(terms.order, world.REDUCER),
        commit=sign(a_commit(terms, committee.ctx, known, **in_commit), world.REDUCER),
        rows=world.the_rows(terms),
        nonces=tuple(member.nonce for member in world.members_of(committee)),
    )
    return replace(link, **changed)


def terms_now(**policy: Any) -> BeaconTerms:
    return BeaconTerms(world.chains(), world.a_policy(**policy), world.REDUCERS)


def test_a_round_that_all_members_reveal_gives_the_next_beacon() -> None:
    link = a_link(START)
    known = follow(START, link, terms_now())
    assert known.round == 2
    assert known.beacon == next_beacon(START.beacon, 1, reveals_of(link.nonces, 6))
    assert known.parent_commit == commit_hash(link.commit.body)


def test_a_withheld_reveal_gives_the_one_alternative() -> None:
    known = follow(START, a_link(START, nonces=()), terms_now())
    assert known.beacon == next_beacon(START.beacon, 1, NOTHING_REVEALED)
    for left_out in range(6):
        nonces = a_link(START).nonces
        with pytest.raises(WrongBeacon, match="5 of 6 members"):
            follow(START, a_link(START, nonces=nonces[:left_out] + nonces[left_out + 1 :]), terms_now())


def test_another_nonce_than_the_committed_one_is_refused() -> None:
    nonces = a_link(START).nonces
    with pytest.raises(WrongBeacon, match=r"member 0\.1 of round 1 committed to another nonce"):
        follow(START, a_link(START, nonces=(nonces[0], b"x" * 32, *nonces[2:])), terms_now())


def test_a_committee_that_is_not_the_committed_one_is_refused() -> None:
    """Else a reducer would try committees of its own making until the next lottery suits it."""
    link = a_link(START)
    for changed in (
        {"rows": link.rows[:-1], "nonces": link.nonces[:-1]},
        {"policy_hash": b"x" * 32},
        {"order": sign(world.an_order(world.a_plan(), generation=2, **world.REPLICATED), world.REDUCER)},
        {"order": sign(world.an_order(world.a_plan(), cell=b"Z" * 16, **world.REPLICATED), world.REDUCER)},
    ):
        with pytest.raises(WrongBeacon):
            follow(START, replace(link, **changed), terms_now())


def test_the_beacon_cell_is_the_one_with_the_lowest_id() -> None:
    terms = world.the_terms(world.a_plan(), **world.REPLICATED)
    ctx = world.a_committee(terms).ctx
    lower = (CommittedCell(b"A" * 16, b"a" * 32, b"h" * 32, 5), CommittedCell(world.CELL, ctx, b"h" * 32, 5))
    with pytest.raises(WrongBeacon, match="not that of the lowest cell"):
        follow(START, a_link(START, commit_cells=lower), terms_now())


def test_only_reducers_commit_rounds_and_order_cells() -> None:
    link = a_link(START)
    for name in ("commit", "order"):
        body = {"commit": RoundCommitted, "order": world.CellOrder}[name].decode(getattr(link, name).body)
        with pytest.raises(WrongBeacon, match="not signed by a reducer"):
            follow(START, replace(link, **{name: sign(body, world.COMBINER)}), terms_now())


@pytest.mark.parametrize("changed", [{"session": b"T" * 16}, {"round": 2}, {"previous": b"x" * 32}, {"attempt": 2}])
def test_a_commit_of_another_session_round_or_line_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(WrongBeacon):
        follow(START, a_link(START, **{f"commit_{name}": value for name, value in changed.items()}), terms_now())


@pytest.mark.parametrize(
    ("floor", "said"),
    [
        ({"n_draw_min": 6}, "n_draw 5 < 6"),
        ({"k_min": 4}, "k 3 < 4"),
        ({"r_min": 3}, "r 2 < 3"),
        ({"g_min": 4}, "g_min 3 < 4"),
    ],
    ids=["n_draw", "k", "r", "g_min"],
)
def test_a_link_of_a_committee_below_a_floor_is_refused(floor: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongBeacon, match=f"below the operator's floors: {said}$"):
        follow(START, a_link(START), terms_now(**floor))


# ---- plans


def the_links(count: int) -> tuple[list[BeaconLink], KnownBeacon]:
    links, known = [], START
    for _ in range(count):
        links.append(a_link(known))
        known = follow(known, links[-1], terms_now())
    return links, known


def test_a_client_that_missed_rounds_follows_the_links_from_what_it_knew() -> None:
    links, known = the_links(3)
    plan = world.a_plan(round=4, beacon=known.beacon, parent_commit=known.parent_commit, beacon_proof=(links[-1],))
    assert check_beacon(plan, START, links[:-1], terms_now()) == known
    assert check_beacon(plan, known, (), terms_now()) == known
    with pytest.raises(WrongBeacon, match="round 3 is offered for round 1"):
        check_beacon(plan, START, (), terms_now())


def test_a_plan_that_draws_by_other_bytes_is_refused() -> None:
    assert check_beacon(world.a_plan(), START, (), terms_now()) == START
    for changed in ({"beacon": b"x" * 32}, {"parent_commit": b"x" * 32}, {"session_number": 2}, {"round": 2}):
        with pytest.raises(WrongBeacon):
            check_beacon(world.a_plan(**changed), START, (), terms_now())


def test_a_plan_for_a_round_before_the_last_known_one_is_refused() -> None:
    _, known = the_links(1)
    with pytest.raises(WrongBeacon):
        check_beacon(world.a_plan(), known, (), terms_now())


def test_another_attempt_buys_no_other_draw() -> None:
    assert check_beacon(world.a_plan(attempt=3), START, (), terms_now()).beacon == START.beacon
