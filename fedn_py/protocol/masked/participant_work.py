"""What an update participant's machine is, hears and does: its states, events and effects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.differencing import MayBeOpened, Proofs, SentRecord
from fedn_py.protocol.masked.signing import Signed

# ---- states


@dataclass(frozen=True, slots=True)
class Waiting:
    """No plan is at hand, or its round goes on without this client."""


@dataclass(frozen=True, slots=True)
class Training:
    """The package trains."""

    terms: CellTerms


@dataclass(frozen=True, slots=True)
class Checking:
    """The update is there; the committee is awaited."""

    terms: CellTerms


@dataclass(frozen=True, slots=True)
class Sealing:
    """The update is being masked for a committee.

    Attributes:
        tries: how many uploads this one is for the committee, from 1.
    """

    terms: CellTerms
    committee: Committee
    tries: int


@dataclass(frozen=True, slots=True)
class Sent:
    """The upload may have left; resumed and repeated with the same bytes."""

    terms: CellTerms
    committee: Committee
    tries: int
    upload_id: bytes


@dataclass(frozen=True, slots=True)
class SittingOut:
    """An earlier upload of this work may yet be opened.

    Attributes:
        ctx: of the earlier upload.
    """

    terms: CellTerms
    ctx: bytes


State: TypeAlias = Waiting | Training | Checking | Sealing | Sent | SittingOut


@dataclass(frozen=True, slots=True)
class Seen:
    """The last plan of a session that was believed; kept on disk."""

    round: int
    attempt: int
    plan_hash: bytes


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An upload whose exact bytes are on disk, to be resumed or repeated."""

    ctx: bytes
    upload_id: bytes


@dataclass(frozen=True, slots=True)
class UpdateParticipant:
    """One client, in whatever sessions it takes part: one update at a time, one record of what was sent.

    Attributes:
        rework_max: of the policy.
        seen: the last plan of each session, of what is on disk.
        sent: all records of uploads on disk.
        stored: the stored upload under each ctx0.
        trained: the work that an update is at hand for.
        proofs: of uploads that can never be opened.
    """

    rework_max: int
    phase: State = field(default_factory=Waiting)
    seen: Mapping[bytes, Seen] = field(default_factory=dict)
    sent: tuple[SentRecord, ...] = ()
    stored: Mapping[bytes, StoredUpload] = field(default_factory=dict)
    trained: bytes | None = None
    proofs: Proofs = field(default_factory=Proofs)


# ---- events


@dataclass(frozen=True, slots=True)
class PlanChecked:
    """A plan and an order for this client's cell came, and all that can be checked of them was."""

    terms: CellTerms
    plan_hash: bytes


@dataclass(frozen=True, slots=True)
class TrainingEnded:
    """There is an update for a work."""

    work: bytes


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """There is none, and there will not be one."""

    work: bytes


@dataclass(frozen=True, slots=True)
class CommitteeChecked:
    """The cell's committee came, and ``check_committee`` found it right under these terms."""

    committee: Committee
    terms: CellTerms


@dataclass(frozen=True, slots=True)
class UpdateSealed:
    """The masked update, its header and its boxes are made; they are not on disk yet."""

    ctx: bytes
    upload_id: bytes


@dataclass(frozen=True, slots=True)
class UploadRefused:
    """The combiner will not have the upload.

    Attributes:
        by_member: a member refused its box: another upload may be tried.
    """

    upload_id: bytes
    by_member: bool


@dataclass(frozen=True, slots=True)
class AbortArrived:
    """A member's Abort came, of whatever cell."""

    abort: Signed


@dataclass(frozen=True, slots=True)
class NotOpenedArrived:
    """A reducer's NotOpened came, in a plan or by itself."""

    void: Signed
    reducers: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round has its model, or was given up for good."""

    session: bytes
    round: int


Event: TypeAlias = (
    PlanChecked
    | TrainingEnded
    | TrainingFailed
    | CommitteeChecked
    | UpdateSealed
    | UploadRefused
    | AbortArrived
    | NotOpenedArrived
    | RoundEnded
)


# ---- effects


@dataclass(frozen=True, slots=True)
class SaveSeen:
    """Sync to disk which plan was seen last."""

    session: bytes
    seen: Seen


@dataclass(frozen=True, slots=True)
class Train:
    """Train for this plan; then TrainingEnded or TrainingFailed."""

    terms: CellTerms


@dataclass(frozen=True, slots=True)
class SealUpdate:
    """Draw seeds, a rounding seed and an upload id, mask the update, seal the seeds; then UpdateSealed."""

    terms: CellTerms
    committee: Committee


@dataclass(frozen=True, slots=True)
class SaveSent:
    """Sync to disk the record and the exact bytes of the upload."""

    record: SentRecord
    upload_id: bytes


@dataclass(frozen=True, slots=True)
class EraseSeeds:
    """Overwrite the mask seeds and the rounding seed."""


@dataclass(frozen=True, slots=True)
class SendUpload:
    """Send header and boxes, then the chunks, of what is on disk; resume where it broke off."""

    upload_id: bytes


@dataclass(frozen=True, slots=True)
class SitOut:
    """Tell people why this client takes no part."""

    reason: MayBeOpened


@dataclass(frozen=True, slots=True)
class DropUpdate:
    """Remove the update and the stored uploads."""


Effect: TypeAlias = SaveSeen | Train | SealUpdate | SaveSent | EraseSeeds | SendUpload | SitOut | DropUpdate
