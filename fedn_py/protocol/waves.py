"""The cells of a plain attempt, in waves: ordered, answered, lost, and ordered again for the clients of a lost one.

Rules it keeps:

- A cell that is lost is closed for good: whatever answers its generation is refused.
- A client is in one cell at a time; it is ordered again only when its cell was lost with its combiner.
- What became of the cells before is written down together with the further ones, and both before these are ordered:
  a reducer that is started anew refuses what this one would have refused.
"""

from dataclasses import replace

from fedn_py.identity import ClientId, CombinerName, Generation, SessionId
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked_rounds import ANSWER_MARGIN_S, LATE, LOST, MOVING_S
from fedn_py.protocol.messages import RoundPlan
from fedn_py.protocol.plain_cells import cancels_of, fault_in, order_of
from fedn_py.protocol.reducer_terms import Cell, Cells, Progress, Roster, each, places
from fedn_py.protocol.reducer_work import (
    CellGaveUp,
    Effect,
    ExpectCombiner,
    ExtendAttempt,
    MovingTimePassed,
    OpenAttempt,
    PartialArrived,
    SendOrder,
    TellRefused,
    UpdateDeadlinePassed,
    Updating,
)

Advanced = tuple[Updating, list[Effect]]


def begin(progress: Progress, plan: RoundPlan, cells: Cells) -> Advanced:
    """Order the first cells of an attempt."""
    work = Updating(progress, plan, cells)
    effects: list[Effect] = [OpenAttempt(plan, cells, progress.generation)]
    effects += [order_of(plan, combiner, cell) for combiner, cell in cells.items()]
    return work, [*effects, _deadline(work)]


def resume(work: Updating) -> Advanced:
    """Go on with an attempt that was found in its document: its combiners have their time to come back."""
    expected: list[Effect] = [ExpectCombiner(name, cell.instance) for name, cell in open_cells(work).items()]
    return work, [*expected, _deadline(work)]


def _deadline(work: Updating) -> Effect:
    return StartTimer(work.plan.update_timeout_s + ANSWER_MARGIN_S, UpdateDeadlinePassed(*_attempt(work)))


def _attempt(work: Updating) -> tuple[SessionId, int, int]:
    return work.plan.session, work.plan.round_number, work.plan.attempt


def open_cells(work: Updating) -> dict[CombinerName, Cell]:
    """Return the cells that are waited for."""
    return {name: cell for name, cell in work.cells.items() if not cell.ended}


def order_again(work: Updating, combiner: CombinerName) -> list[SendOrder]:
    """Return the order that a combiner owes an answer to."""
    return [order_of(work.plan, combiner, cell) for name, cell in open_cells(work).items() if name == combiner]


# ---- a cell ends


def answered(work: Updating, event: PartialArrived) -> Advanced:
    """Take a combiner's answer to its order.

    Raises:
        UnexpectedEvent: it answers an order that is not open.
    """
    cell = open_cells(work).get(event.combiner)
    if cell is None or (cell.instance, cell.generation) != (event.instance, event.partial.generation):
        raise UnexpectedEvent(work, event)
    fault = fault_in(event.partial, cell, work.plan)
    if fault:
        return _with(work, event.combiner, replace(cell, lost=fault)), [TellRefused(event.combiner, fault)]
    return _with(work, event.combiner, replace(cell, partial=event.partial)), []


def gave_up(work: Updating, event: CellGaveUp) -> Advanced:
    """Learn that a combiner cannot answer its order.

    Raises:
        UnexpectedEvent: its order is not open.
    """
    cell = open_cells(work).get(event.combiner)
    if cell is None or (cell.instance, cell.generation) != (event.instance, event.generation):
        raise UnexpectedEvent(work, event)
    lost = event.reason or "CellFailed: the combiner gave no reason"  # an empty one means it is not lost
    return _with(work, event.combiner, replace(cell, lost=lost)), []


def lose(work: Updating, combiner: CombinerName) -> Advanced:
    """Close the cell of a combiner that is lost; its clients may turn up at others in a while."""
    cell = open_cells(work).get(combiner)
    if cell is None:
        return work, []
    work = replace(_with(work, combiner, replace(cell, lost=LOST)), losses=work.losses + 1)
    return work, [StartTimer(MOVING_S, MovingTimePassed(*_attempt(work)))]


def moved(work: Updating) -> Advanced:
    """Wait no longer for the clients of one lost combiner."""
    return replace(work, losses=max(0, work.losses - 1)), []


def late(work: Updating) -> Advanced:
    """Give up every cell whose combiner has not answered by the deadline, and wait for nobody any more."""
    cells = {name: cell if cell.ended else replace(cell, lost=LATE) for name, cell in work.cells.items()}
    return replace(work, cells=cells, losses=0), cancels_of(work.cells, "the deadline has passed")


def _with(work: Updating, combiner: CombinerName, cell: Cell) -> Updating:
    return replace(work, cells={**work.cells, combiner: cell})


# ---- further cells


def without_cell(work: Updating) -> frozenset[ClientId]:
    """Return the clients whose combiner was lost and who have not been ordered again."""
    lost, elsewhere = frozenset[ClientId](), frozenset[ClientId]()
    for _, cell in each(work.cells):
        if cell.lost == LOST:
            lost |= cell.clients
        else:
            elsewhere |= cell.clients
    return lost - elsewhere


def order_further(work: Updating, roster: Roster) -> Advanced:
    """Order cells for the clients of lost ones, at the combiners without an open cell that they are attached to now."""
    where, waiting = places(roster), without_cell(work)
    cells, generation = dict(work.cells), work.progress.generation
    further: list[CombinerName] = []
    for name in sorted(roster.keys() - open_cells(work).keys()):
        clients = frozenset(client for client in waiting if where.get(client) == name)
        if clients:
            generation = Generation(generation + 1)
            cells[name] = Cell(roster[name].instance, generation, clients, earlier=work.cells.get(name))
            further.append(name)
    if not further:
        return work, []
    work = replace(work, cells=cells, progress=replace(work.progress, generation=generation))
    orders = [order_of(work.plan, name, cells[name]) for name in further]
    return work, [ExtendAttempt(work.plan, cells, generation), *orders]


def is_over(work: Updating) -> bool:
    """Say whether nothing more can come: every cell has ended, and no client of a lost one is on its way."""
    return not open_cells(work) and not (work.losses and without_cell(work))
