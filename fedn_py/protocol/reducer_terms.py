"""What a session is run by, how far it is, and who is there for it.

The reducer's machine keeps these in its state; what becomes of them is in ``reducer.py``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Literal

from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, Generation, InstanceId, SessionId
from fedn_py.protocol.masked.opening_work import Attempt
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.messages import Masking, PartialAggregate


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """What a session's next attempt is run by.

    Its operator may change the limits (``SessionLimits``), and a new work has other parameters; all else stays as the
    session was started with. An attempt keeps the terms that it began with.

    Attributes:
        number: counts the sessions of this network, from 1.
        parameters: JSON object for the package's entry points.
        clients_wanted: how many clients are drawn for a round; 0 for all that are attached.
        clients_required: fewer updates than this fail the round.
        max_attempts: after so many failed attempts at one round the session is paused; 0 for no limit.
        retry_delay_s: before the second attempt; doubled for each further one, up to a minute.
        gather_timeout_s: how long wanted clients are waited for once the required ones are there.
        masked: of its masked rounds.
        least_in_cell: a masked cell of fewer clients hides nobody, or is below the operator's floor.
        rework_max: how many works the operator's policy lets be done on one base model beside the first.
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
    least_in_cell: int = 3
    rework_max: int = 20


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Those of a session's terms that its operator may change while it is under way; see ``SessionTerms``."""

    rounds: int
    clients_wanted: int
    clients_required: int
    update_timeout_s: float
    validation_timeout_s: float
    max_attempts: int
    retry_delay_s: float
    gather_timeout_s: float


def limits_of(terms: SessionTerms) -> SessionLimits:
    """Return the limits in a session's terms."""
    return SessionLimits(**{one.name: getattr(terms, one.name) for one in fields(SessionLimits)})


def with_limits(terms: SessionTerms, limits: SessionLimits) -> SessionTerms:
    """Return a session's terms with other limits."""
    return replace(terms, **asdict(limits))


Intent = Literal["run", "pause", "stop", "end"]
"""stop: end as soon as nothing is left half done; end: end when the running round has."""


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
        changed: the limits that hold from the next attempt on, where they were changed during this one.
        moved: clients of cells that were too small have been sent elsewhere for this attempt.
        history: the masked attempts at this round and its present work that have ended; empty after a commit.
        works: how many other works were done on this base model before the present one.
        names: of the clients in the history, for people.
    """

    terms: SessionTerms
    committed: int
    head: Digest
    attempt: int
    generation: Generation
    drawn: int = 0
    intent: Intent = "run"
    moved: bool = False
    history: tuple[Attempt, ...] = ()
    works: int = 0
    names: Mapping[ClientId, ClientName] = field(default_factory=dict)
    changed: SessionLimits | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """A combiner that is connected, and who is attached to it.

    Attributes:
        registered: those of its clients that can take part in masked rounds here; nobody where the operator has not
            certified the combiner.
        max_clients: how many it takes.
        since: client to the number of its arrival here, counted over the whole network.
    """

    instance: InstanceId
    clients: frozenset[ClientId] = frozenset()
    registered: frozenset[ClientId] = frozenset()
    max_clients: int = 0
    since: Mapping[ClientId, int] = field(default_factory=dict, compare=False)


Roster = Mapping[CombinerName, Joined]


def places(roster: Roster) -> dict[ClientId, CombinerName]:
    """Return where each client attached last: a combiner that has died lists its clients for a while yet."""
    arrivals = ((entry.since.get(one, 0), name, one) for name, entry in roster.items() for one in entry.clients)
    return {client: combiner for _, combiner, client in sorted(arrivals)}


def arrivals(roster: Roster, combiner: CombinerName, clients: frozenset[ClientId]) -> dict[ClientId, int]:
    """Return the ``since`` of a combiner that now has these clients."""
    before = roster[combiner]
    now = 1 + max((number for entry in roster.values() for number in entry.since.values()), default=0)
    return {client: before.since.get(client, 0) if client in before.clients else now for client in clients}


@dataclass(frozen=True, slots=True)
class Cell:
    """One combiner's part in an attempt.

    Attributes:
        partial: its answer, once it is here and fit.
        lost: why there will be no answer, empty while there may be.
        earlier: the cell that its combiner had before it in the same plain attempt; it has ended.
    """

    instance: InstanceId
    generation: Generation
    clients: frozenset[ClientId]
    partial: PartialAggregate | None = None
    lost: str = ""
    earlier: "Cell | None" = None

    @property
    def ended(self) -> bool:
        """Nothing more is awaited of this cell."""
        return self.partial is not None or bool(self.lost)


Cells = Mapping[CombinerName, Cell]


def each(cells: Cells) -> Iterator[tuple[CombinerName, Cell]]:
    """Yield every cell of an attempt with its combiner, the earlier ones of a combiner too, in the order of orders."""
    found: list[tuple[CombinerName, Cell]] = []
    for name, newest in cells.items():
        cell: Cell | None = newest
        while cell is not None:
            found.append((name, cell))
            cell = cell.earlier
    yield from sorted(found, key=lambda pair: pair[1].generation)
