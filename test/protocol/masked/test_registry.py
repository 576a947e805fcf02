"""Certificates: who is who, and what no longer holds."""

from dataclasses import replace

import masked_world as world
import pytest

from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.certificates import POSSESSION, Chain, Policy, TokenCert
from fedn_py.protocol.masked.contexts import WrongContext, client_id_of, policy_hash
from fedn_py.protocol.masked.registry import (
    EntryConflict,
    Expired,
    KnownChains,
    PolicyMark,
    PolicyWentBack,
    Revoked,
    TokenOverused,
    Trust,
    UnknownOperator,
    accept_policy,
    check_standing,
    check_together,
    verify_chain,
    verify_server,
)
from fedn_py.protocol.masked.signing import BadSignature, WrongSigner, sign, signature_over

ANNA, BERT = world.CLIENTS[:2]


def test_a_chain_makes_a_client_whose_id_is_of_its_key_and_network() -> None:
    client = verify_chain(ANNA.chain, world.TRUST)
    assert client.client_id == client_id_of(world.DEPLOYMENT, bytes(ANNA.key.verify_key))
    assert (client.site, client.uses, client.index) == ("site of anna", 1, 0)


def test_a_token_by_another_operator_is_unknown() -> None:
    with pytest.raises(UnknownOperator):
        verify_chain(world.a_chain("anna", operator=world.key_of("mallory")), world.TRUST)


def test_an_entry_that_the_token_did_not_sign_is_refused() -> None:
    forged = sign(replace(verified_entry(ANNA.chain), client_key=bytes(BERT.key.verify_key)), world.key_of("mallory"))
    with pytest.raises(WrongSigner):
        verify_chain(replace(ANNA.chain, entry=forged), world.TRUST)
    with pytest.raises(BadSignature):
        verify_chain(replace(ANNA.chain, entry=replace(forged, signer=ANNA.chain.entry.signer)), world.TRUST)


def verified_entry(chain: Chain):  # type: ignore[no-untyped-def]
    from fedn_py.protocol.masked.certificates import ClientEntry

    return ClientEntry.decode(chain.entry.body)


def test_a_key_that_its_client_does_not_hold_is_refused() -> None:
    entry = world.an_entry("site of anna", bytes(BERT.key.verify_key))
    chain = Chain(ANNA.chain.token, entry, signature_over(POSSESSION, entry.body, ANNA.key))
    with pytest.raises(BadSignature):
        verify_chain(chain, world.TRUST)


def test_a_token_and_an_entry_of_different_tokens_do_not_make_a_client() -> None:
    key = world.key_of("token site of anna")
    entry = sign(replace(verified_entry(ANNA.chain), token_id=b"x" * 16), key)
    chain = Chain(ANNA.chain.token, entry, signature_over(POSSESSION, entry.body, ANNA.key))
    with pytest.raises(WrongContext):
        verify_chain(chain, world.TRUST)


def test_a_client_of_another_network_of_the_same_operator_is_refused() -> None:
    with pytest.raises(WrongContext):
        verify_chain(ANNA.chain, Trust(world.TRUST.operator_key, b"E" * 16))


def test_a_number_beyond_the_tokens_uses_is_refused() -> None:
    verify_chain(world.a_chain("anna", site="ward", uses=2, index=1), world.TRUST)
    with pytest.raises(TokenOverused, match="has 3 clients of 2"):
        verify_chain(world.a_chain("anna", site="ward", uses=2, index=2), world.TRUST)


def test_a_token_with_more_clients_in_one_list_than_it_may_have_is_refused() -> None:
    """Two certificates of one token, of which the second, older one allowed more."""
    clients = [world.a_client(f"c{n}", site="ward", uses=3, index=n).registered for n in range(3)]
    check_together(clients)
    with pytest.raises(TokenOverused):
        check_together([*clients[:2], replace(clients[2], uses=2)])


def test_two_keys_under_one_number_of_a_token_are_both_refused_and_the_evidence_kept() -> None:
    one, other = (world.a_client(name, site="ward") for name in ("anna", "bert"))
    check_together([one.registered, one.registered])
    with pytest.raises(EntryConflict) as refused:
        check_together([one.registered, ANNA.registered, other.registered])
    assert set(refused.value.client_ids) == {one.id, other.id}
    assert refused.value.evidence == (one.chain, other.chain)


def test_what_is_revoked_is_refused_at_once() -> None:
    check_standing(ANNA.registered, world.POLICY, world.NOW_S)
    for revoked in ({"revoked_tokens": (ANNA.registered.token_id,)}, {"revoked_clients": (ANNA.id,)}):
        with pytest.raises(Revoked):
            check_standing(ANNA.registered, world.a_policy(**revoked), world.NOW_S)
        check_standing(BERT.registered, world.a_policy(**revoked), world.NOW_S)


def test_a_token_serves_a_day_beyond_its_end_with_a_warning() -> None:
    end = ANNA.registered.not_after
    assert not check_standing(ANNA.registered, world.POLICY, end)
    assert check_standing(ANNA.registered, world.POLICY, end + 1)
    assert check_standing(ANNA.registered, world.POLICY, end + world.DAY_S)
    with pytest.raises(Expired):
        check_standing(ANNA.registered, world.POLICY, end + world.DAY_S + 1)


def test_known_chains_are_verified_once_and_forgotten_when_too_many() -> None:
    known = KnownChains(world.TRUST, most=1)
    first = known.registered(ANNA.chain)
    assert known.registered(ANNA.chain) is first
    known.registered(BERT.chain)
    assert known.registered(ANNA.chain) == first
    assert known.registered(ANNA.chain) is not first


def test_an_altered_chain_is_not_known_by_the_hash_of_a_good_one() -> None:
    known = KnownChains(world.TRUST)
    known.registered(ANNA.chain)
    with pytest.raises(BadSignature):
        known.registered(replace(ANNA.chain, possession=BERT.chain.possession))


# ---- servers


def test_a_servers_certificate_holds_for_its_role_until_it_ends_or_is_revoked() -> None:
    def check(certificate, policy: Policy = world.POLICY, now_s: int = world.NOW_S):  # type: ignore[no-untyped-def]
        return verify_server(certificate, world.TRUST, "reducer", policy, now_s)

    good = world.a_certificate()
    assert check(good).server_key == bytes(world.REDUCER.verify_key)
    with pytest.raises(WrongContext):
        check(world.a_certificate(role="combiner"))
    with pytest.raises(UnknownOperator):
        check(world.a_certificate(operator=world.REDUCER))
    with pytest.raises(Revoked):
        check(good, world.a_policy(revoked_servers=(bytes(world.REDUCER.verify_key),)))
    check(good, now_s=world.NOW_S + 2 * world.DAY_S)
    with pytest.raises(Expired):
        check(good, now_s=world.NOW_S + 2 * world.DAY_S + 1)


# ---- the policy


def offered(*, operator=world.OPERATOR, **changed):  # type: ignore[no-untyped-def]
    return sign(world.a_policy(**changed), operator)


def accept(signed, highest: PolicyMark | None = world.MARK):  # type: ignore[no-untyped-def]
    return accept_policy(signed, world.TRUST, highest, world.NOW_S)


def test_a_policys_version_never_goes_down() -> None:
    for highest in (None, world.MARK, PolicyMark(2, b"x" * 32)):
        policy, mark = accept(offered(), highest)
        assert (policy, mark) == (world.POLICY, world.MARK)
    assert accept(offered(version=4))[1].version == 4
    with pytest.raises(PolicyWentBack, match="version 2 is offered where version 3"):
        accept(offered(version=2))


def test_two_policies_of_one_version_are_not_both_believed() -> None:
    with pytest.raises(PolicyWentBack):
        accept(offered(g_min=4))


def test_a_policy_of_anybody_else_or_of_another_network_or_of_long_ago_is_refused() -> None:
    with pytest.raises(UnknownOperator):
        accept(offered(operator=world.REDUCER))
    with pytest.raises(WrongContext):
        accept(offered(deployment=b"E" * 16, version=9))
    with pytest.raises(Expired):
        accept(offered(not_after=world.NOW_S - world.DAY_S - 1, version=9))
    accept(offered(not_after=world.NOW_S - world.DAY_S, version=9))


def test_a_token_is_not_taken_for_a_policy() -> None:
    with pytest.raises(PeerFault):
        accept(world.a_token("ward"))
    assert policy_hash(TokenCert.decode(world.a_token("ward").body).encode()) != world.POLICY_HASH
