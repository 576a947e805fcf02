"""The lottery: who may serve, and that nobody gets a second draw."""

from dataclasses import replace

import masked_world as world
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from fedn_py.protocol.masked.lottery import (
    CANDIDATES,
    NOTHING_REVEALED,
    Candidate,
    Chosen,
    NoSumParticipant,
    SessionTooFar,
    check_session_number,
    choose,
    drawn_for,
    first_beacon,
    lot,
    may_serve,
    next_beacon,
    reveals_of,
    slots_drawn,
)
from fedn_py.protocol.masked.registry import Registered, verify_chain
from fedn_py.protocol.masked.signing import signature_over

BEACON = first_beacon(b"D" * 16, 1, b"\x55" * 32)
ANNA = world.CLIENTS[0].registered


def many(count: int) -> list[Registered]:
    """Clients of as many sites; only what the lottery looks at is filled in."""
    return [
        replace(
            ANNA,
            client_id=world.bytes_of(f"id {n}"),
            token_id=world.bytes_of(f"token {n}", 16),
            site=f"site {n}",
        )
        for n in range(count)
    ]


def test_known_answers() -> None:
    assert BEACON.hex() == "3db4d9e854309e40fc0c6d6060d0456b1c4de60ba463bccf90b144b9cb0eafe0"
    second = next_beacon(BEACON, 1, reveals_of([b"\1" * 32, b"\2" * 32], 2))
    assert second.hex() == "6369b7c5c0954b763e14db6e2da34ec8e5a6449a8fcc0530df57d26709cda41f"
    assert lot(second, 1, b"T" * 16, 0) == 3581593983406020896


def test_everybody_of_a_small_cell_may_serve_and_eight_of_a_large_one_on_average() -> None:
    clients = many(2_000)
    for n_draw in (1, 5, 8):
        assert all(may_serve(BEACON, slot, client, n_draw) for client in clients[:20] for slot in range(3))
    drawn = [sum(may_serve(BEACON, slot, client, 2_000) for client in clients) for slot in range(50)]
    assert 6.5 < sum(drawn) / len(drawn) < 9.5


def test_the_threshold_is_an_exact_integer() -> None:
    threshold = CANDIDATES * 2**64 // 1_000
    for client in many(300):
        below = lot(BEACON, 0, client.token_id, client.index) < threshold
        assert may_serve(BEACON, 0, client, 1_000) == below


def test_a_client_offers_itself_where_its_lot_is_best() -> None:
    for client in many(50):
        slots = slots_drawn(BEACON, 5, client, 20)
        assert set(slots) == {slot for slot in range(5) if may_serve(BEACON, slot, client, 20)}
        lots = [lot(BEACON, slot, client.token_id, client.index) for slot in slots]
        assert lots == sorted(lots)


def test_a_new_key_under_one_token_draws_the_same_lot() -> None:
    """A client that makes keys until one wins gets nothing: its lot goes by what the operator made."""
    lots = set()
    for n in range(50):
        key = SigningKey(world.bytes_of(f"ground {n}"))
        entry = world.an_entry("ward", bytes(key.verify_key))
        chain = world.Chain(world.a_token("ward"), entry, signature_over(world.POSSESSION, entry.body, key))
        client = verify_chain(chain, world.TRUST)
        lots.add(lot(BEACON, 0, client.token_id, client.index))
    assert len(lots) == 1


def test_another_signature_by_one_key_draws_the_same_lot() -> None:
    """Ed25519 lets a signer make any number of signatures of one message, all of them valid; none is drawn by."""
    from nacl.bindings import crypto_core_ed25519_scalar_add as add
    from nacl.bindings import crypto_core_ed25519_scalar_mul as mul
    from nacl.bindings import crypto_core_ed25519_scalar_reduce as reduce
    from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp as base
    from nacl.hash import sha512

    seed, message = world.bytes_of("mallory"), b"round 1, slot 0"
    key = SigningKey(seed)
    public = bytes(key.verify_key)
    from nacl.encoding import RawEncoder

    expanded = sha512(seed, encoder=RawEncoder)
    secret = bytearray(expanded[:32])
    secret[0] &= 248
    secret[31] = (secret[31] & 127) | 64
    ground = set()
    for n in range(20):  # any nonce will do
        nonce = reduce(sha512(b"nonce %d" % n, encoder=RawEncoder))
        commitment = base(nonce)
        challenge = reduce(sha512(commitment + public + message, encoder=RawEncoder))
        scalar = reduce(bytes(secret) + bytes(32))
        signature = commitment + add(nonce, mul(challenge, scalar))
        key.verify_key.verify(message, signature)
        ground.add(signature)
    assert len(ground) == 20
    client = replace(ANNA, client_key=public)
    assert len({lot(BEACON, 0, client.token_id, client.index) for _ in ground}) == 1


# ---- committees


def offers(clients: list[Registered], k: int) -> list[Candidate]:
    return [Candidate(place % k, client) for place, client in enumerate(clients)]


@given(st.integers(2, 5), st.integers(1, 3), st.randoms())
def test_the_lowest_lots_of_each_slot_serve_whatever_order_they_came_in(k: int, r: int, random) -> None:  # type: ignore[no-untyped-def]
    candidates = offers(many(30), k)
    expected = [
        Chosen(slot, replica, client)
        for slot in range(k)
        for replica, client in enumerate(
            sorted(
                (one.client for one in candidates if one.slot == slot),
                key=lambda client: lot(BEACON, slot, client.token_id, client.index),
            )[:r]
        )
    ]
    random.shuffle(candidates)
    assert list(choose(BEACON, k, r, candidates)) == expected


def test_no_site_and_no_client_serves_twice() -> None:
    clients = [replace(client, site=f"site {n % 4}") for n, client in enumerate(many(40))]
    chosen = choose(BEACON, 2, 2, [Candidate(slot, client) for client in clients for slot in (0, 1)])
    assert len(chosen) == len({one.client.site for one in chosen}) == len({one.client.client_id for one in chosen}) == 4


def test_an_empty_slot_ends_the_cell() -> None:
    with pytest.raises(NoSumParticipant) as refused:
        choose(BEACON, 3, 1, offers(many(2), 3))
    assert refused.value.slot == 2
    same_site = [replace(client, site="ward") for client in many(2)]
    with pytest.raises(NoSumParticipant):
        choose(BEACON, 2, 1, offers(same_site, 2))


def fills(n_draw: int, clients: list[Registered], beacon: bytes, k: int, r: int) -> bool:
    drawn = [Candidate(slot, one) for one in clients for slot in range(k) if may_serve(beacon, slot, one, n_draw)]
    try:
        return bool(choose(beacon, k, r, drawn))
    except NoSumParticipant:
        return False


def beacons(count: int) -> list[bytes]:
    return [next_beacon(BEACON, number, b"r" * 32) for number in range(count)]


def test_lots_that_lie_so_badly_that_a_slot_has_nobody_draw_as_for_a_smaller_cell() -> None:
    clients = many(40)
    unlucky = 0
    for beacon in beacons(300):
        fit = fills(120, clients, beacon, 3, 2)  # of 120 clients two thirds have never been there: 2.7 a slot
        n_draw = drawn_for(beacon, 3, 2, clients, usual=120, fewest=8)
        assert (n_draw == 120) == fit  # bad luck alone lowers it
        assert n_draw in {120, 60, 30, 15, 8}
        assert fills(n_draw, clients, beacon, 3, 2)
        unlucky += not fit
    assert unlucky > 20


def test_no_luck_makes_a_lottery_draw_for_fewer_than_the_policy_lets_it() -> None:
    clients = many(20)
    found = [(beacon, drawn_for(beacon, 5, 2, clients, usual=200, fewest=150)) for beacon in beacons(50)]
    for beacon, n_draw in found:
        assert n_draw in {200, 150}
        assert n_draw == 200 or fills(150, clients, beacon, 5, 2)
    assert any(not fills(n_draw, clients, beacon, 5, 2) for beacon, n_draw in found)  # then it is drawn as usual
    assert {drawn_for(beacon, 2, 1, many(5), usual=5, fewest=1) for beacon in beacons(5)} == {5}


def test_what_is_not_for_the_lots_does_not_widen_the_draw() -> None:
    """Clients of two sites fill no three slots, however many of them are drawn."""
    clients = [replace(client, site=f"site {n % 2}") for n, client in enumerate(many(60))]
    assert {drawn_for(beacon, 3, 1, clients, usual=60, fewest=8) for beacon in beacons(20)} == {60}
    assert drawn_for(BEACON, 3, 1, [], usual=60, fewest=8) == 60


# ---- beacons


def test_one_withheld_reveal_leaves_one_alternative_and_not_one_for_each_subset() -> None:
    nonces = [world.bytes_of(f"nonce {n}") for n in range(6)]
    assert reveals_of(nonces, 6) != NOTHING_REVEALED
    assert {reveals_of(nonces[:n] + nonces[n + 1 :], 6) for n in range(6)} == {NOTHING_REVEALED}
    assert reveals_of([], 6) == NOTHING_REVEALED


def test_a_beacon_takes_all_that_it_is_made_of() -> None:
    base = next_beacon(BEACON, 1, b"r" * 32)
    assert next_beacon(b"x" * 32, 1, b"r" * 32) != base
    assert next_beacon(BEACON, 2, b"r" * 32) != base
    assert next_beacon(BEACON, 1, b"s" * 32) != base
    first = first_beacon(b"D" * 16, 1, b"e" * 32)
    assert first_beacon(b"E" * 16, 1, b"e" * 32) != first
    assert first_beacon(b"D" * 16, 2, b"e" * 32) != first
    assert first_beacon(b"D" * 16, 1, b"f" * 32) != first


def test_session_numbers_are_counted_and_not_picked() -> None:
    check_session_number(999, None)
    for number in (1, 5, 17, 33):
        check_session_number(number, 17)
    for number in (0, 34, 2**32 - 1):
        with pytest.raises(SessionTooFar):
            check_session_number(number, 17)
