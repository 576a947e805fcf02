"""The client's machine: one task at a time, and one update kept until its round is committed or given up.

Rules it keeps:

- A newer task takes the place of an older one; an older one is ignored.
- An update that is ready is sent again when the same work is asked for again, never trained a second time.
- Training goes on while the connection is away; its outcome is told to whoever asks for it next.
- Whether a masked update may be sent is decided elsewhere, by ``masked/participant.py``; it is withheld by name.
"""

from dataclasses import dataclass, field, replace
from typing import assert_never

from fedn_py.identity import Digest, Generation, SessionId
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.messages import (
    Masking,
    RoundCommitted,
    RoundPlan,
    TaskCancelled,
    TaskFailed,
    TrainTask,
    UpdateReceipt,
    ValidateTask,
    ValidationOrder,
)

# ---- state


@dataclass(frozen=True, slots=True)
class Piece:
    """What makes two orders the same piece of work: the same update serves both.

    What was trained to be masked never leaves in the clear, nor the other way round.
    """

    session: SessionId
    round_number: int
    base_model: Digest
    package: Digest
    parameters: str
    masking: Masking

    @classmethod
    def of(cls, plan: RoundPlan) -> "Piece":
        """Return the piece of work that a plan asks for."""
        return cls(plan.session, plan.round_number, plan.base_model, plan.package, plan.parameters, plan.masking)


@dataclass(frozen=True, slots=True)
class Resting:
    """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Training:
    """The package's train entry point runs.

    Attributes:
        task: the newest task that this training serves.
        started: the generation that it was started for, by which its outcome is known.
    """

    task: TrainTask
    started: Generation


@dataclass(frozen=True, slots=True)
class Uploading:
    """The update is on its way to the combiner."""

    task: TrainTask


@dataclass(frozen=True, slots=True)
class Validating:
    """The package's validate entry point runs."""

    order: ValidationOrder


Work = Resting | Training | Uploading | Validating


@dataclass(frozen=True, slots=True)
class Client:
    """The whole state.

    Attributes:
        attached: a combiner's stream is open.
        newest: the newest generation that asked something of this client.
        kept: the piece of work whose update is kept, ready to be sent again.
        accepted: the generation under which the kept update is in a sum; 0 while it is in none.
    """

    attached: bool = False
    newest: Generation = Generation(0)  # noqa: RUF009 - a NewType is the int itself
    work: Work = field(default_factory=Resting)
    kept: Piece | None = None
    accepted: Generation = Generation(0)  # noqa: RUF009


# ---- events


@dataclass(frozen=True, slots=True)
class Attached:
    """A combiner has welcomed the client."""


@dataclass(frozen=True, slots=True)
class Detached:
    """The stream to the combiner has ended."""


@dataclass(frozen=True, slots=True)
class Tasked:
    """The combiner handed out a task."""

    task: TrainTask | ValidateTask


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The combiner no longer wants a task done."""

    cancelled: TaskCancelled


@dataclass(frozen=True, slots=True)
class Committed:
    """A round is committed."""

    committed: RoundCommitted


@dataclass(frozen=True, slots=True)
class UpdateReady:
    """Training has ended well; the update is kept."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """The entry point failed, or its output is unfit."""

    generation: Generation
    reason: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class UpdateAnswered:
    """The combiner has taken or refused the update."""

    generation: Generation
    receipt: UpdateReceipt


@dataclass(frozen=True, slots=True)
class UploadBroken:
    """The upload could not be finished; whether the combiner has it is not known."""

    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True)
class UpdateKept:
    """An update for this piece of work was found on disk, masked by an earlier life; it is not trained again."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class UpdateGone:
    """What is kept for the task cannot serve it: the work has to be done again."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class UpdateWithheld:
    """The update is not sent: it must not be, or cannot be masked."""

    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True)
class MetricsReady:
    """Validation has ended well."""

    generation: Generation


Event = (
    Attached
    | Detached
    | Tasked
    | Cancelled
    | Committed
    | UpdateReady
    | WorkFailed
    | UpdateAnswered
    | UploadBroken
    | UpdateKept
    | UpdateGone
    | UpdateWithheld
    | MetricsReady
)

# ---- effects


@dataclass(frozen=True, slots=True)
class Train:
    """Run the package's train entry point and keep the update."""

    task: TrainTask


@dataclass(frozen=True, slots=True)
class Upload:
    """Send the kept update under this task's generation."""

    task: TrainTask


@dataclass(frozen=True, slots=True)
class Validate:
    """Run the package's validate entry point."""

    order: ValidationOrder


@dataclass(frozen=True, slots=True)
class SendMetrics:
    """Report the metrics of the validation, as far as the site releases them."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class StopWork:
    """End the training, validation or upload that was started for this generation."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class TellFailed:
    """Tell the combiner that a task could not be done."""

    failure: TaskFailed


@dataclass(frozen=True, slots=True)
class DropUpdate:
    """Let go of the kept update."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class TellOutcome:
    """Say in the client's own log what became of its update."""

    generation: Generation
    receipt: UpdateReceipt


Effect = Train | Upload | Validate | SendMetrics | StopWork | TellFailed | DropUpdate | TellOutcome

Result = tuple[Client, list[Effect]]


# ---- the machine


def step(state: Client, event: Event) -> Result:
    """Advance a client by one event.

    Raises:
        UnexpectedEvent: the event does not belong to the work at hand; nothing has changed.
    """
    match event:
        case Attached():
            return replace(state, attached=True), []
        case Detached():
            return _detach(state)
        case Tasked(task):
            return _train(state, task) if isinstance(task, TrainTask) else _validate(state, task.order)
        case Cancelled(cancelled):
            if generation_of(state.work) != cancelled.generation:
                raise UnexpectedEvent(state.work, event)
            return replace(state, work=Resting()), _stop(state.work)
        case Committed(committed):
            return _committed(state, committed)
        case UpdateReady(generation):
            return _ready(state, _the_training(state, event, generation))
        case WorkFailed(generation, reason, log):
            failed = generation_of(state.work)
            if failed is None or _started(state.work) != generation or isinstance(state.work, Uploading):
                raise UnexpectedEvent(state.work, event)
            told: list[Effect] = [TellFailed(TaskFailed(failed, reason, log))]
            return replace(state, work=Resting()), told if state.attached else []
        case UpdateAnswered(generation, receipt):
            _the_upload(state, event, generation)
            accepted = generation if receipt.accepted else state.accepted
            return replace(state, work=Resting(), accepted=accepted), [TellOutcome(generation, receipt)]
        case UploadBroken(generation, reason):
            _the_upload(state, event, generation)
            # Where the combiner has the update after all, it has no use for this; else it need not wait any longer.
            given_up: list[Effect] = [TellFailed(TaskFailed(generation, f"UploadBroken: {reason}"))]
            return replace(state, work=Resting()), given_up if state.attached else []
        case UpdateKept(piece):
            return _keep(state, piece)
        case UpdateGone(generation):
            task = _the_upload(state, event, generation)
            return replace(state, work=Training(task, generation), kept=None, accepted=Generation(0)), [Train(task)]
        case UpdateWithheld(generation, reason):
            _the_upload(state, event, generation)
            withheld: list[Effect] = [TellFailed(TaskFailed(generation, reason))]
            return replace(state, work=Resting()), withheld if state.attached else []
        case MetricsReady(generation):
            if not isinstance(state.work, Validating) or generation_of(state.work) != generation:
                raise UnexpectedEvent(state.work, event)
            sent: list[Effect] = [SendMetrics(generation)]
            return replace(state, work=Resting()), sent if state.attached else []
        case _:
            assert_never(event)


def generation_of(work: Work) -> Generation | None:
    """Return the generation that the work at hand belongs to."""
    match work:
        case Resting():
            return None
        case Training(task=task) | Uploading(task=task):
            return task.generation
        case Validating(order):
            return order.generation


def _started(work: Work) -> Generation | None:
    """Return the generation under which the work at hand was started."""
    return work.started if isinstance(work, Training) else generation_of(work)


def _stop(work: Work) -> list[Effect]:
    started = _started(work)
    return [] if started is None else [StopWork(started)]


def _the_training(state: Client, event: Event, generation: Generation) -> TrainTask:
    if not isinstance(state.work, Training) or state.work.started != generation:
        raise UnexpectedEvent(state.work, event)
    return state.work.task


def _the_upload(state: Client, event: Event, generation: Generation) -> TrainTask:
    if not isinstance(state.work, Uploading) or state.work.task.generation != generation:
        raise UnexpectedEvent(state.work, event)
    return state.work.task


def _detach(state: Client) -> Result:
    state = replace(state, attached=False)
    if isinstance(state.work, Uploading):
        # The upload goes through the combiner that is gone; its task comes again with the next one.
        return replace(state, work=Resting()), _stop(state.work)
    return state, []


def _train(state: Client, task: TrainTask) -> Result:
    if task.generation < state.newest:
        raise UnexpectedEvent(state.work, Tasked(task))
    piece, newest = Piece.of(task.plan), task.generation
    match state.work:
        case Training(under, started) if Piece.of(under.plan) == piece:
            return replace(
                state, newest=newest, work=Training(task, started)
            ), []  # the training at hand serves this task
        case Uploading(under) if under.generation == task.generation:
            return state, []
    if state.kept == piece and state.accepted == task.generation:
        return state, []  # it is in already; the task was sent again before the combiner knew
    effects = _stop(state.work)
    if state.kept == piece:
        return replace(state, newest=newest, work=Uploading(task)), [*effects, Upload(task)]
    if state.kept is not None:
        effects.append(DropUpdate(state.kept))
    begun = replace(state, newest=newest, work=Training(task, newest), kept=None, accepted=Generation(0))
    return begun, [*effects, Train(task)]


def _ready(state: Client, task: TrainTask) -> Result:
    kept = replace(state, kept=Piece.of(task.plan), accepted=Generation(0))
    if not state.attached:
        return replace(kept, work=Resting()), []
    return replace(kept, work=Uploading(task)), [Upload(task)]


def _keep(state: Client, piece: Piece) -> Result:
    if state.kept == piece or isinstance(state.work, Training | Uploading):
        return state, []
    dropped: list[Effect] = [] if state.kept is None else [DropUpdate(state.kept)]
    return replace(state, kept=piece, accepted=Generation(0)), dropped


def _validate(state: Client, order: ValidationOrder) -> Result:
    if order.generation < state.newest:
        raise UnexpectedEvent(state.work, Tasked(ValidateTask(order)))
    if generation_of(state.work) == order.generation:
        return state, []
    effects = _stop(state.work)
    return replace(state, newest=order.generation, work=Validating(order)), [*effects, Validate(order)]


def _committed(state: Client, committed: RoundCommitted) -> Result:
    kept = state.kept
    match state.work:
        case Training(task) if _is_past(Piece.of(task.plan), committed):
            return replace(state, work=Resting()), _stop(state.work)  # nobody can want this update any more
    if kept is None or not _is_past(kept, committed):
        return state, []
    effects: list[Effect] = [DropUpdate(kept)]
    if isinstance(state.work, Uploading) and Piece.of(state.work.task.plan) == kept:
        effects = [*_stop(state.work), *effects]
        state = replace(state, work=Resting())
    return replace(state, kept=None, accepted=Generation(0)), effects


def _is_past(piece: Piece, committed: RoundCommitted) -> bool:
    """Tell whether a piece of work is of a round that is committed; the commits in between may have been missed."""
    return piece.session == committed.session and piece.round_number <= committed.round_number
