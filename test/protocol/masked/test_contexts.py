"""Contexts: known answers, and every field of them."""

from dataclasses import fields, replace

import masked_world as world
import pytest

from fedn_py.masking.fixed_point import CannotHold
from fedn_py.masking.hashing import tagged_hash, u32
from fedn_py.protocol.masked.contexts import (
    Seat,
    WrongContext,
    WrongSet,
    cell_terms,
    check_rows,
    client_id_of,
    committee_hash,
    context,
    context_before_committee,
    included_hash,
    nonce_commitment,
    work_of,
)
from fedn_py.protocol.masked.round_messages import IncludedRow, MetricBound, Plan
from fedn_py.protocol.masked.signing import sign

PLACE = {
    "deployment": b"D" * 16,
    "policy": b"\x11" * 32,
    "session": b"S" * 16,
    "round_number": 7,
    "attempt": 1,
    "cell": b"C" * 16,
    "generation": 2,
    "plan": b"\x22" * 32,
    "order": b"\x44" * 32,
}
CTX0 = "a33f9e03a3d74b068d819aecf3ecad2f8d7ce0415ac346b83d3d9e31735124d1"
CTX = "234089f19cd5732a8e19cda16d983378b933633959ad179cfa53330497addbd4"


def headed(*clients: int) -> list[IncludedRow]:
    """Rows whose header hash is that of the known answers: H("hdr", client_id) without the protocol's prefix."""
    import hashlib

    def header_hash(client: bytes) -> bytes:
        return hashlib.blake2b(u32(3) + b"hdr" + u32(32) + client, digest_size=32).digest()

    return [IncludedRow(bytes([one]) * 32, header_hash(bytes([one]) * 32)) for one in clients]


def test_known_answers() -> None:
    ctx0 = context_before_committee(**PLACE)  # type: ignore[arg-type]
    assert ctx0.hex() == CTX0
    ctx = context(ctx0, b"\x33" * 32)
    assert ctx.hex() == CTX
    three, two = headed(0xA1, 0xA2, 0xA3), headed(0xB1, 0xB2)
    assert included_hash(ctx, three).hex() == "f27fa5e417070bfae0cba9a00dd87e6d24c7919f6f4eed24ff3dc3031fb23c99"
    assert included_hash(ctx, two).hex() == "144899eb8bcb34efc274f34feba53924c5fd0ec84675caf70afa2c09b1f509f6"


@pytest.mark.parametrize("field", PLACE)
def test_each_field_of_a_cells_place_gives_another_context(field: str) -> None:
    value = PLACE[field]
    changed = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]  # type: ignore[index]
    assert context_before_committee(**{**PLACE, field: changed}).hex() != CTX0  # type: ignore[arg-type]


def test_the_context_takes_both_its_parts() -> None:
    assert len({context(one, other) for one in (b"a" * 32, b"b" * 32) for other in (b"a" * 32, b"b" * 32)}) == 4


SEAT = Seat(1, 0, b"c" * 32, b"e" * 32, b"n" * 32)


def test_a_committees_hash_is_one_field_of_its_rows() -> None:
    rows = b"\1\0" + b"c" * 32 + b"e" * 32 + b"n" * 32
    assert committee_hash([SEAT]) == tagged_hash("committee", rows)
    assert committee_hash([SEAT, SEAT]) == tagged_hash("committee", rows + rows)


@pytest.mark.parametrize("field", [field.name for field in fields(Seat)])
def test_each_field_of_a_seat_gives_another_committee(field: str) -> None:
    value = getattr(SEAT, field)
    changed = value + 1 if isinstance(value, int) else b"x" * 32
    assert committee_hash([replace(SEAT, **{field: changed})]) != committee_hash([SEAT])


def test_a_sets_hash_takes_its_context_its_clients_and_their_uploads_in_any_order() -> None:
    rows = [IncludedRow(bytes([one]) * 32, bytes([one + 100]) * 32) for one in (3, 1, 2)]
    digest = included_hash(b"c" * 32, rows)
    assert included_hash(b"c" * 32, rows[::-1]) == digest
    assert included_hash(b"d" * 32, rows) != digest
    assert included_hash(b"c" * 32, rows[1:]) != digest
    assert included_hash(b"c" * 32, [replace(rows[0], header_hash=b"x" * 32), *rows[1:]]) != digest
    assert included_hash(b"c" * 32, [replace(rows[0], client_id=b"x" * 32), *rows[1:]]) != digest


def test_rows_are_sorted_and_each_client_is_there_once() -> None:
    rows = [IncludedRow(bytes([one]) * 32, b"h" * 32) for one in (1, 2, 3)]
    check_rows(rows)
    for wrong in (rows[::-1], [rows[0], rows[0]], [rows[0], replace(rows[0], header_hash=b"g" * 32)]):
        with pytest.raises(WrongSet):
            check_rows(wrong)


def test_a_work_is_the_same_in_every_session_and_round() -> None:
    first = world.the_terms().work
    assert world.the_terms(world.a_plan(session=b"T" * 16, round=5, attempt=2)).work == first
    assert first == work_of(world.BASE, world.PACKAGE, world.PARAMS)
    for changed in ("base_sha256", "package_sha256", "params_sha256"):
        assert world.the_terms(world.a_plan(**{changed: b"x" * 32})).work != first


def test_clients_and_nonces_are_bound_to_network_and_cell() -> None:
    assert client_id_of(b"D" * 16, b"k" * 32) != client_id_of(b"E" * 16, b"k" * 32)
    commitments = {
        nonce_commitment(a * 32, b * 32, c * 32) for a in (b"1", b"2") for b in (b"1", b"2") for c in (b"1", b"2")
    }
    assert len(commitments) == 8


def test_an_order_for_another_plan_is_refused() -> None:
    plan, other = world.a_plan(), world.a_plan(attempt=2)
    with pytest.raises(WrongContext):
        cell_terms(world.DEPLOYMENT, other.encode(), world.an_order(plan).encode())


def plan_changes() -> dict[str, object]:
    plan = world.a_plan()
    changes: dict[str, object] = {}
    for field in fields(Plan):
        value = getattr(plan, field.name)
        match value:
            case bytes():
                changes[field.name] = bytes([value[0] ^ 1]) + value[1:]
            case int():
                changes[field.name] = value + 1
            case float():
                changes[field.name] = value / 2
            case _:
                pass
    changes |= {"mode": "xaynet", "reopen": "strict", "metrics_release": "none", "metrics": (MetricBound("loss", 1.0),)}
    return changes | {"voids": (sign(world.an_order(plan), world.REDUCER),), "beacon_proof": ()}


@pytest.mark.parametrize("field", sorted(set(plan_changes()) - {"beacon_proof"}))
def test_each_field_of_a_plan_gives_another_context(field: str) -> None:
    """So a plan that differs in anything between two parties gives them no common context to sign in."""
    changed = replace(world.a_plan(), **{field: plan_changes()[field]})
    assert world.the_terms(changed).ctx0 != world.the_terms().ctx0


@pytest.mark.parametrize("field", ["cell", "generation", "combiner", "k", "r", "echo_c", "g_min", "n_draw"])
def test_each_field_of_an_order_gives_another_context(field: str) -> None:
    value = getattr(world.an_order(world.a_plan()), field)
    changed = value + 1 if isinstance(value, int) else b"x" * len(value)
    assert world.the_terms(**{field: changed}).ctx0 != world.the_terms().ctx0


def test_a_plan_that_cannot_hold_its_sum_is_refused_with_its_numbers() -> None:
    with pytest.raises(CannotHold, match="weight_cap 1000000 times n_max 2000 is 2000000000"):
        _ = world.the_terms(world.a_plan(weight_cap=1_000_000, n_max=2_000)).encoding
