"""A crowd of clients is a value like a frozenset, and one more or one less of them copies few of the others."""

from collections.abc import Set

from hypothesis import given
from hypothesis import strategies as st

from fedn_py.identity import ClientId
from fedn_py.protocol.crowd import Crowd

CLIENTS = [ClientId(f"{number:032x}") for number in range(10_000)]
SETS = st.frozensets(st.sampled_from(CLIENTS[:40]))


@given(SETS, SETS)
def test_a_crowd_is_what_a_frozenset_of_the_same_clients_is(
    some: frozenset[ClientId], others: frozenset[ClientId]
) -> None:
    crowd: Set[ClientId] = Crowd(some)
    for is_one, is_other in (
        (crowd, some),
        (crowd | others, some | others),
        (crowd - others, some - others),
        (crowd & others, some & others),
        (crowd, some),  # as none of it has changed it
    ):
        assert is_one == is_other
        assert is_other == is_one
        assert hash(is_one) == hash(Crowd(is_other))
        assert (len(is_one), sorted(is_one)) == (len(is_other), sorted(is_other))
        assert all((client in is_one) == (client in is_other) for client in CLIENTS[:40])


def test_one_client_less_shares_the_parts_of_all_others() -> None:
    all_of_them = Crowd(CLIENTS)
    fewer = all_of_them - {CLIENTS[5]}
    more = fewer | {CLIENTS[5]}
    for changed in (fewer, more):
        shared = sum(one is other for one, other in zip(changed._parts, all_of_them._parts, strict=True))
        assert shared == len(all_of_them._parts) - 1


def test_what_changes_nothing_is_the_same_crowd() -> None:
    crowd = Crowd(CLIENTS[:2])
    assert crowd | {CLIENTS[0]} is crowd
    assert crowd - {CLIENTS[9]} is crowd


def test_it_is_shown_in_its_order() -> None:
    assert repr(Crowd({ClientId("b"), ClientId("a")})) == "Crowd(['a', 'b'])"
