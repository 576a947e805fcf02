"""What the operator and a token's holder sign: the policy, tokens, clients, servers.

The chain is operator key -> token key -> client key. No server holds the first two: none can make a client. The
credentials at the end are what the operator, a site and a server keep to themselves, with what they trust in.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from fedn_py.protocol.masked.encoding import (
    U8,
    U32,
    U64,
    Body,
    Bytes16,
    Bytes32,
    Bytes64,
    Count32,
    Exactly,
    Float,
    Many,
    Name,
    Nested,
    OneOf,
    Text,
)
from fedn_py.protocol.masked.signing import Signed

MOST_REVOKED = 10_000

Reopen = Annotated[str, OneOf(("strict", "reducer"))]
"""What lets a client upload the same work again: every member's Abort alone, or the reducer's NotOpened too."""

Metrics = Annotated[str, OneOf(("none", "sum", "client"))]
"""How far a site lets its metrics go: not at all, inside sums only, by client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Body):
    """The operator's floors and revocations; the highest version that a client has seen holds for it.

    Attributes:
        not_after: seconds since 1970.
        epoch_seed: the operator's random bytes that the lottery starts from.
        reopen: the weaker of the two that plans may ask for.
        rework_max: how many works a client does on one base model beside the first.
        revoked_tokens: token ids.
        revoked_clients: client ids.
        revoked_servers: server keys.
        metrics: the most that plans may ask for.
    """

    kind: ClassVar[str] = "policy"
    deployment: Bytes16
    version: U64
    not_after: U64
    epoch_seed: Bytes32
    modes: Annotated[tuple[str, ...], Many(Text(16), most=8)]
    g_min: Count32
    k_min: U8
    r_min: U8
    n_max_max: Count32
    clip_min: Float
    clip_max: Float
    weight_cap_max: Count32
    n_draw_min: U32
    reopen: Reopen
    rework_max: U32
    revoked_tokens: Annotated[tuple[bytes, ...], Many(Exactly(16), most=MOST_REVOKED)] = ()
    revoked_clients: Annotated[tuple[bytes, ...], Many(Exactly(32), most=MOST_REVOKED)] = ()
    revoked_servers: Annotated[tuple[bytes, ...], Many(Exactly(32), most=MOST_REVOKED)] = ()
    metrics: Metrics = "sum"


@dataclass(frozen=True, slots=True)
class TokenCert(Body):
    """The operator lets a site's token make ``uses`` clients.

    Attributes:
        not_after: seconds since 1970.
        token_key: Ed25519 public key; the secret one never leaves the site.
    """

    kind: ClassVar[str] = "token certificate"
    deployment: Bytes16
    token_id: Bytes16
    site: Name
    uses: Count32
    not_after: U64
    token_key: Bytes32


@dataclass(frozen=True, slots=True)
class ClientEntry(Body):
    """A token's holder makes a client: number ``index`` of the token's uses, counted from 0."""

    kind: ClassVar[str] = "client entry"
    deployment: Bytes16
    token_id: Bytes16
    index: U32
    client_key: Bytes32


POSSESSION = "client possession"
"""The kind under which a client signs its own entry, to show that it holds the key."""


@dataclass(frozen=True, slots=True)
class Chain(Body):
    """What makes a key a client's: the operator's word for the token, the token's for the client, the client's own."""

    kind: ClassVar[str] = "chain"
    token: Annotated[Signed, Nested(Signed)]
    entry: Annotated[Signed, Nested(Signed)]
    possession: Bytes64


@dataclass(frozen=True, slots=True)
class ServerCert(Body):
    """The operator names a key as a reducer's or combiner's."""

    kind: ClassVar[str] = "server certificate"
    deployment: Bytes16
    role: Annotated[str, OneOf(("reducer", "combiner"))]
    server_key: Bytes32
    name: Name
    not_after: U64


@dataclass(frozen=True, slots=True)
class OperatorSecret(Body):
    """What makes an operator; kept off every server.

    Attributes:
        operator_secret: Ed25519 seed.
        epoch_seed: random bytes that the lottery starts from; public in the policy.
    """

    kind: ClassVar[str] = "operator secret"
    operator_secret: Bytes32 = field(repr=False)
    deployment: Bytes16
    epoch_seed: Bytes32


@dataclass(frozen=True, slots=True)
class JoinCredential(Body):
    """What a site makes its clients with; no server may see it.

    Attributes:
        operator_key: Ed25519 public key; the only one that the site's clients believe.
        token: a TokenCert.
        token_secret: Ed25519 seed of the key that the token names.
    """

    kind: ClassVar[str] = "join credential"
    operator_key: Bytes32
    deployment: Bytes16
    token: Annotated[Signed, Nested(Signed)]
    token_secret: Bytes32 = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServerCredential(Body):
    """What a reducer or combiner shows and signs with.

    Attributes:
        operator_key: Ed25519 public key; the only one that the server believes.
        certificate: a ServerCert.
        server_secret: Ed25519 seed of the key that the certificate names.
    """

    kind: ClassVar[str] = "server credential"
    operator_key: Bytes32
    deployment: Bytes16
    certificate: Annotated[Signed, Nested(Signed)]
    server_secret: Bytes32 = field(repr=False)
