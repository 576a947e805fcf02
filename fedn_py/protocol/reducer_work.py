"""What the reducer's machine is made of: its states, the events it hears and the effects it asks for.

The rules are in ``reducer.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fedn_py.identity import ClientId, CombinerName, Digest, Generation, InstanceId, SessionId
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.masked_rounds_work import (
    AnswerDeadlinePassed,
    AttemptNotPlanned,
    AttemptPlanned,
    Masked,
    MaskedEffect,
    MaskedEvent,
    MaskedPartialArrived,
    PlanMasked,
    Planning,
)
from fedn_py.protocol.messages import (
    CellCancelled,
    CellOrder,
    Exclusion,
    PartialAggregate,
    RoundCommitted,
    RoundPlan,
    ValidationOrder,
    ValidationReport,
)
from fedn_py.protocol.reducer_terms import Cells, Intent, Progress, Roster, SessionLimits

# ---- state


@dataclass(frozen=True, slots=True)
class Idle:
    """No session runs."""


@dataclass(frozen=True, slots=True)
class Gathering:
    """The next attempt waits for clients.

    Attributes:
        patient: the wanted clients are still waited for; otherwise the required ones will do.
        moving: clients that were sent away from a combiner and are to come back at another one.
    """

    progress: Progress
    reason: str
    patient: bool = True
    moving: Mapping[ClientId, CombinerName] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Updating:
    """Cells collect updates.

    Attributes:
        cells: the newest one of each combiner.
        losses: how many combiners were lost so shortly ago that their clients may yet turn up at others.
    """

    progress: Progress
    plan: RoundPlan
    cells: Cells
    losses: int = 0


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
        waiting: combiners that owe their report, with their order; none before the orders go out.
        away: clients that are waited for before the orders go out.
    """

    progress: Progress
    waiting: Mapping[CombinerName, ValidationOrder]
    reports: tuple[ValidationReport, ...] = ()
    away: frozenset[ClientId] = frozenset()


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


Work = Idle | Gathering | Planning | Updating | Masked | Committing | Validating | Failed | Paused


@dataclass(frozen=True, slots=True)
class Reducer:
    """The whole state: who is there, and the session at hand.

    Attributes:
        told: the newest commit; whoever joins hears of it, as it may have been away.
    """

    roster: Roster = field(default_factory=dict)
    work: Work = field(default_factory=Idle)
    told: RoundCommitted | None = None


# ---- events


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The operator started a session, or the reducer found a running one when it started.

    Attributes:
        paused: the reason it rests with, empty for a session that runs.
        found: the attempt that ran, as its document has it, or the validation that it does not have yet.
    """

    progress: Progress
    paused: str = ""
    found: Masked | Updating | Validating | None = None


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """The operator wants the session to rest after the running round."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """The operator wants a paused session to go on.

    Attributes:
        new_work: train anew from the same global model, with another seed: nobody's earlier upload is in the way then.
    """

    session: SessionId
    new_work: bool = False


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The operator wants the session to end, with the rounds it has.

    Attributes:
        after_round: the round under way is not given up; it still makes its model, or fails.
    """

    session: SessionId
    after_round: bool = False


@dataclass(frozen=True, slots=True)
class ChangeRequested:
    """The operator wants other limits to hold from the next attempt on.

    Attributes:
        limits: all of them, those that stay as they are too.
    """

    session: SessionId
    limits: SessionLimits


@dataclass(frozen=True, slots=True)
class CombinerJoined:
    """A combiner's stream is open; another instance takes the place of the one before."""

    combiner: CombinerName
    instance: InstanceId
    max_clients: int = 0


@dataclass(frozen=True, slots=True)
class ClientsChanged:
    """A combiner told who is attached to it, and of whom the operator vouches for."""

    combiner: CombinerName
    instance: InstanceId
    clients: frozenset[ClientId]
    registered: frozenset[ClientId] = frozenset()


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
class MovingTimePassed:
    """Clients that were sent to other combiners have been waited for long enough."""

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
    | ChangeRequested
    | CombinerJoined
    | ClientsChanged
    | CombinerLost
    | PartialArrived
    | CellGaveUp
    | ValidationArrived
    | AttemptPlanned
    | AttemptNotPlanned
    | MaskedPartialArrived
    | MaskedEvent
    | GatherTimePassed
    | MovingTimePassed
    | UpdateDeadlinePassed
    | AnswerDeadlinePassed
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
class ExtendAttempt:
    """Write further cells of an attempt down, and what came of those before, before anybody is told of them."""

    plan: RoundPlan
    cells: Cells
    generation: Generation


@dataclass(frozen=True, slots=True)
class ExpectCombiner:
    """Give a combiner that an earlier life of the reducer has ordered something its time to come back."""

    combiner: CombinerName
    instance: InstanceId


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
class TellCommittedAgain:
    """Tell one combiner of the newest commit, which it may have missed."""

    combiner: CombinerName
    instance: InstanceId
    committed: RoundCommitted


@dataclass(frozen=True, slots=True)
class RecordIntent:
    """Write down what the operator wants to happen when the running round ends."""

    session: SessionId
    intent: Intent


@dataclass(frozen=True, slots=True)
class RecordChange:
    """Write down which limits the operator wants to hold from the next attempt on, and say so in the event log."""

    session: SessionId
    before: SessionLimits
    limits: SessionLimits


@dataclass(frozen=True, slots=True)
class RecordLimits:
    """Write down that limits that were changed hold now: no attempt runs that began with others."""

    session: SessionId
    limits: SessionLimits


@dataclass(frozen=True, slots=True)
class RecordValidation:
    """Write down the metrics of a round's model."""

    session: SessionId
    round_number: int
    reports: tuple[ValidationReport, ...]
    missing: tuple[CombinerName, ...]


@dataclass(frozen=True, slots=True)
class RecordSession:
    """Write down what a session is now: running, paused, finished or stopped, and why; no wish is open then."""

    session: SessionId
    status: Literal["running", "paused", "finished", "stopped"]
    reason: str


@dataclass(frozen=True, slots=True)
class RecordNewWork:
    """Write down that a session trains anew from the same global model.

    Attributes:
        parameters: with the seed of the new work.
    """

    session: SessionId
    parameters: str


@dataclass(frozen=True, slots=True)
class MoveClients:
    """Send clients of a cell that is too small to other combiners, and not back while the session runs."""

    combiner: CombinerName
    clients: frozenset[ClientId]
    targets: frozenset[CombinerName]
    reason: str


@dataclass(frozen=True, slots=True)
class TellWaiting:
    """Say in the event log what the session waits for."""

    session: SessionId
    round_number: int
    reason: str


@dataclass(frozen=True, slots=True)
class TellRefused:
    """Say in the event log that what a combiner said was refused, and why.

    Attributes:
        client: whose word it was that the combiner passed on; None for its own.
    """

    combiner: CombinerName
    reason: str
    client: ClientId | None = None


Effect = (
    OpenAttempt
    | ExtendAttempt
    | ExpectCombiner
    | SendOrder
    | SendCancel
    | CommitRound
    | CloseFailedAttempt
    | TellCommitted
    | TellCommittedAgain
    | RecordIntent
    | RecordChange
    | RecordLimits
    | RecordValidation
    | RecordSession
    | RecordNewWork
    | PlanMasked
    | MaskedEffect
    | MoveClients
    | TellWaiting
    | TellRefused
    | StartTimer[Event]
)
