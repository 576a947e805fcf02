"""The network as a drawing: the reducer, its combiners in bands below each other, each one's clients beside it.

Where things go is decided here, in units of the drawing; the template only writes it down.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedn_py.identity import CombinerName
from fedn_py.reducer.shown_network import ClientView, CombinerView
from fedn_py.reducer.shown_rounds import AskedView, CombinerProgressView, RoundView

MOST_CLIENTS = 60
"""With more, they are counted and not drawn."""

MOST_COMBINERS = 40

WIDTH = 1_000
_CLIENTS_X, _COLUMNS, _COLUMN, _ROW = 505, 3, 165, 30
_LEAST_BAND, _GAP, _MARGIN = 64, 14, 16

BUSY = frozenset({"asked", "training", "uploading", "validating"})
"""States of clients whose combiner waits for them."""

_WORDS = {"checking": "uploading"}


@dataclass(frozen=True, slots=True)
class Mark:
    """One client's place.

    Attributes:
        state: a word, and the shape's name.
        x, y: of the shape's middle.
    """

    name: str
    state: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Band:
    """One combiner with its clients.

    Attributes:
        y, height: of all that belongs to it.
        phase: what it does in the round under way; empty for nothing.
        busy: it waits for clients.
        reporting: it has something for the reducer.
    """

    combiner: CombinerView
    marks: tuple[Mark, ...]
    y: int
    height: int
    phase: str
    busy: bool
    reporting: bool

    @property
    def middle(self) -> int:
        """Of the band."""
        return self.y + self.height // 2


@dataclass(frozen=True, slots=True)
class Drawing:
    """All of it.

    Attributes:
        away: clients that are attached nowhere.
        away_y: where their heading stands.
        counted: clients are counted for each combiner.
        left_out: combiners that are in the table alone.
        states: of the clients that are drawn, for the legend.
    """

    bands: tuple[Band, ...]
    away: tuple[Mark, ...]
    away_y: int
    height: int
    counted: bool
    left_out: int
    states: tuple[str, ...]
    width: int = WIDTH

    @property
    def middle(self) -> int:
        """Of the combiners, where the reducer stands."""
        return (self.bands[0].y + self.bands[-1].y + self.bands[-1].height) // 2 if self.bands else self.height // 2


def states_of(clients: Iterable[ClientView], at_hand: RoundView | None) -> dict[str, str]:
    """Return what each client does, by its id: a word."""
    asked = {one.name: one for one in at_hand.asked} if at_hand is not None else {}
    return {client.id: _state(client, asked.get(client.name)) for client in clients}


def _state(client: ClientView, asked: AskedView | None) -> str:
    if client.revoked:
        return "revoked"
    if not client.connected:
        return "away"
    return "attached" if asked is None else _WORDS.get(asked.state, asked.state)


def draw(combiners: Sequence[CombinerView], clients: Sequence[ClientView] | None, at_hand: RoundView | None) -> Drawing:
    """Return the drawing.

    Args:
        clients: all there are; None where they are too many, so that they are counted.
        at_hand: the round under way.
    """
    counted = clients is None or len(clients) > MOST_CLIENTS
    drawn = () if clients is None or counted else clients
    states = states_of(drawn, at_hand)
    progress = {one.combiner: one for one in at_hand.progress} if at_hand is not None else {}
    bands, y = [], _MARGIN
    for combiner in combiners[:MOST_COMBINERS]:
        own = [client for client in drawn if client.connected and client.combiner == combiner.name]
        band = _band(combiner, own, states, progress, y)
        bands.append(band)
        y += band.height + _GAP
    at_one = {band.combiner.name for band in bands}
    nowhere = [client for client in drawn if not client.connected or client.combiner not in at_one]
    away = _marks(nowhere, states, y + _ROW + _ROW // 2)
    rows = -(-len(away) // _COLUMNS)
    return Drawing(
        bands=tuple(bands),
        away=away,
        away_y=y + _ROW // 2,
        height=y + (rows + 1) * _ROW + _MARGIN if away else max(y, _LEAST_BAND + 2 * _MARGIN),
        counted=counted,
        left_out=max(len(combiners) - MOST_COMBINERS, 0),
        states=tuple(sorted({mark.state for band in bands for mark in band.marks} | {mark.state for mark in away})),
    )


def _band(
    combiner: CombinerView,
    clients: Sequence[ClientView],
    states: Mapping[str, str],
    progress: Mapping[CombinerName, CombinerProgressView],
    y: int,
) -> Band:
    rows = -(-len(clients) // _COLUMNS)
    height = max(_LEAST_BAND, rows * _ROW)
    marks = _marks(clients, states, y + (height - rows * _ROW) // 2 + _ROW // 2)
    told = progress.get(combiner.name) if combiner.connected else None
    busy = combiner.connected and (any(mark.state in BUSY for mark in marks) or bool(told and told.training))
    phase = told.phase if told is not None else ""
    return Band(combiner, marks, y, height, phase, busy, reporting=phase == "reporting")


def _marks(clients: Sequence[ClientView], states: Mapping[str, str], first_y: int) -> tuple[Mark, ...]:
    return tuple(
        Mark(
            client.name,
            states[client.id],
            _CLIENTS_X + place % _COLUMNS * _COLUMN,
            first_y + place // _COLUMNS * _ROW,
        )
        for place, client in enumerate(clients)
    )
