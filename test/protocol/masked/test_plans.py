"""A plan is believed whole or not at all."""

from dataclasses import replace
from typing import Any

import masked_world as world
import pytest

from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.beacon import WrongBeacon, session_start
from fedn_py.protocol.masked.contexts import WrongContext
from fedn_py.protocol.masked.floors import PlanBelowFloor
from fedn_py.protocol.masked.lottery import SessionTooFar, first_beacon
from fedn_py.protocol.masked.plans import BadRoundKey, BelievedPlan, Standing, believe
from fedn_py.protocol.masked.registry import Revoked, UnknownOperator
from fedn_py.protocol.masked.round_messages import CellOrder, Plan
from fedn_py.protocol.masked.signing import BadSignature, Signed, WrongSigner, sign

KNOWN = session_start(world.DEPLOYMENT, world.SESSION, 1, world.EPOCH_SEED)


def offer(
    plan: Plan | None = None, order: CellOrder | None = None, /, *, policy: world.Policy = world.POLICY, **changed: Any
) -> BelievedPlan:
    plan = plan or world.a_plan()
    arguments: dict[str, Any] = {
        "plan": sign(plan, world.REDUCER),
        "order": sign(order or world.an_order(plan), world.REDUCER),
        "certificate": world.a_certificate(),
        "standing": Standing(world.chains(), policy, world.MARK, world.NOW_S),
        "known": None,
        "highest_session": None,
    }
    return believe(**{**arguments, **changed})


def test_a_good_plan_is_believed() -> None:
    believed = offer()
    assert believed.terms == world.the_terms()
    assert believed.beacon == KNOWN
    assert believed.reducer == bytes(world.REDUCER.verify_key)
    assert offer(known=KNOWN).beacon == KNOWN


def test_a_plan_of_anybody_but_a_certified_reducer_is_refused() -> None:
    with pytest.raises(UnknownOperator):
        offer(certificate=world.a_certificate(operator=world.COMBINER))
    with pytest.raises(WrongContext):
        offer(certificate=world.a_certificate(world.REDUCER, role="combiner"))
    with pytest.raises(Revoked):
        offer(policy=world.a_policy(revoked_servers=(bytes(world.REDUCER.verify_key),)))
    for name, body in (("plan", world.a_plan()), ("order", world.an_order(world.a_plan()))):
        with pytest.raises(WrongSigner):
            offer(**{name: sign(body, world.COMBINER)})


def test_a_swapped_round_key_does_not_pass_as_the_reducers() -> None:
    signed = sign(world.a_plan(), world.REDUCER)
    swapped = replace(signed, body=world.a_plan(rpk=world.CLIENTS[0].epk).encode())
    with pytest.raises(BadSignature):
        offer(plan=swapped)
    with pytest.raises(BadRoundKey):
        offer(world.a_plan(rpk=bytes(32)))


def test_the_order_is_of_this_plan() -> None:
    with pytest.raises(WrongContext):
        offer(None, world.an_order(world.a_plan(attempt=2)))


def test_floors_and_lottery_are_looked_at() -> None:
    with pytest.raises(PlanBelowFloor):
        offer(world.a_plan(clip=99.0))
    with pytest.raises(WrongBeacon):
        offer(world.a_plan(beacon=b"x" * 32))
    far = world.a_plan(session_number=18, beacon=first_beacon(world.DEPLOYMENT, 18, world.EPOCH_SEED))
    with pytest.raises(SessionTooFar):
        offer(far, highest_session=1)
    assert offer(far, highest_session=2).beacon.session_number == 18
    assert offer(far).beacon.session_number == 18


def test_a_plan_with_any_bit_flipped_is_refused() -> None:
    plan = sign(world.a_plan(), world.REDUCER)
    data = plan.encode()
    for place in range(0, len(data), 3):
        altered = bytearray(data)
        altered[place] ^= 1 << place % 8
        with pytest.raises(PeerFault):
            offer(plan=Signed.decode(bytes(altered)))
