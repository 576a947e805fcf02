"""What reducer, combiners and clients say to each other in a masked round, as bodies to be signed.

Ids of deployments, sessions, cells, tokens and uploads are 16 random bytes; client ids are 32, hashes of keys; a ctx
is the 32 bytes that bind a message to its network, session, round, attempt, cell, plan and committee.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedn_py.protocol.masked.certificates import Chain, Metrics, Reopen
from fedn_py.protocol.masked.encoding import (
    U8,
    U32,
    U64,
    Body,
    Bytes16,
    Bytes32,
    Count32,
    Exactly,
    Float,
    Line,
    Many,
    Name,
    Nested,
    Text,
    Unsigned,
)
from fedn_py.protocol.masked.signing import Signed

MOST_CLIENTS = 4_096
MOST_SLOTS = 15
MOST_REPLICAS = 8
MOST_MEMBERS = MOST_SLOTS * MOST_REPLICAS
MOST_METRICS = 64
MOST_CELLS = 1_000
BOX_BYTES = 96
SEALED_KEY_BYTES = 112

Slot = Annotated[int, Unsigned(1, most=MOST_SLOTS - 1)]
Attempt = Annotated[int, Unsigned(4, least=1)]
Signature = Annotated[Signed, Nested(Signed)]


@dataclass(frozen=True, slots=True)
class CommitteeRow(Body):
    """One member of a committee: who it is, and its key for this attempt."""

    kind: ClassVar[str] = "committee row"
    slot: Slot
    replica: U8
    chain: Annotated[Chain, Nested(Chain)]
    key: Signature


Rows = Annotated[tuple[CommitteeRow, ...], Many(Nested(CommitteeRow), most=MOST_MEMBERS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeaconLink(Body):
    """What leads from the beacon of a round to that of the next.

    Attributes:
        order: the reducer's CellOrder of the beacon cell, the one with the lowest id in the commit.
        commit: the reducer's RoundCommitted.
        rows: the beacon cell's committee.
        nonces: what its members revealed, in the order of the rows; empty unless every one of them did.
    """

    kind: ClassVar[str] = "beacon link"
    round: U64
    attempt: Attempt
    policy_hash: Bytes32
    order: Signature
    commit: Signature
    rows: Rows
    nonces: Annotated[tuple[bytes, ...], Many(Exactly(32), most=MOST_MEMBERS)]


@dataclass(frozen=True, slots=True)
class MetricBound(Body):
    """A metric of the clients' training that is summed with their updates; its values are within +-bound."""

    kind: ClassVar[str] = "metric bound"
    name: Name
    bound: Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Body):
    """What one attempt at one round is, for all its cells; signed by the reducer.

    Attributes:
        base_sha256: of the model that is trained from.
        parent_commit: hash of the commit of the round before; zeros in round 1.
        params_sha256: of the task parameters.
        mode: the way of masking, "pet".
        n_parameters: floats of an update, d.
        clip: bound of a value, in model units.
        n_max: clients in one opened sum, at most.
        weight_unit: samples for a weight of 1.
        sum_ms: how long the phase Sum is, and so on; sum2_ms includes the time to compute and send an answer.
        rpk: the reducer's X25519 key of this attempt, which answers are sealed to.
        metrics_release: how far metrics go.
        beacon: the random bytes that the lottery of this round draws by.
        beacon_proof: the link from the round before.
        voids: NotOpened of earlier attempts, each signed by a reducer.
    """

    kind: ClassVar[str] = "plan"
    policy_hash: Bytes32
    session: Bytes16
    session_number: Count32
    round: Annotated[int, Unsigned(8, least=1)]
    attempt: Attempt
    base_sha256: Bytes32
    parent_commit: Bytes32
    package_sha256: Bytes32
    params_sha256: Bytes32
    mode: Annotated[str, Text(16)]
    n_parameters: Count32
    clip: Float
    n_max: Count32
    weight_cap: Count32
    weight_unit: Count32 = 1
    metrics: Annotated[tuple[MetricBound, ...], Many(Nested(MetricBound), most=MOST_METRICS)] = ()
    metrics_release: Metrics = "sum"
    sum_ms: U32 = 30_000
    update_ms: U32 = 600_000
    sum2_ms: U32 = 60_000
    rpk: Bytes32
    reopen: Reopen
    beacon: Bytes32
    beacon_proof: Annotated[tuple[BeaconLink, ...], Many(Nested(BeaconLink), most=1)] = ()
    voids: Annotated[tuple[Signed, ...], Many(Nested(Signed), most=2 * MOST_CELLS)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOrder(Body):
    """What one cell of a plan is; signed by the reducer.

    Attributes:
        combiner: the key of the combiner that runs it.
        k: slots. r: replicas of a slot, at most.
        echo_c: how many corrupt members the echo holds against.
        g_min: clients in an opened sum, at least.
        n_draw: for how many clients the lottery draws.
    """

    kind: ClassVar[str] = "cell order"
    plan_hash: Bytes32
    cell: Bytes16
    generation: U32
    combiner: Bytes32
    k: Annotated[int, Unsigned(1, least=1, most=MOST_SLOTS)]
    r: Annotated[int, Unsigned(1, least=1, most=MOST_REPLICAS)]
    echo_c: U8
    g_min: Annotated[int, Unsigned(4, least=1, most=MOST_CLIENTS)]
    n_draw: Count32


@dataclass(frozen=True, slots=True)
class KeyMessage(Body):
    """A drawn client offers to serve a slot; signed by the client.

    Attributes:
        epk: X25519 key of this attempt alone.
        nonce_commit: of the nonce that its answer will reveal.
    """

    kind: ClassVar[str] = "key message"
    ctx0: Bytes32
    slot: Slot
    epk: Bytes32
    nonce_commit: Bytes32


@dataclass(frozen=True, slots=True)
class CommitteeBody(Body):
    """The committee of a cell; its rows are signed each by their member."""

    kind: ClassVar[str] = "committee"
    ctx0: Bytes32
    rows: Rows


@dataclass(frozen=True, slots=True)
class UpdateHeader(Body):
    """What an upload is going to be; signed by the client.

    Attributes:
        vector_hash: sha256 of the masked words, little-endian: of the bytes that are uploaded.
        n_words: L.
        seed_commits: one for each slot.
        box_hashes: BLAKE2b-256 of the box for each replica of each slot.
    """

    kind: ClassVar[str] = "update header"
    ctx: Bytes32
    client_id: Bytes32
    upload_id: Bytes16
    vector_hash: Bytes32
    n_words: U32
    seed_commits: Annotated[tuple[bytes, ...], Many(Exactly(32), most=MOST_SLOTS)]
    box_hashes: Annotated[tuple[tuple[bytes, ...], ...], Many(Many(Exactly(32), most=MOST_REPLICAS), most=MOST_SLOTS)]


@dataclass(frozen=True, slots=True)
class BoxFor(Body):
    """One client's box for one member, with what shows whose it is."""

    kind: ClassVar[str] = "box"
    chain: Annotated[Chain, Nested(Chain)]
    header: Signature
    box: Annotated[bytes, Exactly(BOX_BYTES)]


@dataclass(frozen=True, slots=True)
class IncludedRow(Body):
    """One client of a sum, and which upload of it."""

    kind: ClassVar[str] = "included row"
    client_id: Bytes32
    header_hash: Bytes32


IncludedRows = Annotated[tuple[IncludedRow, ...], Many(Nested(IncludedRow), most=MOST_CLIENTS)]


@dataclass(frozen=True, slots=True)
class Refused(Body):
    """A client that is not in the sum, and why."""

    kind: ClassVar[str] = "refusal"
    client_id: Bytes32
    reason: Line


Refusals = Annotated[tuple[Refused, ...], Many(Nested(Refused), most=MOST_CLIENTS)]


@dataclass(frozen=True, slots=True)
class BoxAck(Body):
    """A member has looked at these boxes; signed by the member."""

    kind: ClassVar[str] = "box acknowledgement"
    ctx: Bytes32
    accepted: IncludedRows
    rejected: Refusals


@dataclass(frozen=True, slots=True)
class CellClosed(Body):
    """The combiner's sum is made; signed by the combiner.

    Attributes:
        rows: whose updates it is the sum of, sorted by client.
        partial_sha256: of the sum's words, little-endian.
    """

    kind: ClassVar[str] = "closed cell"
    ctx: Bytes32
    rows: IncludedRows
    partial_sha256: Bytes32
    refused: Refusals


@dataclass(frozen=True, slots=True)
class OpenSum2(Body):
    """The reducer asks a cell's committee to open exactly this set; signed by the reducer."""

    kind: ClassVar[str] = "opening of sum2"
    ctx: Bytes32
    included_hash: Bytes32
    n: U32


@dataclass(frozen=True, slots=True)
class Included(Body):
    """The set to be opened, row by row, as the combiner relays it to members."""

    kind: ClassVar[str] = "included"
    opening: Signature
    rows: IncludedRows
    boxes: Annotated[tuple[BoxFor, ...], Many(Nested(BoxFor), most=MOST_CLIENTS)] = ()


@dataclass(frozen=True, slots=True)
class Echo(Body):
    """A member says which set it was asked to open; signed by the member, who says no other."""

    kind: ClassVar[str] = "echo"
    ctx: Bytes32
    included_hash: Bytes32


@dataclass(frozen=True, slots=True)
class Answer(Body):
    """A member's answer, the stream aside; signed by the member.

    Attributes:
        nonce: what its key message committed to.
        sealed_key: the stream's key and the digest of what is in it, sealed to the plan's rpk.
        stream_hash: sha256 of the sealed stream, by which it is stored. stream_bytes: its length.
    """

    kind: ClassVar[str] = "answer"
    ctx: Bytes32
    included_hash: Bytes32
    slot: Slot
    nonce: Bytes32
    sealed_key: Annotated[bytes, Exactly(SEALED_KEY_BYTES)]
    stream_hash: Bytes32
    stream_bytes: U64


@dataclass(frozen=True, slots=True)
class CommittedCell(Body):
    """One cell of a committed round."""

    kind: ClassVar[str] = "committed cell"
    cell: Bytes16
    ctx: Bytes32
    included_hash: Bytes32
    n: U32


@dataclass(frozen=True, slots=True)
class RoundCommitted(Body):
    """A round has a new model; signed by the reducer.

    Attributes:
        cells: sorted by cell.
        previous: hash of the commit before; zeros in round 1.
    """

    kind: ClassVar[str] = "committed round"
    session: Bytes16
    round: U64
    attempt: Attempt
    model_sha256: Bytes32
    cells: Annotated[tuple[CommittedCell, ...], Many(Nested(CommittedCell), least=1, most=MOST_CELLS)]
    previous: Bytes32


@dataclass(frozen=True, slots=True)
class Abort(Body):
    """A member has erased its keys and will never answer; signed by the member."""

    kind: ClassVar[str] = "abort"
    ctx: Bytes32
    reason: Line


@dataclass(frozen=True, slots=True)
class NotOpened(Body):
    """The reducer never opened this cell and has erased what could; signed by the reducer."""

    kind: ClassVar[str] = "not opened"
    ctx: Bytes32
    reason: Line
