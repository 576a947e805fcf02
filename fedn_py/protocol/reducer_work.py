"""What the reducer's machine is made of: its states, the events it hears and the effects it asks for.

The rules are in ``reducer.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fedn_py.identity import ClientId, CombinerName, Digest, Generation, InstanceId, SessionId
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.messages import (
    CellCancelled,
    CellOrder,
    Exclusion,
    Masking,
    PartialAggregate,
    RoundCommitted,
    RoundPlan,
    ValidationOrder,
    ValidationReport,
)

# ---- state


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """What a session was started with; never changes.

    Attributes:
        number: counts the sessions of this network, from 1.
        parameters: JSON object for the package's entry points.
        clients_wanted: how many clients are drawn for a round; 0 for all that are attached.
        clients_required: fewer updates than this fail the round.
        max_attempts: after so many failed attempts at one round the session is paused; 0 for no limit.
        retry_delay_s: before the second attempt; doubled for each further one, up to a minute.
        gather_timeout_s: how long wanted clients are waited for once the required ones are there.
    """

    session: SessionId
    number: int
    rounds: int
    package: Digest
    seed_model: Digest
    parameters: str = "{}"
    masking: Masking = "none"
    masked: MaskedOptions = field(default_factory=MaskedOptions)
    clients_wanted: int = 0
    clients_required: int = 1
    update_timeout_s: float = 600.0
    validate: bool = True
    validation_timeout_s: float = 120.0
    max_attempts: int = 3
    retry_delay_s: float = 2.0
    gather_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session is.

    Attributes:
        committed: rounds that have made a model.
        head: the newest global model.
        attempt: number of the attempt that is running or comes next.
        generation: the last one given out.
        drawn: how many clients the last attempt had; where all are wanted, so many are waited for, for a while.
        intent: what the operator wants to happen when the running round ends.
    """

    terms: SessionTerms
    committed: int
    head: Digest
    attempt: int
    generation: Generation
    drawn: int = 0
    intent: Literal["run", "pause", "stop"] = "run"


@dataclass(frozen=True, slots=True)
class Joined:
    """A combiner that is connected, and who is attached to it."""

    instance: InstanceId
    clients: frozenset[ClientId] = frozenset()


Roster = Mapping[CombinerName, Joined]


@dataclass(frozen=True, slots=True)
class Cell:
    """One combiner's part in an attempt.

    Attributes:
        partial: its answer, once it is here and fit.
        lost: why there will be no answer, empty while there may be.
    """

    instance: InstanceId
    generation: Generation
    clients: frozenset[ClientId]
    partial: PartialAggregate | None = None
    lost: str = ""

    @property
    def ended(self) -> bool:
        """Nothing more is awaited of this cell."""
        return self.partial is not None or bool(self.lost)


Cells = Mapping[CombinerName, Cell]


@dataclass(frozen=True, slots=True)
class Idle:
    """No session runs."""


@dataclass(frozen=True, slots=True)
class Gathering:
    """The next attempt waits for clients.

    Attributes:
        patient: the wanted clients are still waited for; otherwise the required ones will do.
    """

    progress: Progress
    reason: str
    patient: bool = True


@dataclass(frozen=True, slots=True)
class Updating:
    """Cells collect updates."""

    progress: Progress
    plan: RoundPlan
    cells: Cells


@dataclass(frozen=True, slots=True)
class Committing:
    """The partial aggregates are merged into the next global model, which is being stored."""

    progress: Progress
    plan: RoundPlan
    cells: Cells


@dataclass(frozen=True, slots=True)
class Validating:
    """The clients validate the new global model.

    Attributes:
        waiting: combiners that owe their report, with their order.
    """

    progress: Progress
    waiting: Mapping[CombinerName, ValidationOrder]
    reports: tuple[ValidationReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed; the next one begins when its time comes."""

    progress: Progress
    reason: str


@dataclass(frozen=True, slots=True)
class Paused:
    """The session waits for its operator."""

    progress: Progress
    reason: str


Work = Idle | Gathering | Updating | Committing | Validating | Failed | Paused


@dataclass(frozen=True, slots=True)
class Reducer:
    """The whole state: who is there, and the session at hand."""

    roster: Roster = field(default_factory=dict)
    work: Work = field(default_factory=Idle)


# ---- events


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The operator started a session, or the reducer found a running one when it started.

    ``paused`` is the reason it rests with, empty for a session that runs.
    """

    progress: Progress
    paused: str = ""


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """The operator wants the session to rest after the running round."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """The operator wants a paused session to go on."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The operator wants the session to end, with the rounds it has."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class CombinerJoined:
    """A combiner's stream is open; another instance takes the place of the one before."""

    combiner: CombinerName
    instance: InstanceId


@dataclass(frozen=True, slots=True)
class ClientsChanged:
    """A combiner told who is attached to it."""

    combiner: CombinerName
    instance: InstanceId
    clients: frozenset[ClientId]


@dataclass(frozen=True, slots=True)
class CombinerLost:
    """A combiner has been away for too long."""

    combiner: CombinerName
    instance: InstanceId


@dataclass(frozen=True, slots=True)
class PartialArrived:
    """A combiner answered an order."""

    combiner: CombinerName
    instance: InstanceId
    partial: PartialAggregate


@dataclass(frozen=True, slots=True)
class CellGaveUp:
    """A combiner cannot answer an order, of a round or of a validation."""

    combiner: CombinerName
    instance: InstanceId
    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True)
class ValidationArrived:
    """A combiner reported its clients' metrics."""

    combiner: CombinerName
    instance: InstanceId
    report: ValidationReport


@dataclass(frozen=True, slots=True)
class GatherTimePassed:
    """The wanted clients have been waited for long enough."""

    session: SessionId
    round_number: int
    attempt: int


@dataclass(frozen=True, slots=True)
class UpdateDeadlinePassed:
    """Every cell of the attempt should have answered by now."""

    session: SessionId
    round_number: int
    attempt: int


@dataclass(frozen=True, slots=True)
class ValidationDeadlinePassed:
    """Every combiner should have reported its validation by now."""

    session: SessionId
    round_number: int


@dataclass(frozen=True, slots=True)
class RetryDue:
    """It is time for the next attempt."""

    session: SessionId
    round_number: int
    attempt: int


@dataclass(frozen=True, slots=True)
class RoundSaved:
    """The next global model is stored and the round is committed."""

    session: SessionId
    round_number: int
    attempt: int
    model: Digest


@dataclass(frozen=True, slots=True)
class RoundNotSaved:
    """The partial aggregates do not make a model; nothing is committed."""

    session: SessionId
    round_number: int
    attempt: int
    reason: str


Event = (
    SessionStarted
    | PauseRequested
    | ResumeRequested
    | StopRequested
    | CombinerJoined
    | ClientsChanged
    | CombinerLost
    | PartialArrived
    | CellGaveUp
    | ValidationArrived
    | GatherTimePassed
    | UpdateDeadlinePassed
    | ValidationDeadlinePassed
    | RetryDue
    | RoundSaved
    | RoundNotSaved
)


# ---- effects


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """Write the attempt down, before anybody is told of it."""

    plan: RoundPlan
    cells: Cells
    generation: Generation


@dataclass(frozen=True, slots=True)
class SendOrder:
    """Hand an order to a combiner."""

    combiner: CombinerName
    instance: InstanceId
    order: CellOrder | ValidationOrder


@dataclass(frozen=True, slots=True)
class SendCancel:
    """Take an order back."""

    combiner: CombinerName
    instance: InstanceId
    cancelled: CellCancelled


@dataclass(frozen=True, slots=True)
class CommitRound:
    """Merge the partial aggregates, store the model, commit the round in one conditional update."""

    plan: RoundPlan
    cells: Cells


@dataclass(frozen=True, slots=True)
class CloseFailedAttempt:
    """Write down why an attempt made no model."""

    plan: RoundPlan
    reason: str
    excluded: tuple[Exclusion, ...]


@dataclass(frozen=True, slots=True)
class TellCommitted:
    """Tell every combiner, and through them every client, that a round is committed."""

    committed: RoundCommitted


@dataclass(frozen=True, slots=True)
class RecordValidation:
    """Write down the metrics of a round's model."""

    session: SessionId
    round_number: int
    reports: tuple[ValidationReport, ...]
    missing: tuple[CombinerName, ...]


@dataclass(frozen=True, slots=True)
class RecordSession:
    """Write down what a session is now: running, paused, finished or stopped, and why."""

    session: SessionId
    status: Literal["running", "paused", "finished", "stopped"]
    reason: str


@dataclass(frozen=True, slots=True)
class TellWaiting:
    """Say in the event log what the session waits for."""

    session: SessionId
    round_number: int
    reason: str


@dataclass(frozen=True, slots=True)
class TellRefused:
    """Say in the event log that a combiner's answer was refused, and why."""

    combiner: CombinerName
    reason: str


Effect = (
    OpenAttempt
    | SendOrder
    | SendCancel
    | CommitRound
    | CloseFailedAttempt
    | TellCommitted
    | RecordValidation
    | RecordSession
    | TellWaiting
    | TellRefused
    | StartTimer[Event]
)
