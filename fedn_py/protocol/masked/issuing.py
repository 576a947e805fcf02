"""How the operator makes tokens, servers and policies, and how a site makes its clients.

Keys and random bytes come in; whoever calls keeps them. A policy only ever grows older: the next one is made from the
last, and what was revoked stays revoked.
"""

from dataclasses import replace

from nacl.signing import SigningKey

from fedn_py.errors import OwnFault
from fedn_py.masking.schemes import PET
from fedn_py.protocol.masked.certificates import (
    POSSESSION,
    Chain,
    ClientEntry,
    JoinCredential,
    OperatorSecret,
    Policy,
    ServerCert,
    ServerCredential,
    TokenCert,
)
from fedn_py.protocol.masked.signing import Signed, read_signed, sign, signature_over

PLAIN = "none"
"""The mode of rounds without masks."""


class NotThisOperators(OwnFault):
    """A policy is of another operator or network than the key at hand."""

    def __init__(self) -> None:
        super().__init__(
            "the policy is not of the operator and network that this operator key makes",
            remedy="Give the operator key that signed it; a network has one for all of its life.",
        )


def operator_key(operator: OperatorSecret) -> bytes:
    """Return the public key that everybody in the network believes."""
    return bytes(SigningKey(operator.operator_secret).verify_key)


def issue_token(
    operator: OperatorSecret, *, token_secret: bytes, token_id: bytes, site: str, uses: int, not_after: int
) -> JoinCredential:
    """Return what a site needs to make ``uses`` clients.

    Args:
        token_secret: 32 fresh random bytes.
        token_id: 16 fresh random bytes.
        not_after: seconds since 1970.
    """
    public = bytes(SigningKey(token_secret).verify_key)
    cert = TokenCert(operator.deployment, token_id, site, uses, not_after, public)
    signed = sign(cert, SigningKey(operator.operator_secret))
    return JoinCredential(signed.signer, operator.deployment, signed, token_secret)


def issue_server(
    operator: OperatorSecret, *, server_secret: bytes, role: str, name: str, not_after: int
) -> ServerCredential:
    """Return what makes a process this network's reducer or combiner.

    Args:
        server_secret: 32 fresh random bytes.
        role: reducer or combiner.
        not_after: seconds since 1970.
    """
    public = bytes(SigningKey(server_secret).verify_key)
    cert = ServerCert(operator.deployment, role, public, name, not_after)
    signed = sign(cert, SigningKey(operator.operator_secret))
    return ServerCredential(signed.signer, operator.deployment, signed, server_secret)


def first_policy(operator: OperatorSecret, not_after: int) -> Policy:
    """Return a network's first policy, with floors that three clients can keep; ``replace`` what should differ."""
    return Policy(
        deployment=operator.deployment,
        version=1,
        not_after=not_after,
        epoch_seed=operator.epoch_seed,
        modes=(PET,),
        g_min=3,
        k_min=2,
        r_min=1,
        n_max_max=4_096,
        clip_min=1e-6,
        clip_max=1e6,
        weight_cap_max=2**20,
        n_draw_min=1,
        reopen="reducer",
        rework_max=20,
        metrics="sum",
    )


def next_policy(operator: OperatorSecret, last: Signed) -> Policy:
    """Return the policy after the last one: a version higher, and otherwise the same; ``replace`` what should differ.

    Raises:
        MalformedMessage, BadSignature: the last one is no policy, or was altered.
        NotThisOperators: it is somebody else's.
    """
    if last.signer != operator_key(operator):
        raise NotThisOperators
    policy = read_signed(last, Policy)
    if policy.deployment != operator.deployment:
        raise NotThisOperators
    return replace(policy, version=policy.version + 1)


def sign_policy(operator: OperatorSecret, policy: Policy) -> Signed:
    """Return the policy, signed.

    Raises:
        NotThisOperators: it is for another network.
        ValueError: names a field that cannot be what it is.
    """
    if policy.deployment != operator.deployment:
        raise NotThisOperators
    return sign(policy, SigningKey(operator.operator_secret))


def token_of(join: JoinCredential) -> TokenCert:
    """Return what the operator says of a join credential's token.

    Raises:
        MalformedMessage, WrongSigner, BadSignature: the operator that it names did not say it.
    """
    return read_signed(join.token, TokenCert, signer=join.operator_key)


def enter_client(join: JoinCredential, client_key: SigningKey, index: int) -> Chain:
    """Return the chain of a client, made by its site.

    Args:
        index: the number of the client among the token's, from 0. One number never goes to two keys: both would be
            refused from then on.

    Raises:
        MalformedMessage, WrongSigner, BadSignature: the credential's token is not its operator's.
    """
    token = token_of(join)
    entry = sign(
        ClientEntry(token.deployment, token.token_id, index, bytes(client_key.verify_key)),
        SigningKey(join.token_secret),
    )
    return Chain(join.token, entry, signature_over(POSSESSION, entry.body, client_key))
