"""Whom an attempt has: the clients that can be in it, drawn fairly, each in the cell of its combiner."""

import hashlib
from collections.abc import Iterable

from fedn_py.identity import ClientId, CombinerName, Generation
from fedn_py.protocol import masked_rounds
from fedn_py.protocol.messages import RoundPlan
from fedn_py.protocol.reducer_terms import Cell, Progress, Roster, places


def attached(roster: Roster, progress: Progress) -> dict[ClientId, CombinerName]:
    """Return the clients that an attempt can have, with their combiners."""
    if progress.terms.masking != "none":
        return masked_rounds.eligible(roster, progress)
    return places(roster)


def draw(clients: Iterable[ClientId], wanted: int, ticket: str) -> frozenset[ClientId]:
    """Choose ``wanted`` clients, all of them for 0, by the hash of the ticket and their id: fair over rounds."""
    ordered = sorted(clients, key=lambda client: hashlib.sha256(f"{ticket}/{client}".encode()).digest())
    return frozenset(ordered[: wanted or None])


def cells_of(roster: Roster, progress: Progress) -> tuple[dict[CombinerName, Cell], Generation]:
    """Return the cells of the attempt that comes next, each with a generation of its own, and the last of these."""
    terms, where = progress.terms, attached(roster, progress)
    ticket = f"{terms.session}/{progress.committed + 1}/{progress.attempt}"
    drawn = draw(where, terms.clients_wanted, ticket)
    cells: dict[CombinerName, Cell] = {}
    generation = progress.generation
    for combiner in sorted(roster):
        clients = frozenset(client for client in drawn if where[client] == combiner)
        if terms.masking != "none":
            clients = draw(clients, masked_rounds.most_in_cell(terms), ticket)
        if clients:
            generation = Generation(generation + 1)
            cells[combiner] = Cell(roster[combiner].instance, generation, clients)
    return cells, generation


def plan_of(progress: Progress) -> RoundPlan:
    """Return the plan of the attempt that comes next."""
    terms = progress.terms
    return RoundPlan(
        session=terms.session,
        session_number=terms.number,
        round_number=progress.committed + 1,
        attempt=progress.attempt,
        base_model=progress.head,
        package=terms.package,
        parameters=terms.parameters,
        masking=terms.masking,
        update_timeout_s=terms.update_timeout_s,
    )
