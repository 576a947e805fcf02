"""What the combiner's machine is made of: its states, the events it hears and the effects it asks for.

States hold ids and counts; the sum, the spool and the metrics live in the service that performs the effects.
The rules are in ``combiner.py``.
"""

from collections.abc import Set
from dataclasses import dataclass, field

from fedn_py.identity import ClientId, Digest, Generation
from fedn_py.protocol.cell_progress import CellProgress
from fedn_py.protocol.crowd import Crowd
from fedn_py.protocol.grown import Grown
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.masked.cell_work import CellEffect, CellEvent, CollectingKeys, CollectingUpdates, ReportingSum
from fedn_py.protocol.messages import (
    CellCancelled,
    CellFailed,
    CellOrder,
    Contribution,
    Exclusion,
    TaskCancelled,
    TrainTask,
    UpdateReceipt,
    ValidateTask,
    ValidationOrder,
)

NO_GENERATION = Generation(0)

ACKS_S = 10.0
"""A member that has not looked at a box for so long is not waited for, nor is one that is away for so long."""

# ---- state


@dataclass(frozen=True, slots=True)
class NoWork:
    """Nothing to do.

    Attributes:
        last: the newest generation seen; older ones are stale.
        taken_back: why its order was taken back, empty where it ended otherwise.
    """

    last: Generation = NO_GENERATION
    taken_back: str = ""


@dataclass(frozen=True, slots=True)
class Preparing:
    """Fetching the objects that an order names."""

    order: CellOrder | ValidationOrder


@dataclass(frozen=True, slots=True)
class Collecting:
    """Clients train, upload and are added.

    Attributes:
        training: have the task and owe an answer.
        gone: had the task and have been away for too long.
        adding: upload id to the contribution that is being added.
        closing: no further update is taken; what is being added is awaited.
    """

    order: CellOrder
    training: Set[ClientId]
    gone: Set[ClientId] = Crowd()
    adding: tuple[tuple[str, Contribution], ...] = ()
    included: Grown[Contribution] = field(default_factory=Grown)
    excluded: Grown[Exclusion] = field(default_factory=Grown)
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Reporting:
    """The cell is closed; its partial aggregate is being stored and sent."""

    order: CellOrder
    included: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Validating:
    """Clients validate a model."""

    order: ValidationOrder
    waiting: Set[ClientId]
    gone: Set[ClientId] = Crowd()
    validated: Set[ClientId] = Crowd()
    excluded: Grown[Exclusion] = field(default_factory=Grown)


Work = NoWork | Preparing | Collecting | Reporting | Validating | CollectingKeys | CollectingUpdates | ReportingSum
"""What it is at; the last three are of masked cells."""


@dataclass(frozen=True, slots=True)
class Combiner:
    """The whole state: who is attached, and the work at hand.

    Attributes:
        reconnect_grace_s: how long a client whose stream broke is waited for.
        acks_s: how long a member of a committee has to look at a box.
    """

    reconnect_grace_s: float
    attached: Set[ClientId] = Crowd()
    work: Work = field(default_factory=NoWork)
    acks_s: float = ACKS_S


# ---- events


@dataclass(frozen=True, slots=True)
class Ordered:
    """The reducer sent an order."""

    order: CellOrder | ValidationOrder


@dataclass(frozen=True, slots=True)
class OrderCancelled:
    """The reducer took an order back."""

    cancelled: CellCancelled


@dataclass(frozen=True, slots=True)
class ObjectsFetched:
    """The objects that an order names are here."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class ObjectsNotFetched:
    """The objects that an order names cannot be had."""

    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True)
class ClientAttached:
    """A client's stream is open."""

    client: ClientId


@dataclass(frozen=True, slots=True)
class ClientDetached:
    """A client's stream has ended."""

    client: ClientId


@dataclass(frozen=True, slots=True)
class ClientStayedAway:
    """A detached client's time to come back is over."""

    generation: Generation
    client: ClientId


@dataclass(frozen=True, slots=True)
class UpdateArrived:
    """A client's update is here whole, and its hash is right."""

    generation: Generation
    upload_id: str
    contribution: Contribution


@dataclass(frozen=True, slots=True)
class UpdateAdded:
    """An update is in the sum."""

    generation: Generation
    upload_id: str


@dataclass(frozen=True, slots=True)
class UpdateNotAdded:
    """An update turned out to be unfit; the sum is as it was."""

    generation: Generation
    upload_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class TaskNotDone:
    """A client says that it could not do its task."""

    generation: Generation
    client: ClientId
    reason: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class ValidationReturned:
    """A client's metrics of the model are here."""

    generation: Generation
    client: ClientId


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """An order's time is over."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class Reported:
    """The partial aggregate is stored and on its way to the reducer."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class NotReported:
    """The partial aggregate could not be stored."""

    generation: Generation
    reason: str


Event = (
    Ordered
    | OrderCancelled
    | ObjectsFetched
    | ObjectsNotFetched
    | ClientAttached
    | ClientDetached
    | ClientStayedAway
    | UpdateArrived
    | UpdateAdded
    | UpdateNotAdded
    | TaskNotDone
    | ValidationReturned
    | DeadlinePassed
    | Reported
    | NotReported
    | CellEvent
)


# ---- effects


@dataclass(frozen=True, slots=True)
class FetchObjects:
    """Get these objects from the store, so that clients can download them."""

    generation: Generation
    digests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class SendTask:
    """Tell a client what to do."""

    client: ClientId
    task: TrainTask | ValidateTask


@dataclass(frozen=True, slots=True)
class CancelTask:
    """Tell a client that its task is no longer wanted."""

    client: ClientId
    cancelled: TaskCancelled


@dataclass(frozen=True, slots=True)
class AddUpdate:
    """Check a whole update and add it to the sum of its generation."""

    generation: Generation
    upload_id: str
    contribution: Contribution


@dataclass(frozen=True, slots=True)
class AnswerUpload:
    """Tell the client that waits for it what became of its upload."""

    upload_id: str
    receipt: UpdateReceipt


@dataclass(frozen=True, slots=True)
class StorePartialAggregate:
    """Store the sum of a generation as an object, then report it."""

    generation: Generation
    included: tuple[Contribution, ...]
    excluded: tuple[Exclusion, ...]


@dataclass(frozen=True, slots=True)
class ReportValidation:
    """Report the metrics of a generation."""

    generation: Generation
    validated: Set[ClientId]
    excluded: tuple[Exclusion, ...]


@dataclass(frozen=True, slots=True)
class ReportFailure:
    """Tell the reducer that an order cannot be answered."""

    failure: CellFailed


@dataclass(frozen=True, slots=True)
class ReportProgress:
    """Tell the reducer how far the work is, unless more is known by the time that it is told."""

    progress: CellProgress


@dataclass(frozen=True, slots=True)
class Forget:
    """Let go of the sum, the spool and the metrics of a generation."""

    generation: Generation


Effect = (
    FetchObjects
    | SendTask
    | CancelTask
    | AddUpdate
    | AnswerUpload
    | StorePartialAggregate
    | ReportValidation
    | ReportFailure
    | ReportProgress
    | Forget
    | CellEffect
    | StartTimer[Event]
)
