"""The operator of a simulated network, and whom it vouches for: keys by name, the same in every run."""

from dataclasses import replace
from functools import cache

import masked_world as known
from nacl.signing import SigningKey

from fedn_py.identity import ClientId, CombinerName
from fedn_py.protocol.masked.certificates import Policy, ServerCredential
from fedn_py.protocol.masked.contexts import policy_hash
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.registry import KnownChains, Trust, check_standing
from fedn_py.protocol.masked.signing import Signed, sign

TRUST = known.TRUST
NOW_S = known.NOW_S
REDUCER_CERTIFICATE = known.a_certificate()

CHAINS = KnownChains(TRUST)
"""Whether a chain is right depends on its bytes alone: every node looks it up here, and it is verified once."""


@cache
def client_named(name: str) -> known.AClient:
    """Return a registered client; each has a site of its own."""
    return known.a_client(name)


@cache
def combiner_credential(name: CombinerName) -> ServerCredential:
    """Return what a combiner shows and signs with."""
    key = known.key_of(name)
    return ServerCredential(TRUST.operator_key, TRUST.deployment, known.a_certificate(key, role="combiner"), bytes(key))


@cache
def combiner_key(name: CombinerName) -> bytes:
    """Return the key that the operator certified a combiner by."""
    return bytes(known.key_of(name).verify_key)


class Operator:
    """Signs policies, each newer than the last.

    Attributes:
        policies: all that were signed, the newest last.
    """

    def __init__(self, first: Policy) -> None:
        self.policies = [first]
        self.signed = [sign(first, known.OPERATOR)]

    @property
    def newest(self) -> Signed:
        """The policy that counts now."""
        return self.signed[-1]

    def revoke(self, clients: frozenset[bytes]) -> None:
        """Sign another policy, by which exactly these clients are revoked."""
        last = self.policies[-1]
        self.policies.append(replace(last, version=last.version + 1, revoked_clients=tuple(sorted(clients))))
        self.signed.append(sign(self.policies[-1], known.OPERATOR))


class Speaker:
    """What the reducer says, and the policy that it goes by; a Speaker of fedn_py/reducer/planning.py."""

    def __init__(self, policy: Signed) -> None:
        self.trust: Trust = TRUST
        self.certificate = REDUCER_CERTIFICATE
        self.key: SigningKey = known.REDUCER
        self.take(policy)

    def take(self, policy: Signed) -> None:
        """Go by a policy."""
        self.signed_policy = policy
        self.policy = Policy.decode(policy.body)
        self.policy_hash = policy_hash(policy.body)

    def sign(self, body: Body) -> Signed:
        """Say something."""
        return sign(body, self.key)

    def vouches_for(self, client: ClientId) -> bool:
        """Say whether the policy lets a client take part."""
        return bytes.fromhex(client) not in self.policy.revoked_clients


__all__ = ["CHAINS", "NOW_S", "TRUST", "Operator", "Speaker", "check_standing", "client_named", "combiner_credential"]
