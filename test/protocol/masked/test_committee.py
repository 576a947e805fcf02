"""Committees: what every client checks before it seals a seed to anybody."""

from collections.abc import Callable
from dataclasses import replace

import masked_world as world
import pytest
from masked_world import CLIENTS, REPLICATED, a_row, the_rows, the_terms

from fedn_py.protocol.masked.committee import (
    BadCommittee,
    CellParameters,
    CellTooLarge,
    CellTooSmall,
    Committee,
    check_committee,
    parameters_for,
)
from fedn_py.protocol.masked.contexts import CellTerms, WrongContext
from fedn_py.protocol.masked.floors import check_quorum
from fedn_py.protocol.masked.lottery import may_serve
from fedn_py.protocol.masked.round_messages import CommitteeBody, CommitteeRow
from fedn_py.protocol.masked.signing import sign

TERMS = the_terms(**REPLICATED)
ROWS = the_rows(TERMS)
NAMED = {client.id: client for client in CLIENTS}
Rows = tuple[CommitteeRow, ...]


def check(rows: Rows, terms: CellTerms = TERMS, policy: world.Policy = world.POLICY, **body: bytes) -> Committee:
    ctx0 = body.get("ctx0", terms.ctx0)
    return check_committee(
        CommitteeBody(ctx0, rows),
        terms.ctx0,
        terms.order,
        terms.plan.beacon,
        world.chains(),
        standing=(policy, world.NOW_S),
    )


def the_client(row: CommitteeRow) -> world.AClient:
    return next(client for client in CLIENTS if client.chain == row.chain)


def idle() -> world.AClient:
    return next(client for client in CLIENTS if client.chain not in {row.chain for row in ROWS})


def with_row(place: int, row: CommitteeRow) -> Rows:
    return (*ROWS[:place], row, *ROWS[place + 1 :])


def test_a_good_committee_gives_its_cell_a_context() -> None:
    committee = check(ROWS)
    assert committee.replicas == (2, 2, 2)
    assert committee.slots == 3
    assert committee.needs_echo
    assert committee.quorum(2) == 5
    assert committee.ctx == world.a_committee(TERMS).ctx
    assert committee.ctx != check(the_rows(TERMS)[:-1]).ctx
    assert not world.a_committee(the_terms()).needs_echo


def test_a_slot_may_lack_replicas_but_not_all_of_them() -> None:
    check((*ROWS[:1], *ROWS[2:]))
    for missing in (ROWS[2:], ROWS[:4], ()):
        with pytest.raises(BadCommittee, match="0 members in slot"):
            check(missing)


def test_a_committee_of_another_cell_is_refused() -> None:
    with pytest.raises(WrongContext):
        check(ROWS, ctx0=b"x" * 32)


def swapped_epk() -> Rows:
    message = world.a_key_message(TERMS, the_client(ROWS[2]), ROWS[2].slot, epk=CLIENTS[0].epk)
    return with_row(2, replace(ROWS[2], key=sign(message, world.COMBINER)))


def altered_epk() -> Rows:
    body = bytearray(ROWS[2].key.body)
    body[40] ^= 1
    return with_row(2, replace(ROWS[2], key=replace(ROWS[2].key, body=bytes(body))))


def another_cells_key() -> Rows:
    client = the_client(ROWS[2])
    return with_row(2, a_row(the_terms(generation=2, **REPLICATED), client, ROWS[2].slot, ROWS[2].replica))


def another_slots_key() -> Rows:
    client = the_client(ROWS[2])
    return with_row(2, replace(a_row(TERMS, client, 0, 0), slot=ROWS[2].slot, replica=ROWS[2].replica))


def unusable_key() -> Rows:
    return with_row(2, a_row(TERMS, the_client(ROWS[2]), ROWS[2].slot, ROWS[2].replica, epk=bytes(32)))


def another_members_key() -> Rows:
    return with_row(2, a_row(TERMS, the_client(ROWS[2]), ROWS[2].slot, ROWS[2].replica, epk=the_client(ROWS[1]).epk))


def stranger() -> Rows:
    sham = world.a_client("mallory")
    chain = world.a_chain("mallory", operator=world.COMBINER)
    return with_row(2, replace(a_row(TERMS, sham, ROWS[2].slot, ROWS[2].replica), chain=chain))


def another_clients_chain() -> Rows:
    return with_row(2, replace(ROWS[2], chain=idle().chain))


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (swapped_epk, "signed by another key"),
        (altered_epk, "does not fit"),
        (another_cells_key, "for another slot, cell or round"),
        (another_slots_key, "for another slot, cell or round"),
        (unusable_key, "nothing can be sealed to"),
        (another_members_key, "has the key of another member"),
        (stranger, "not signed by this network's operator"),
        (another_clients_chain, "signed by another key"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_forged_member_is_refused_by_its_name(forge: Callable[[], Rows], reason: str) -> None:
    with pytest.raises(BadCommittee, match=reason) as refused:
        check(forge())
    assert refused.value.member == "member 1.0"


def test_nobody_sits_twice_and_no_site_does() -> None:
    first = the_client(ROWS[0])
    again = a_row(TERMS, first, 2, 0)
    with pytest.raises(BadCommittee, match="sits twice"):
        check((*ROWS[:4], again))
    two = [world.a_client(name, site="ward", uses=2, index=n) for n, name in enumerate(("iris", "jens"))]
    rows = (a_row(TERMS, two[0], 0, 0), a_row(TERMS, two[1], 1, 0), ROWS[4])
    with pytest.raises(BadCommittee, match="second one of site 'ward'"):
        check(rows)


def test_one_token_under_two_sites_is_still_one_token() -> None:
    """The operator signed one token id twice; its holder must not fill two seats with one use."""
    first, second = the_client(ROWS[0]), idle()
    token = world.TokenCert.decode(second.chain.token.body)
    again = sign(replace(token, token_id=first.registered.token_id), world.OPERATOR)
    entry = replace(world.ClientEntry.decode(second.chain.entry.body), token_id=first.registered.token_id, index=0)
    signed = sign(entry, world.key_of(f"token {token.site}"))
    chain = world.Chain(again, signed, world.signature_over(world.POSSESSION, signed.body, second.key))
    row = replace(a_row(TERMS, second, 1, 0), chain=chain)
    with pytest.raises(BadCommittee, match="entered two keys"):
        check((ROWS[0], row, ROWS[4]))


def test_seats_are_in_their_order_and_lots_ascend() -> None:
    for wrong in (ROWS[::-1], (*ROWS[:4], ROWS[5]), (ROWS[0], ROWS[0], *ROWS[2:])):
        with pytest.raises(BadCommittee):
            check(wrong)
    clients = [the_client(ROWS[1]), the_client(ROWS[0])]
    swapped = tuple(a_row(TERMS, client, 0, replica) for replica, client in enumerate(clients))
    with pytest.raises(BadCommittee, match="lower lot"):
        check((*swapped, *ROWS[2:]))


def test_more_members_than_planned_are_refused() -> None:
    rows = the_rows(the_terms(k=2, r=4, echo_c=1))
    rebound = tuple(a_row(the_terms(), the_client(row), row.slot, row.replica) for row in rows)
    with pytest.raises(BadCommittee, match="must have 1 to 1"):
        check(rebound, the_terms())


def test_a_member_that_the_lottery_did_not_draw_is_refused() -> None:
    terms = the_terms(n_draw=1_000)
    drawn = [
        (client, slot)
        for n in range(400)
        for client in [world.a_client(f"c{n}")]
        for slot in (0, 1)
        if may_serve(terms.plan.beacon, slot, client.registered, 1_000)
    ]
    by_slot = [next(client for client, where in drawn if where == slot) for slot in (0, 1)]
    check(tuple(a_row(terms, client, slot, 0) for slot, client in enumerate(by_slot)), terms)
    undrawn = next(client for client in CLIENTS if not may_serve(terms.plan.beacon, 1, client.registered, 1_000))
    with pytest.raises(BadCommittee, match=r"member 1\.0 was not drawn"):
        check((a_row(terms, by_slot[0], 0, 0), a_row(terms, undrawn, 1, 0)), terms)


def test_an_omitted_honest_candidate_changes_the_committee_but_lets_nobody_undrawn_in() -> None:
    """The threshold does not depend on who is there: leaving winners out does not make losers win."""
    terms = the_terms()
    winner = the_client(the_rows(terms)[0])
    others = [client for client in CLIENTS if client is not winner]
    rows = the_rows(terms, others)
    committee = check(rows, terms)
    assert all(
        may_serve(terms.plan.beacon, member.slot, member.client, terms.order.n_draw) for member in committee.members
    )


def test_a_revoked_member_is_refused_now_and_accepted_in_a_committee_of_the_past() -> None:
    revoked = world.a_policy(revoked_clients=(the_client(ROWS[2]).id,))
    with pytest.raises(BadCommittee, match="has revoked client"):
        check(ROWS, policy=revoked)
    body = CommitteeBody(TERMS.ctx0, ROWS)
    check_committee(body, TERMS.ctx0, TERMS.order, TERMS.plan.beacon, world.chains(), standing=None)


def test_a_member_whose_token_has_ended_is_refused() -> None:
    with pytest.raises(BadCommittee, match="ended"):
        check_committee(
            CommitteeBody(TERMS.ctx0, ROWS),
            TERMS.ctx0,
            TERMS.order,
            TERMS.plan.beacon,
            world.chains(),
            standing=(world.POLICY, world.NOW_S + 3 * world.DAY_S),
        )


@pytest.mark.parametrize(
    ("clients", "expected"),
    [
        (3, CellParameters(2, 1, 1, 3, 3)),
        (11, CellParameters(2, 1, 1, 3, 3)),
        (12, CellParameters(3, 2, 2, 8, 8)),
        (31, CellParameters(3, 2, 2, 8, 8)),
        (32, CellParameters(3, 2, 2, 16, 16)),
        (255, CellParameters(3, 2, 2, 16, 32)),
        (256, CellParameters(5, 2, 4, 64, 64)),
        (4096, CellParameters(5, 2, 4, 64, 64)),
    ],
)
def test_a_cells_size_gives_its_parameters(clients: int, expected: CellParameters) -> None:
    assert parameters_for(clients) == expected
    check_quorum(expected.k, expected.r, expected.echo_c)


@pytest.mark.parametrize("clients", range(3))
def test_a_cell_that_hides_nobody_is_not_run(clients: int) -> None:
    with pytest.raises(CellTooSmall):
        parameters_for(clients)
    with pytest.raises(CellTooLarge):
        parameters_for(4_097 + clients)
