"""The cells of a plain attempt: what they are ordered, what is wrong with their answers, and who is left out."""

from fedn_py.identity import ClientId, CombinerName
from fedn_py.protocol.masked_rounds import LATE
from fedn_py.protocol.messages import CellCancelled, CellOrder, Exclusion, PartialAggregate, RoundPlan
from fedn_py.protocol.reducer_terms import Cell, Cells, each
from fedn_py.protocol.reducer_work import Effect, SendCancel, SendOrder


def order_of(plan: RoundPlan, combiner: CombinerName, cell: Cell) -> SendOrder:
    """Return the order to a combiner."""
    order = CellOrder(plan, cell.generation, tuple(sorted(cell.clients)), len(cell.clients))
    return SendOrder(combiner, cell.instance, order)


def fault_in(partial: PartialAggregate, cell: Cell, plan: RoundPlan) -> str:
    """Return why a partial aggregate is refused, empty if it is fit."""
    listed = [contribution.client for contribution in partial.included]
    if len(set(listed)) != len(listed):
        return "ClientTwice: a client is listed twice in the partial aggregate"
    if not set(listed) <= cell.clients:
        return "NotAssigned: the partial aggregate lists clients that were not ordered there"
    if any(contribution.samples < 1 for contribution in partial.included):
        return "NoSamples: the partial aggregate lists an update without samples"
    if partial.weight != sum(contribution.samples for contribution in partial.included):
        return "WrongWeight: the weight is not the sum of the listed samples"
    if bool(listed) != (partial.sum_object is not None):
        return "NoSum: the partial aggregate's list and sum do not belong together"
    if partial.sum_object in {plan.base_model, plan.package}:
        return "NotASum: the partial aggregate names the round's base model or compute package as its sum"
    return ""


def excluded_of(cells: Cells) -> tuple[Exclusion, ...]:
    """Return everybody of an attempt who is in no sum, with the reason; of who was asked twice the later one."""
    excluded: dict[ClientId, Exclusion] = {}
    for _, cell in each(cells):
        for client in sorted(cell.clients):
            excluded.pop(client, None)
            if cell.partial is None:
                excluded[client] = Exclusion(client, cell.lost or LATE)
        if cell.partial is not None:
            excluded |= {exclusion.client: exclusion for exclusion in cell.partial.excluded}
    return tuple(excluded.values())


def cancels_of(cells: Cells, reason: str) -> list[Effect]:
    """Take back every order that has not been answered."""
    return [
        SendCancel(combiner, cell.instance, CellCancelled(cell.generation, reason))
        for combiner, cell in cells.items()
        if not cell.ended
    ]
