"""What a client of masked rounds keeps on disk, as bodies: what is read back is exactly what was written."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedn_py.aggregation.metrics import MAX_NAME_CHARACTERS, MAX_NAMES
from fedn_py.protocol.masked.certificates import Chain
from fedn_py.protocol.masked.encoding import U64, Body, Bytes16, Bytes32, Count32, Exactly, Float, Many, Nested, Text
from fedn_py.protocol.masked.round_messages import Attempt, Signature
from fedn_py.protocol.masked.words import MaskedUpload


@dataclass(frozen=True, slots=True)
class Pinned(Body):
    """The network that this client belongs to, told by its first join credential, and its chain there."""

    kind: ClassVar[str] = "pinned network"
    operator_key: Bytes32
    deployment: Bytes16
    chain: Annotated[Chain, Nested(Chain)]


@dataclass(frozen=True, slots=True)
class BeaconRow(Body):
    """The last beacon of a session that this client is sure of."""

    kind: ClassVar[str] = "known beacon"
    session: Bytes16
    session_number: Count32
    round: U64
    beacon: Bytes32
    parent_commit: Bytes32


@dataclass(frozen=True, slots=True)
class SessionMark(Body):
    """The highest number of a session that this client has uploaded in, or of the first that it saw.

    Attributes:
        epoch: of the policy that was the newest then; another one's first session is taken at its word.
    """

    kind: ClassVar[str] = "session mark"
    session_number: Count32
    epoch: Bytes32


@dataclass(frozen=True, slots=True)
class ReducerRow(Body):
    """A reducer's key that the operator certified, and when its certificate ends, in seconds since 1970."""

    kind: ClassVar[str] = "known reducer"
    key: Bytes32
    not_after: U64


@dataclass(frozen=True, slots=True)
class SeenRow(Body):
    """The last plan of a session that was believed."""

    kind: ClassVar[str] = "seen plan"
    session: Bytes16
    round: U64
    attempt: Attempt
    plan_hash: Bytes32


@dataclass(frozen=True, slots=True)
class MembershipRow(Body):
    """A key was offered in this attempt."""

    kind: ClassVar[str] = "membership"
    session: Bytes16
    round: U64
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Measured(Body):
    """A metric's value."""

    kind: ClassVar[str] = "metric"
    name: Annotated[str, Text(4 * MAX_NAME_CHARACTERS)]
    value: Float


@dataclass(frozen=True, slots=True)
class KeptUpload(Body):
    """A masked update whose exact bytes are in a file, to be sent again as they are.

    Attributes:
        session, round: whose commit ends its use.
        size, sha256: of the file.
        metrics: that went with it by client, as far as plan and site let them.
    """

    kind: ClassVar[str] = "kept upload"
    ctx0: Bytes32
    ctx: Bytes32
    upload_id: Bytes16
    session: Bytes16
    round: U64
    upload: Annotated[MaskedUpload, Nested(MaskedUpload)]
    size: U64
    sha256: Bytes32
    metrics: Annotated[tuple[Measured, ...], Many(Nested(Measured), most=MAX_NAMES)] = ()

    @property
    def file_name(self) -> str:
        """Where its bytes are."""
        return f"upload-{self.upload_id.hex()}"


@dataclass(frozen=True, slots=True)
class KeptAnswer(Body):
    """A member's answer whose sealed stream is in a file, to be sent again as it is.

    Attributes:
        session, round: whose commit ends its use.
        size, sha256: of the file.
    """

    kind: ClassVar[str] = "kept answer"
    ctx: Bytes32
    session: Bytes16
    round: U64
    answer: Signature
    size: U64
    sha256: Bytes32

    @property
    def file_name(self) -> str:
        """Where its stream is."""
        return answer_file_name(self.ctx)


@dataclass(frozen=True, slots=True)
class Hash(Body):
    """32 bytes that are remembered: a key, a work, a context."""

    kind: ClassVar[str] = "hash"
    value: Annotated[bytes, Exactly(32)]


def answer_file_name(ctx: bytes) -> str:
    """Return the name of the file that a context's sealed stream is in."""
    return f"answer-{ctx.hex()}"
