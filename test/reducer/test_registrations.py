"""Whom the operator vouches for."""

from dataclasses import dataclass, field

import masked_world as world
import pytest
from masked_world import CLIENTS, AClient

from fedn_py.identity import ClientId, ClientName
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.registry import Expired, KnownChains, Revoked, UnknownOperator
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.messages import AssignRequest
from fedn_py.reducer.registrations import ChainOfAnother, Registrations

ANNA, BERT = CLIENTS[:2]


@dataclass
class Credentials:
    policy: Policy = world.POLICY
    now_s: int = world.NOW_S
    chains: KnownChains = field(default_factory=world.chains)

    def combiner_key(self, certificate: Signed) -> bytes:
        return certificate.signer


def of(client: AClient, chain: object = None) -> AssignRequest:
    shown = client.chain if chain is None else chain
    return AssignRequest(ClientId(client.id.hex()), ClientName(client.name), "", "0.1.0", shown)  # type: ignore[arg-type]


def test_a_client_is_registered_by_its_own_chain() -> None:
    registrations = Registrations(Credentials(), {})
    registrations.admit(of(ANNA))
    assert registrations.holds(ClientId(ANNA.id.hex()))
    assert registrations.registered(ClientId(ANNA.id.hex())) == ANNA.registered
    assert not registrations.holds(ClientId(BERT.id.hex()))


def test_another_client_s_chain_is_refused() -> None:
    registrations = Registrations(Credentials(), {})
    with pytest.raises(ChainOfAnother):
        registrations.admit(of(ANNA, BERT.chain))
    assert not registrations.holds(ClientId(ANNA.id.hex()))


def test_a_chain_of_another_operator_is_refused() -> None:
    stranger = world.a_chain("anna", operator=world.REDUCER)
    with pytest.raises(UnknownOperator):
        Registrations(Credentials(), {}).admit(of(ANNA, stranger))


def test_a_client_without_a_chain_is_let_in_and_is_not_registered() -> None:
    registrations = Registrations(Credentials(), {ClientId(ANNA.id.hex()): ANNA.chain})
    assert registrations.holds(ClientId(ANNA.id.hex()))
    registrations.admit(AssignRequest(ClientId(ANNA.id.hex()), ClientName("anna"), "", "0.1.0"))
    assert not registrations.holds(ClientId(ANNA.id.hex()))


def test_what_the_operator_takes_back_holds_no_longer() -> None:
    credentials = Credentials()
    registrations = Registrations(credentials, {})
    registrations.admit(of(ANNA))
    credentials.policy = world.a_policy(version=4, revoked_clients=(ANNA.id,))
    assert not registrations.holds(ClientId(ANNA.id.hex()))
    assert registrations.fault_of(ClientId(ANNA.id.hex())).startswith("Revoked: ")
    with pytest.raises(Revoked):
        registrations.admit(of(ANNA))
    credentials.policy, credentials.now_s = world.POLICY, world.NOW_S + 90 * world.DAY_S
    with pytest.raises(Expired):
        registrations.admit(of(ANNA))


def test_chains_that_were_known_before_are_looked_at_again() -> None:
    known = {ClientId(ANNA.id.hex()): ANNA.chain, ClientId(BERT.id.hex()): ANNA.chain}
    registrations = Registrations(Credentials(), known)
    assert registrations.holds(ClientId(ANNA.id.hex()))
    assert not registrations.holds(ClientId(BERT.id.hex()))
    assert registrations.fault_of(ClientId(BERT.id.hex())) == ""
