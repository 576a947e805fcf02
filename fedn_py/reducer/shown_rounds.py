"""Rounds, as people and programs see them, plain and masked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fedn_py.identity import ClientName, CombinerName, Digest, SessionId
from fedn_py.protocol.messages import Masking


@dataclass(frozen=True, slots=True)
class ContributorView:
    """A client whose update is in the global model.

    Attributes:
        samples: None in a masked round, where nobody knows those of a single client.
    """

    name: ClientName
    samples: int | None


@dataclass(frozen=True, slots=True)
class ExcludedView:
    """A client whose update is not in it, why, and what its training printed last."""

    name: ClientName
    reason: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class CombinerProgressView:
    """How far one combiner is in the round under way; counts are of clients."""

    combiner: CombinerName
    phase: str
    included: int
    training: int
    excluded: int


@dataclass(frozen=True, slots=True)
class AskedView:
    """A client that was asked in the attempt under way, and where it is with it.

    Attributes:
        state: "training", "checking" (its update is here and is being looked at), "in" or "out"; in a validation
            "validating" and "in"; "asked" where its combiner does not tell.
        reason: why it is out; empty otherwise.
    """

    name: ClientName
    combiner: CombinerName
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PhaseView:
    """A phase of a round's last attempt.

    Attributes:
        seconds: how long it took, or has taken so far.
    """

    phase: str
    started_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class SumParticipantView:
    """A client that held a part of the masks of a cell: a member of its committee.

    Attributes:
        slot, replica: one replica of every slot has to answer for the sum to be opened.
        answered: its answer came.
    """

    name: ClientName
    slot: int
    replica: int
    answered: bool


@dataclass(frozen=True, slots=True)
class MaskedCellView:
    """One combiner's sum in a masked round.

    Attributes:
        included: how many clients are in it.
        members: its sum participants, by slot and replica.
        opened: it passed all checks and is in the model.
        reason: why it is left out; empty while it is not.
    """

    combiner: CombinerName
    included: int
    members: tuple[SumParticipantView, ...]
    opened: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RoundMaskingView:
    """How a round's updates were hidden.

    Attributes:
        scheme: "pet".
        k, r, g_min: slots, replicas of each, fewest clients of an opened sum; the smallest of any cell.
        reopen: "strict" or "reducer": who can release the clients of a sum that was never opened.
        cells: by combiner.
    """

    scheme: Masking
    k: int
    r: int
    g_min: int
    reopen: str
    cells: tuple[MaskedCellView, ...]


@dataclass(frozen=True, slots=True)
class RoundView:
    """One round, in its last attempt.

    Attributes:
        status: "running", "done" or "failed".
        seconds: how long it took, or has taken so far.
        reason: why it failed, empty otherwise.
        samples: over all clients in the model.
        metrics: of the validation, means weighted by samples.
        metrics_hidden: those of the validation whose mean is not shown, and why.
        metrics_by_client: of the sites that release them one by one.
        training_metrics: means weighted by samples.
        model: the new global model, None before it is committed.
        progress, asked: live, empty once the round has ended.
        phases: of the last attempt, in order. Where the reducer was started anew in between, the time before counts
            to the phase that it went on with.
        masking: None in a round that is not masked. In one that is, ``samples`` is the sum that came out from under
            the masks, and ``training_metrics`` are the means that did.
    """

    session: SessionId
    number: int
    attempt: int
    phase: str
    status: Literal["running", "done", "failed"]
    started_at: float
    seconds: float
    reason: str = ""
    clients: tuple[ContributorView, ...] = ()
    excluded: tuple[ExcludedView, ...] = ()
    combiners: tuple[CombinerName, ...] = ()
    samples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    metrics_hidden: Mapping[str, str] = field(default_factory=dict)
    metrics_by_client: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    training_metrics: Mapping[str, float] = field(default_factory=dict)
    model: Digest | None = None
    progress: tuple[CombinerProgressView, ...] = ()
    masking: RoundMaskingView | None = None
    asked: tuple[AskedView, ...] = ()
    phases: tuple[PhaseView, ...] = ()
