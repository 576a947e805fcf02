"""What the operator issues is what everybody else verifies, and a policy only ever gets older."""

from dataclasses import replace

import masked_world as world
import pytest

from fedn_py.errors import FednError
from fedn_py.masking.schemes import PET
from fedn_py.protocol.masked.certificates import Chain, JoinCredential, OperatorSecret, Policy, TokenCert
from fedn_py.protocol.masked.contexts import client_id_of
from fedn_py.protocol.masked.issuing import (
    NotThisOperators,
    enter_client,
    first_policy,
    issue_server,
    issue_token,
    next_policy,
    operator_key,
    sign_policy,
    token_of,
)
from fedn_py.protocol.masked.registry import (
    EntryConflict,
    TokenOverused,
    Trust,
    UnknownOperator,
    accept_policy,
    check_together,
    verify_chain,
    verify_server,
)
from fedn_py.protocol.masked.signing import BadSignature, WrongSigner, read_signed, sign

OPERATOR = OperatorSecret(bytes(world.OPERATOR), world.DEPLOYMENT, world.EPOCH_SEED)
MALLORY = OperatorSecret(bytes(world.key_of("mallory")), world.DEPLOYMENT, world.EPOCH_SEED)
ELSEWHERE = replace(OPERATOR, deployment=b"X" * 16)
END_S = world.NOW_S + world.DAY_S


def a_join(operator: OperatorSecret = OPERATOR, *, uses: int = 2) -> JoinCredential:
    secret, token_id = world.bytes_of("token secret"), world.bytes_of("token", 16)
    return issue_token(operator, token_secret=secret, token_id=token_id, site="ward 7", uses=uses, not_after=END_S)


def test_a_client_that_a_site_enters_is_one_that_everybody_takes() -> None:
    key = world.key_of("anna")
    client = verify_chain(enter_client(a_join(), key, 1), world.TRUST)
    assert client.client_id == client_id_of(world.DEPLOYMENT, bytes(key.verify_key))
    assert (client.site, client.index, client.uses, client.not_after) == ("ward 7", 1, 2, END_S)


def test_the_same_client_entered_twice_has_the_same_chain() -> None:
    key = world.key_of("anna")
    assert enter_client(a_join(), key, 0) == enter_client(a_join(), key, 0)


def test_a_site_that_enters_too_many_is_refused() -> None:
    with pytest.raises(TokenOverused):
        verify_chain(enter_client(a_join(), world.key_of("anna"), 2), world.TRUST)


def test_a_number_that_a_site_gives_twice_is_a_conflict() -> None:
    chains: list[Chain] = [enter_client(a_join(), world.key_of(name), 0) for name in ("anna", "bert")]
    with pytest.raises(EntryConflict):
        check_together(verify_chain(chain, world.TRUST) for chain in chains)


def test_another_operator_s_clients_are_unknown() -> None:
    with pytest.raises(UnknownOperator):
        verify_chain(enter_client(a_join(MALLORY), world.key_of("anna"), 0), world.TRUST)


def test_a_join_credential_is_held_to_the_operator_that_it_names() -> None:
    assert token_of(a_join()) == TokenCert.decode(a_join().token.body)
    with pytest.raises(WrongSigner):
        enter_client(replace(a_join(), operator_key=operator_key(MALLORY)), world.key_of("anna"), 0)
    altered = replace(a_join().token, body=a_join(uses=9).token.body)
    with pytest.raises(BadSignature):
        enter_client(replace(a_join(), token=altered), world.key_of("anna"), 0)


@pytest.mark.parametrize("role", ["reducer", "combiner"])
def test_a_server_that_the_operator_names_is_one(role: str) -> None:
    secret = world.bytes_of("server secret")
    made = issue_server(OPERATOR, server_secret=secret, role=role, name="north", not_after=END_S)
    cert = verify_server(made.certificate, world.TRUST, role, world.POLICY, world.NOW_S)
    assert (cert.name, cert.server_key) == ("north", bytes(world.SigningKey(made.server_secret).verify_key))
    assert Trust(made.operator_key, made.deployment) == world.TRUST


def test_a_role_or_name_that_cannot_be_is_refused() -> None:
    for role, name in (("client", "north"), ("reducer", "n" * 65)):
        with pytest.raises(ValueError, match="server certificate"):
            issue_server(OPERATOR, server_secret=bytes(32), role=role, name=name, not_after=END_S)


def test_secrets_are_not_in_what_a_credential_prints() -> None:
    server = issue_server(OPERATOR, server_secret=b"\7" * 32, role="reducer", name="north", not_after=END_S)
    for held, secret in (
        (OPERATOR, OPERATOR.operator_secret),
        (a_join(), a_join().token_secret),
        (server, server.server_secret),
    ):
        assert repr(secret) not in repr(held)
        assert secret in held.encode()


# ---- policies


def test_the_first_policy_is_version_1_and_taken_by_all() -> None:
    signed = sign_policy(OPERATOR, first_policy(OPERATOR, END_S))
    policy, mark = accept_policy(signed, world.TRUST, None, world.NOW_S)
    assert (policy.version, policy.not_after, policy.epoch_seed) == (1, END_S, world.EPOCH_SEED)
    assert policy.modes == (PET,)
    assert mark.version == 1


def test_the_next_policy_is_a_version_higher_and_otherwise_the_same() -> None:
    last = replace(first_policy(OPERATOR, END_S), g_min=9, revoked_tokens=(b"t" * 16,))
    policy = next_policy(OPERATOR, sign_policy(OPERATOR, last))
    assert policy == replace(last, version=2)
    mark = accept_policy(sign_policy(OPERATOR, last), world.TRUST, None, world.NOW_S)[1]
    assert accept_policy(sign_policy(OPERATOR, policy), world.TRUST, mark, world.NOW_S)[0] == policy


@pytest.mark.parametrize("other", [MALLORY, ELSEWHERE])
def test_another_operator_s_or_network_s_policy_is_not_followed(other: OperatorSecret) -> None:
    theirs = sign_policy(other, first_policy(other, END_S))
    with pytest.raises(NotThisOperators):
        next_policy(OPERATOR, theirs)


def test_a_policy_for_another_network_is_not_signed() -> None:
    with pytest.raises(NotThisOperators):
        sign_policy(OPERATOR, first_policy(ELSEWHERE, END_S))


def test_what_is_no_policy_or_was_altered_is_not_followed() -> None:
    signed = sign_policy(OPERATOR, first_policy(OPERATOR, END_S))
    looser = replace(Policy.decode(signed.body), g_min=2).encode()
    token = sign(token_of(a_join()), world.OPERATOR)
    for wrong in (replace(signed, body=looser), token):
        with pytest.raises(FednError):
            next_policy(OPERATOR, wrong)


def test_a_policy_that_cannot_be_written_names_the_field() -> None:
    with pytest.raises(ValueError, match=r"policy\.g_min"):
        sign_policy(OPERATOR, replace(first_policy(OPERATOR, END_S), g_min=0))


def test_a_signed_policy_reads_as_it_was_made() -> None:
    policy = first_policy(OPERATOR, END_S)
    assert read_signed(sign_policy(OPERATOR, policy), Policy, signer=operator_key(OPERATOR)) == policy
