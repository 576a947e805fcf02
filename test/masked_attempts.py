"""A reducer in the middle of a masked attempt, for tests: two cells of four clients each, the same every time."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import masked_world as world
from builders import GENERATION, NORTH, NORTH_1, SESSION, SOUTH, SOUTH_1, a_plan, some_progress, some_terms
from masked_world import (
    CELL,
    CLIENTS,
    COMBINER,
    OTHER_CELL,
    OTHER_COMBINER,
    AnUpload,
    a_committee,
    an_answer,
    an_upload,
    members_of,
    the_terms,
)

from fedn_py.identity import ClientId, ClientName, Generation
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.opening_work import AnswerArrived, Attempt, CommitteeFormed
from fedn_py.protocol.masked.opening_work import Cell as MaskedCell
from fedn_py.protocol.masked.opening_work import Event as OpeningEvent
from fedn_py.protocol.masked.round_messages import CellClosed
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.masked_rounds_work import (
    AttemptPlanned,
    Masked,
    MaskedEvent,
    MaskedPartialArrived,
    Planning,
)
from fedn_py.protocol.messages import Exclusion, MaskedPartial, MetricsSummary
from fedn_py.protocol.reducer import step
from fedn_py.protocol.reducer_terms import Cell, Cells, Joined, Progress
from fedn_py.protocol.reducer_work import Effect, Event, Reducer

NORTHS, SOUTHS = Generation(GENERATION + 1), Generation(GENERATION + 2)
NORTHERN_TERMS = the_terms(generation=NORTHS, combiner=bytes(COMBINER.verify_key))
SOUTHERN_TERMS = the_terms(generation=SOUTHS, cell=OTHER_CELL, combiner=bytes(OTHER_COMBINER.verify_key))
IN_NORTH, IN_SOUTH = CLIENTS[:4], CLIENTS[4:]
NORTHERN, SOUTHERN = a_committee(NORTHERN_TERMS, IN_NORTH), a_committee(SOUTHERN_TERMS, IN_SOUTH)
NORTH_UPLOADS = [an_upload(NORTHERN_TERMS, NORTHERN, client) for client in IN_NORTH]
SOUTH_UPLOADS = [an_upload(SOUTHERN_TERMS, SOUTHERN, client) for client in IN_SOUTH]
NAMES = {ClientId(client.id.hex()): ClientName(client.name) for client in CLIENTS}


def ids(clients: Iterable[world.AClient]) -> frozenset[ClientId]:
    """Return clients by the ids that the reducer's machine has for them."""
    return frozenset(ClientId(client.id.hex()) for client in clients)


def terms(**changed: Any) -> Any:
    """Return the terms of a session of masked rounds."""
    plain: dict[str, Any] = {"masking": "pet", "clients_required": 6, "validate": False, "parameters": '{"seed": 1}'}
    return some_terms(**{**plain, **changed})


def progress(**changed: Any) -> Progress:
    """Return how far such a session is; terms take what belongs to them."""
    mine = {key: changed.pop(key) for key in ("history", "works", "attempt", "generation", "moved") if key in changed}
    return some_progress(terms(**changed), **{"generation": SOUTHS, "drawn": 8, **mine})


def plan(**changed: Any) -> Any:
    """Return its first plan."""
    return a_plan(masking="pet", parameters='{"seed": 1}', **changed)


def roster() -> dict[Any, Joined]:
    """Return two certified combiners with their clients, all of them registered."""
    return {
        NORTH: Joined(NORTH_1, ids(IN_NORTH), ids(IN_NORTH), 100),
        SOUTH: Joined(SOUTH_1, ids(IN_SOUTH), ids(IN_SOUTH), 100),
    }


def cells() -> Cells:
    """Return both cells as they are ordered."""
    return {NORTH: Cell(NORTH_1, NORTHS, ids(IN_NORTH)), SOUTH: Cell(SOUTH_1, SOUTHS, ids(IN_SOUTH))}


def masked_cell(of: CellTerms, clients: Sequence[world.AClient]) -> MaskedCell:
    """Return what the attempt's machine knows of a cell that was ordered."""
    order, assigned = of.order, frozenset(client.id for client in clients)
    return MaskedCell(order.cell, order.generation, of.ctx0, order.combiner, order.k, order.g_min, assigned)


def attempt(**changed: Any) -> Attempt:
    """Return an attempt that nothing has happened in."""
    both = (masked_cell(NORTHERN_TERMS, IN_NORTH), masked_cell(SOUTHERN_TERMS, IN_SOUTH))
    n_words = NORTHERN_TERMS.encoding.n_words
    return replace(Attempt(world.SESSION, 1, 1, world.WORK, "reducer", n_words, 6, both), **changed)


def closing(committee: Committee, uploads: Sequence[AnUpload], key: Any, **changed: Any) -> MaskedPartial:
    """Return a combiner's answer."""
    generation = NORTHS if committee is NORTHERN else SOUTHS
    body = replace(CellClosed(committee.ctx, world.the_rows_of(uploads), b"w" * 32, ()), **changed)
    left_out = (Exclusion(ClientId("0" * 64), "Late: it was"),)
    return MaskedPartial(generation, sign(body, key), len(uploads), left_out, MetricsSummary())


NORTH_FORMED = CommitteeFormed(CELL, NORTHS, NORTHERN)
SOUTH_FORMED = CommitteeFormed(OTHER_CELL, SOUTHS, SOUTHERN)
NORTH_CLOSED = MaskedPartialArrived(NORTH, NORTH_1, closing(NORTHERN, NORTH_UPLOADS, COMBINER))
SOUTH_CLOSED = MaskedPartialArrived(SOUTH, SOUTH_1, closing(SOUTHERN, SOUTH_UPLOADS, OTHER_COMBINER))
PLANNED = AttemptPlanned(SESSION, 1, 1, attempt(), names=NAMES)


def answers(of: CellTerms, committee: Committee, uploads: Sequence[AnUpload]) -> list[AnswerArrived]:
    """Return the answers of a committee, with their streams."""
    return [AnswerArrived(an_answer(of, committee, one, uploads)[0]) for one in members_of(committee)]


NORTH_ANSWERS = answers(NORTHERN_TERMS, NORTHERN, NORTH_UPLOADS)
SOUTH_ANSWERS = answers(SOUTHERN_TERMS, SOUTHERN, SOUTH_UPLOADS)


def heard(event: OpeningEvent, number: int = 1) -> MaskedEvent:
    """Return an event of the attempt's machine, as it comes to the reducer's."""
    return MaskedEvent(SESSION, 1, number, event, NORTH)


def run(state: Reducer, *events: Event | OpeningEvent) -> tuple[Reducer, list[Effect]]:
    """Let a reducer hear these events, one after the other; returns the last one's effects."""
    effects: list[Effect] = []
    for event in events:
        number = getattr(getattr(state.work, "plan", None), "attempt", 1)
        own = type(event).__module__.endswith("opening_work")
        state, effects = step(state, heard(event, number) if own else event)  # type: ignore[arg-type]
    return state, effects


def planning(**changed: Any) -> Reducer:
    """Return a reducer whose masked attempt is being planned."""
    return Reducer(roster(), Planning(progress(**changed), plan(), cells()))


def running(**changed: Any) -> Reducer:
    """Return a reducer whose masked attempt has begun; what is the attempt's goes there."""
    mine = {key: changed.pop(key) for key in ("reopen",) if key in changed}
    return step(planning(**changed), replace(PLANNED, masked=attempt(**mine)))[0]


def formed(**changed: Any) -> Reducer:
    """Return a reducer whose cells have their committees."""
    return run(running(**changed), NORTH_FORMED, SOUTH_FORMED)[0]


def closed(**changed: Any) -> Reducer:
    """Return a reducer whose cells are closed."""
    return run(formed(**changed), NORTH_CLOSED, SOUTH_CLOSED)[0]


def opening(**changed: Any) -> Reducer:
    """Return a reducer that opens its cells' sums."""
    return run(closed(**changed), *NORTH_ANSWERS, *SOUTH_ANSWERS)[0]


def work_of(state: Reducer) -> Masked:
    """Return the masked work at hand."""
    assert isinstance(state.work, Masked)
    return state.work
