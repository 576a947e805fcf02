"""Plain work is signed by a reducer that an operator has certified, so that no combiner can send work of its own."""

import asyncio
import hashlib
from pathlib import Path

import masked_world as world
from reducer_network import OperatorFiles, a_network

from fedn_py.protocol.masked.registry import verify_server
from fedn_py.protocol.masked.signing import read_signed
from fedn_py.protocol.masked.words import WorkOrder
from fedn_py.protocol.messages import CellOrder, ValidationOrder
from fedn_py.reducer.work_orders import work_order


def orders_of_a_session(scratch: Path, operator: OperatorFiles | None) -> list[CellOrder | ValidationOrder]:
    """Return the orders that a combiner hears in a plain session of one round."""

    async def told() -> list[CellOrder | ValidationOrder]:
        async with a_network(scratch, operator=operator) as network:
            combiner = await network.combiner()
            await network.start_session(parameters={"epochs": 2})
            await network.at_rest()
            return combiner.orders

    return asyncio.run(told())


def test_plain_training_and_validation_are_signed_by_a_certified_reducer(tmp_path: Path) -> None:
    train, validate = orders_of_a_session(tmp_path, OperatorFiles(tmp_path / "operator"))
    assert isinstance(train, CellOrder)
    assert isinstance(validate, ValidationOrder)
    for order in (train, validate):
        assert order.signed is not None
        certificate = verify_server(order.signed.certificate, world.TRUST, "reducer", world.POLICY, world.NOW_S)
        signed = read_signed(order.signed.order, WorkOrder, signer=certificate.server_key)
        assert signed == work_order(world.DEPLOYMENT, order)


def test_a_reducer_without_a_credential_signs_nothing(tmp_path: Path) -> None:
    assert [order.signed for order in orders_of_a_session(tmp_path, None)] == [None, None]


def test_a_training_order_names_all_that_a_client_is_asked_to_do(tmp_path: Path) -> None:
    order, _ = orders_of_a_session(tmp_path, None)
    assert isinstance(order, CellOrder)
    plan = order.plan
    signed = work_order(world.DEPLOYMENT, order)
    assert (signed.what, signed.session.hex(), signed.round, signed.attempt) == ("train", plan.session, 1, 1)
    assert signed.generation == order.generation
    assert (signed.model_sha256.hex(), signed.package_sha256.hex()) == (plan.base_model, plan.package)
    assert signed.params_sha256 == hashlib.sha256(b'{"epochs": 2}').digest()


def test_a_validation_order_names_its_model_and_no_attempt(tmp_path: Path) -> None:
    _, order = orders_of_a_session(tmp_path, None)
    assert isinstance(order, ValidationOrder)
    signed = work_order(world.DEPLOYMENT, order)
    assert (signed.what, signed.session.hex(), signed.round, signed.attempt) == ("validate", order.session, 1, 0)
    assert signed.generation == order.generation
    assert (signed.model_sha256.hex(), signed.package_sha256.hex()) == (order.model, order.package)
    assert signed.params_sha256 == hashlib.sha256(order.parameters.encode()).digest()
