"""Who is who: the chain operator -> token -> client, servers' certificates, and a policy that never goes back.

Whoever relies on a chain verifies it, whatever servers did with it before. What a signature says never changes, so
chains that were verified once are known again by their hash; expiry and revocation are looked at each time.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from fedn_py.errors import PeerFault
from fedn_py.masking.hashing import plain_hash
from fedn_py.protocol.masked.certificates import POSSESSION, Chain, ClientEntry, Policy, ServerCert, TokenCert
from fedn_py.protocol.masked.contexts import WrongContext, client_id_of, policy_hash
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.signing import KnownSignatures, Signed, read_signed, verify

Said = TypeVar("Said", bound=Body)

GRACE_S = 24 * 3_600
"""How long after its end a certificate still serves, with a warning: clocks are often a day off, keys rarely."""


class UnknownOperator(PeerFault):
    """A certificate is not by the operator's key that is pinned here."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"a {kind} is not signed by this network's operator",
            remedy="Compare the operator key here with the one that the network's operator gives out.",
        )


class Expired(PeerFault):
    """A certificate or the policy has ended, by more than a day."""

    def __init__(self, kind: str, days: float) -> None:
        super().__init__(
            f"a {kind} ended {days:.0f} days ago, by the clock of this machine",
            remedy="Check this machine's clock; otherwise ask the operator for a new one.",
        )


class Revoked(PeerFault):
    """The operator has withdrawn a token, a client or a server."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"the operator has revoked {kind} {name}", remedy="Ask the operator why, and for a new token.")


class TokenOverused(PeerFault):
    """A token has made more clients than it may."""

    def __init__(self, token_id: bytes, site: str, uses: int, seen: int) -> None:
        super().__init__(
            f"token {token_id.hex()} of {site!r} has {seen} clients of {uses} that it may have",
            remedy="The operator can make another token for the site; if nobody there made these clients, revoke it.",
        )
        self.token_id = token_id


class EntryConflict(PeerFault):
    """Two keys are entered under the same number of one token; both are refused.

    Attributes:
        client_ids: of both.
        evidence: both chains; both are signed by the token's key.
    """

    def __init__(self, first: "Registered", second: "Registered") -> None:
        super().__init__(
            f"token {first.token_id.hex()} of {first.site!r} entered two keys as its client {first.index}",
            remedy="Whoever holds the token made both; the operator should revoke it and ask the site.",
        )
        self.client_ids = (first.client_id, second.client_id)
        self.evidence = (first.chain, second.chain)


class PolicyWentBack(PeerFault):
    """A policy is older than one that was seen here, or another one of the same version."""

    def __init__(self, version: int, highest: int) -> None:
        super().__init__(
            f"policy version {version} is offered where version {highest} was seen",
            remedy="Somebody offers an outdated policy, or the operator signed two of one version.",
        )


@dataclass(frozen=True, slots=True)
class Trust:
    """What a process is told by its owner, not by the network.

    Attributes:
        operator_key: Ed25519 public key.
        deployment: of the network.
    """

    operator_key: bytes
    deployment: bytes


@dataclass(frozen=True, slots=True)
class Registered:
    """A client that the operator's key vouches for, through a token.

    Attributes:
        uses: how many clients the token may make; this one is number ``index``, from 0.
        not_after: when the token ends, in seconds since 1970.
    """

    client_id: bytes
    client_key: bytes
    token_id: bytes
    index: int
    site: str
    uses: int
    not_after: int
    chain: Chain


@dataclass(frozen=True, slots=True)
class PolicyMark:
    """The highest policy seen so far; kept on disk."""

    version: int
    hash: bytes


def verify_chain(chain: Chain, trust: Trust) -> Registered:
    """Return the client that a chain makes: 3 signatures, and the client's own.

    Raises:
        MalformedMessage, BadSignature: some signature does not fit.
        UnknownOperator: the token is not the operator's.
        WrongContext: token, entry and network do not belong together.
        TokenOverused: the token may not make that many clients.
    """
    token = _by_operator(chain.token, TokenCert, trust)
    entry = read_signed(chain.entry, ClientEntry, signer=token.token_key)
    if token.deployment != trust.deployment or (entry.deployment, entry.token_id) != (token.deployment, token.token_id):
        raise WrongContext("chain")
    if entry.index >= token.uses:
        raise TokenOverused(token.token_id, token.site, token.uses, entry.index + 1)
    verify(POSSESSION, chain.entry.body, entry.client_key, chain.possession)
    return Registered(
        client_id_of(trust.deployment, entry.client_key),
        entry.client_key,
        token.token_id,
        entry.index,
        token.site,
        token.uses,
        token.not_after,
        chain,
    )


def _by_operator(signed: Signed, body: type[Said], trust: Trust, known: KnownSignatures | None = None) -> Said:
    if signed.signer != trust.operator_key:
        raise UnknownOperator(body.kind)
    return read_signed(signed, body, known=known)


class KnownChains:
    """Chains that were verified, by their hash: the same bytes are not verified again.

    Args:
        most: how many are remembered; the least recently used go first.

    Attributes:
        signatures: of what those of this network said, known in the same way.
    """

    def __init__(self, trust: Trust, most: int = 10_000) -> None:
        self.trust = trust
        self.signatures = KnownSignatures(most)
        self._most = most
        self._known: OrderedDict[bytes, Registered] = OrderedDict()

    def registered(self, chain: Chain) -> Registered:
        """Return the client that a chain makes; raises what ``verify_chain`` raises."""
        key = plain_hash(chain.encode())
        client = self._known.get(key)
        if client is None:
            client = self._known[key] = verify_chain(chain, self.trust)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return client


def check_standing(client: Registered, policy: Policy, now_s: int) -> bool:
    """Return whether the client's token has ended, within the day's grace that calls for a warning.

    Args:
        now_s: wall clock, seconds since 1970.

    Raises:
        Revoked: the operator has withdrawn the client or its token.
        Expired: its token ended more than a day ago.
    """
    if client.token_id in policy.revoked_tokens:
        raise Revoked("token", client.token_id.hex())
    if client.client_id in policy.revoked_clients:
        raise Revoked("client", client.client_id.hex())
    return _in_grace(TokenCert.kind, client.not_after, now_s)


def _in_grace(kind: str, not_after: int, now_s: int) -> bool:
    if now_s > not_after + GRACE_S:
        raise Expired(kind, (now_s - not_after) / 86_400)
    return now_s > not_after


def check_together(clients: Iterable[Registered]) -> None:
    """Look at the clients of one list together, a committee's or a sum's.

    Raises:
        EntryConflict: two keys are entered under one number of a token.
        TokenOverused: a token has more clients than it may.
    """
    by_entry: dict[tuple[bytes, int], Registered] = {}
    for client in clients:
        other = by_entry.setdefault((client.token_id, client.index), client)
        if other.client_key != client.client_key:
            raise EntryConflict(other, client)
    counts = Counter(token_id for token_id, _ in by_entry)
    for client in by_entry.values():
        if counts[client.token_id] > client.uses:
            raise TokenOverused(client.token_id, client.site, client.uses, counts[client.token_id])


def verify_server(
    signed: Signed, trust: Trust, role: str, policy: Policy, now_s: int, *, known: KnownSignatures | None = None
) -> ServerCert:
    """Return a server's certificate.

    Args:
        known: where it is looked up whether its signature was verified before.

    Raises:
        UnknownOperator, MalformedMessage, BadSignature, WrongContext: it is not this network's for that role.
        Revoked, Expired: it no longer holds.
    """
    cert = _by_operator(signed, ServerCert, trust, known)
    if (cert.deployment, cert.role) != (trust.deployment, role):
        raise WrongContext(ServerCert.kind)
    if cert.server_key in policy.revoked_servers:
        raise Revoked("server", cert.name)
    _in_grace(ServerCert.kind, cert.not_after, now_s)
    return cert


def accept_policy(signed: Signed, trust: Trust, highest: PolicyMark | None, now_s: int) -> tuple[Policy, PolicyMark]:
    """Return the policy, and the mark that is to be on disk before the policy is used.

    Raises:
        UnknownOperator, MalformedMessage, BadSignature, WrongContext: it is not this network's policy.
        PolicyWentBack: a later one was seen here, or another one of this version.
        Expired: it ended more than a day ago.
    """
    policy = _by_operator(signed, Policy, trust)
    if policy.deployment != trust.deployment:
        raise WrongContext(Policy.kind)
    mark = PolicyMark(policy.version, policy_hash(signed.body))
    if highest is not None and (
        mark.version < highest.version or (mark.version == highest.version and mark.hash != highest.hash)
    ):
        raise PolicyWentBack(mark.version, highest.version)
    check_policy_holds(policy, now_s)
    return policy, mark


def check_policy_holds(policy: Policy, now_s: int) -> None:
    """Raise Expired where a policy that was accepted before has ended more than a day ago."""
    _in_grace(Policy.kind, policy.not_after, now_s)
