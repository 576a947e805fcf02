"""The reducer, its stores, combiners and clients, as people and programs see them."""

from dataclasses import dataclass
from typing import Literal

from fedn_py.identity import ClientId, ClientName, CombinerName, SessionId


@dataclass(frozen=True, slots=True)
class StoreView:
    """One store and whether it works.

    Attributes:
        keeps: "documents" or "objects".
        kind: such as "SQLite", "MongoDB", "folder", "MinIO".
        detail: what is wrong, empty when healthy.
    """

    keeps: str
    kind: str
    healthy: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StatusView:
    """The reducer and what it does now.

    Attributes:
        phase: of the round under way, such as "collecting"; "idle" without one.
        phase_since: when it began, as far as this process knows.
        phase_deadline: when it ends at the latest; None where nothing is waited for, or nobody can say.
        waiting: why nothing goes on, in words; empty when it does.
        active_session, round_number: None without one.
        clients, combiners: connected now.
        started_at: when this process began.
        masks: an operator has certified this reducer, so that it can run masked rounds.
        restored: what was lost when the stores were set back to an older state, and what to do, until a session has
            begun since; empty when they never were.
    """

    reducer: str
    deployment: str
    software: str
    stores: tuple[StoreView, ...]
    phase: str
    waiting: str
    active_session: SessionId | None
    round_number: int | None
    clients: int
    combiners: int
    started_at: float
    restored: str = ""
    phase_since: float = 0.0
    phase_deadline: float | None = None
    masks: bool = False


@dataclass(frozen=True, slots=True)
class CombinerView:
    """One combiner; ``clients`` are attached to it now."""

    name: CombinerName
    address: str
    clients: int
    max_clients: int
    connected: bool
    last_seen: float
    software: str = ""


@dataclass(frozen=True, slots=True)
class ClientResultView:
    """What became of a client's update in a round that has ended.

    Attributes:
        number: of the round.
        outcome: whether it is in the round's model; in a failed round there are only those that are not.
        at: when the round ended.
        reason: why it is not in it; empty otherwise.
    """

    session: SessionId
    number: int
    outcome: Literal["included", "excluded"]
    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ClientView:
    """One client.

    Attributes:
        combiner: where it is attached, None when it is not.
        since: when it was first seen.
        revoked: the token that it came by last is worthless, so it cannot come again by that.
        last_result: in the newest rounds; None where it took part in none of those.
    """

    id: ClientId
    name: ClientName
    combiner: CombinerName | None
    connected: bool
    last_seen: float
    since: float
    software: str = ""
    revoked: bool = False
    last_result: ClientResultView | None = None
