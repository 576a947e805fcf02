"""What the reducer's machine is made of while a masked attempt runs.

The machine of one attempt (``masked/opening.py``) decides which sets are opened. It lives inside the state ``Masked``;
its events come in a ``MaskedEvent`` and its effects go out in a ``MaskedEffect``, each with the name of the attempt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, InstanceId, SessionId
from fedn_py.protocol.masked import opening_work
from fedn_py.protocol.masked.opening_work import Attempt
from fedn_py.protocol.messages import MaskedPartial, RoundPlan
from fedn_py.protocol.reducer_terms import Cells, Progress

# ---- states


@dataclass(frozen=True, slots=True)
class Planning:
    """An attempt's plan and orders are being signed and written down."""

    progress: Progress
    plan: RoundPlan
    cells: Cells


@dataclass(frozen=True, slots=True)
class Masked:
    """Cells collect masked updates, committees answer, and the sums are opened.

    Attributes:
        cells: as they were ordered.
        attempt: the part that privacy rests on.
        partials: what combiners said of their cells beside the set.
        answers_due: the time for answers is running.
        reason: why the attempt has failed, empty while it has not.
        model: the new global model, once it is committed.
    """

    progress: Progress
    plan: RoundPlan
    cells: Cells
    attempt: Attempt
    partials: Mapping[CombinerName, MaskedPartial] = field(default_factory=dict)
    answers_due: bool = False
    reason: str = ""
    model: Digest | None = None

    @property
    def phase(self) -> str:
        """What goes on, in a word: "sum", "updating", "sum2", "unmasking" or "ending"."""
        if self.attempt.stage == "opening":
            return "unmasking"
        if self.attempt.stage != "running":
            return "ending"
        waited = [cell for cell in self.attempt.cells if not cell.out and cell.included_hash is None]
        if any(cell.ctx is None for cell in waited):
            return "sum"
        return "updating" if waited else "sum2"


# ---- events


@dataclass(frozen=True, slots=True)
class AttemptPlanned:
    """The attempt's plan and orders are signed and in its document.

    Attributes:
        masked: the attempt, nothing of which has happened.
        left_out: combiners that no order could be made for, and why.
        names: of the clients in it.
    """

    session: SessionId
    round_number: int
    attempt: int
    masked: Attempt
    left_out: Mapping[CombinerName, str] = field(default_factory=dict)
    names: Mapping[ClientId, ClientName] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttemptNotPlanned:
    """No plan could be made."""

    session: SessionId
    round_number: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class MaskedPartialArrived:
    """A combiner answered a masked order."""

    combiner: CombinerName
    instance: InstanceId
    partial: MaskedPartial


@dataclass(frozen=True, slots=True)
class MaskedEvent:
    """Something that the machine of one attempt hears.

    Attributes:
        combiner: by whom it came; None where this process says it itself.
        client: whose word it is, if it is one.
    """

    session: SessionId
    round_number: int
    attempt: int
    event: opening_work.Event
    combiner: CombinerName | None = None
    client: ClientId | None = None


@dataclass(frozen=True, slots=True)
class AnswerDeadlinePassed:
    """Every member should have answered by now."""

    session: SessionId
    round_number: int
    attempt: int


# ---- effects


@dataclass(frozen=True, slots=True)
class PlanMasked:
    """Make and sign the attempt's plan and orders and write them down; then AttemptPlanned or AttemptNotPlanned."""

    plan: RoundPlan
    progress: Progress
    cells: Cells


@dataclass(frozen=True, slots=True)
class MaskedEffect:
    """Something that the machine of one attempt asks for."""

    session: SessionId
    round_number: int
    attempt: int
    effect: opening_work.Effect
