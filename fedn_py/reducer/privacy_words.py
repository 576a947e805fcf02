"""The words that a session's privacy is told in: parties, data, and what a party sees of a datum."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fedn_py.identity import SessionId
from fedn_py.protocol.messages import Masking

Exposure = Literal["never", "masked", "sum only", "clear"]
"""masked: as numbers that say nothing without the masks; sum only: inside a sum or mean of several clients."""

Party = Literal[
    "this client's owner",
    "other clients",
    "one sum participant",
    "all sum participants of one slot",
    "sum participants of all slots",
    "combiner",
    "reducer",
    "document store",
    "object store",
    "operator",
    "outsider on the network",
]

Datum = Literal[
    "raw data",
    "update of one client",
    "sum of updates",
    "number of samples of one client",
    "training metrics of one client",
    "validation metrics of one client",
    "that a client took part",
    "global model",
    "compute package",
    "log tail of a failed training",
]

PLAIN_PARTIES: tuple[Party, ...] = (
    "this client's owner",
    "other clients",
    "combiner",
    "reducer",
    "document store",
    "object store",
    "operator",
    "outsider on the network",
)
SUM_PARTICIPANTS: tuple[Party, ...] = (
    "one sum participant",
    "all sum participants of one slot",
    "sum participants of all slots",
)
MASKED_PARTIES: tuple[Party, ...] = (*PLAIN_PARTIES[:2], *SUM_PARTICIPANTS, *PLAIN_PARTIES[2:])


@dataclass(frozen=True, slots=True)
class PrivacyRow:
    """What one party sees of one datum.

    Attributes:
        text: one sentence: how it comes by it, or why it does not.
    """

    party: Party
    datum: Datum
    exposure: Exposure
    text: str


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something that the protection rests on.

    Attributes:
        holds: what has to be so.
        broken_by: the attack that breaks it, and who would have to take part in it.
    """

    holds: str
    broken_by: str


@dataclass(frozen=True, slots=True)
class Setting:
    """What of a session its rows follow from; see ``PrivacyView``.

    Attributes:
        validates: whether clients validate the models.
        by_client: whether sites may release metrics, and what failed packages printed, under their names.
    """

    scheme: Masking
    validates: bool
    k: int = 0
    r: int = 0
    g_min: int = 0
    reopen: str = ""
    n_max: int = 0
    cells: int = 0
    metrics: tuple[str, ...] = ()
    by_client: bool = False


@dataclass(frozen=True, slots=True)
class PrivacyView:
    """What each party sees in a session.

    Attributes:
        k, r, g_min: slots, replicas of each, fewest clients of an opened sum: of the newest round's smallest cell, or
            before the first round the least there can be. 0 in a session that is not masked.
        reopen: "strict" or "reducer": who can release the clients of a sum that was never opened; empty as above.
        n_max: clients in one cell at most; 0 as above.
        cells: sums that the newest round was to be opened in; 0 before the first round.
        metrics: that are summed under the masks.
        metrics_by_client: whether sites may release metrics, and what failed packages printed, under their names.
        round_number: the round that these numbers are of; 0 before the first one.
        generated_at: seconds since 1970.
        rows: for each party and each datum.
        assumptions: what the protection rests on, and which attack breaks it.
    """

    session: SessionId
    name: str
    scheme: Masking
    k: int
    r: int
    g_min: int
    reopen: str
    n_max: int
    cells: int
    metrics: tuple[str, ...]
    metrics_by_client: bool
    round_number: int
    generated_at: float
    rows: tuple[PrivacyRow, ...]
    assumptions: tuple[Assumption, ...]


Seen = tuple[Exposure, str]
Seeing = Mapping[Party, Seen]


def rows_of(datum: Datum, parties: tuple[Party, ...], seeing: Seeing, otherwise: str) -> Iterator[PrivacyRow]:
    """Yield the row of every party; ``otherwise`` says why those that are not named never see it."""
    for party in parties:
        exposure, text = seeing.get(party, ("never", otherwise))
        yield PrivacyRow(party, datum, exposure, text)


def never(text: str) -> Seen:
    """It does not see it."""
    return "never", text


def masked(text: str) -> Seen:
    """It sees numbers that say nothing without the masks."""
    return "masked", text


def sum_only(text: str) -> Seen:
    """It sees it inside a sum or mean alone."""
    return "sum only", text


def clear(text: str) -> Seen:
    """It sees it."""
    return "clear", text
