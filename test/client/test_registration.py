"""What a client believes of its network is what its site told it first, and no server can change it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import masked_world as world
import pytest
from running_client import a_join

from fedn_py.client.registration import OtherOperator, Registration
from fedn_py.client.state_folder import StateFolder
from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.contexts import client_id_of
from fedn_py.protocol.masked.registry import verify_chain


@pytest.fixture
def registration(tmp_path: Path) -> Iterator[Registration]:
    with StateFolder(tmp_path / "state") as folder:
        yield folder.registration


def test_the_first_join_credential_makes_the_client_one_of_its_network(registration: Registration) -> None:
    registration.enter(a_join("a site"))
    key = bytes(registration.key.verify_key)
    assert registration.trust == world.TRUST
    assert registration.client == client_id_of(world.DEPLOYMENT, key).hex()
    assert registration.chain is not None
    registered = verify_chain(registration.chain, world.TRUST)
    assert registered == registration.registered
    assert (registered.client_key, registered.index, registered.site) == (key, 0, "a site")


def test_another_operator_or_network_is_refused_by_name_with_the_way_out(registration: Registration) -> None:
    registration.enter(a_join("a site"))
    before = registration.chain
    others = (
        a_join("a site", operator=bytes(world.key_of("another operator"))),
        a_join("a site", deployment=b"E" * 16),
    )
    for join in others:
        with pytest.raises(OtherOperator) as refused:
            registration.enter(join)
        assert "state_dir" in refused.value.remedy
        assert (registration.trust, registration.chain) == (world.TRUST, before)


def test_a_new_token_of_the_same_network_makes_a_new_chain_for_the_same_client(registration: Registration) -> None:
    registration.enter(a_join("first"))
    client = registration.client
    registration.enter(a_join("second"))
    assert registration.client == client
    assert registration.registered is not None
    assert registration.registered.site == "second"


def test_the_network_and_the_chain_outlive_a_restart_and_a_token_file_without_a_credential(tmp_path: Path) -> None:
    with StateFolder(tmp_path) as folder:
        folder.registration.enter(a_join())
        chain, client = folder.registration.chain, folder.registration.client
    with StateFolder(tmp_path) as folder:
        folder.registration.enter(None)
        assert (folder.registration.chain, folder.registration.client) == (chain, client)
        with pytest.raises(OtherOperator):
            folder.registration.enter(a_join(deployment=b"E" * 16))


def test_a_credential_that_is_made_wrongly_makes_nobody(registration: Registration) -> None:
    for wrong in (replace(a_join(), token_secret=b"x" * 32), replace(a_join(), operator_key=b"x" * 32)):
        with pytest.raises(PeerFault):
            registration.enter(wrong)
        assert registration.trust is None
        assert registration.chain is None
