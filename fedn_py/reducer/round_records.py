"""What plain and masked rounds have in common where they are written down and told of."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fedn_py.aggregation.metrics import MetricSums, merge
from fedn_py.errors import OwnFault
from fedn_py.identity import ClientId, ClientName, CombinerName
from fedn_py.protocol.messages import Exclusion, MetricsSummary, RoundPlan
from fedn_py.protocol.reducer_terms import Cell, Cells, each
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger, NoRecord, RecordExists
from fedn_py.reducer.masked_documents import MaskedDocument
from fedn_py.reducer.records import ExcludedClient, Measured, OrderedCell, RoundRecord, round_key

Names = Callable[[ClientId], ClientName]


class CommittedElsewhere(OwnFault):
    """The round at hand was changed by another reducer on the same stores."""

    def __init__(self, plan: RoundPlan) -> None:
        super().__init__(
            f"round {plan.round_number} of session {plan.session} was changed by another reducer",
            remedy="Only one reducer may run on these stores; start this one again, and it goes on from what is there.",
        )


class KeyStillHeld(OwnFault):
    """A masked attempt would begin while the key of the one before could still open its sums."""

    def __init__(self, plan: RoundPlan) -> None:
        super().__init__(
            f"attempt {plan.attempt} at round {plan.round_number} cannot begin: the key of the one before is not gone",
            remedy="Start the reducer again: it goes on with the attempt that it finds.",
        )


def ordered(cells: Cells) -> tuple[OrderedCell, ...]:
    """Return the cells of a plain attempt as its document has them."""
    return tuple(
        OrderedCell(name, cell.instance, cell.generation, tuple(sorted(cell.clients)), cell.partial, cell.lost)
        for name, cell in each(cells)
    )


def cells_of(record: RoundRecord) -> Cells:
    """Return the cells of a plain attempt that was found in its document."""
    cells: dict[CombinerName, Cell] = {}
    for kept in sorted(record.cells, key=lambda cell: cell.generation):
        cells[kept.combiner] = Cell(
            kept.instance,
            kept.generation,
            frozenset(kept.clients),
            partial=kept.partial,
            lost=kept.lost,
            earlier=cells.get(kept.combiner),
        )
    return cells


async def write_attempt(ledger: Ledger, fresh: RoundRecord) -> None:
    """Write the beginning of an attempt down; what came of earlier ones at the round stays.

    Raises:
        CommittedElsewhere: the round is committed.
        KeyStillHeld: an earlier masked attempt has not ended.
        Superseded: a newer reducer has taken the session over; what was inserted is its to take.
    """
    plan = fresh.plan
    key = round_key(plan.session, plan.round_number)

    def reopened(record: RoundRecord) -> RoundRecord:
        if record.status == "committed":
            raise CommittedElsewhere(plan)
        document = _carried(plan, record.document, fresh.document)
        return replace(fresh, started=record.started, failures=record.failures, document=document)

    async def reopen() -> None:
        await ledger.change("rounds", key, RoundRecord, reopened, status="running")

    async def add() -> None:
        await ledger.add("rounds", key, fresh, session=plan.session, number=plan.round_number, status="running")

    # What is likely comes first: a first attempt's document is mostly new, a further one's is there.
    try:
        await (add() if plan.attempt == 1 else reopen())
    except RecordExists:  # written before and the answer was lost, or by an older reducer: it becomes ours
        await reopen()
    except NoRecord:
        await add()
    await ledger.stamp("sessions", plan.session)


def _carried(plan: RoundPlan, old: MaskedDocument | None, new: MaskedDocument | None) -> MaskedDocument | None:
    if old is None or new is None:
        return old or new
    if old.round_key and old.attempts[-1].number != plan.attempt:
        raise KeyStillHeld(plan)
    earlier = tuple(one for one in old.attempts if one.number != plan.attempt)
    return replace(new, attempts=(*earlier, *new.attempts))


def tell_started(events: EventLog, record: RoundRecord) -> None:
    """Say that an attempt has begun."""
    plan = record.plan
    asked = sum(len(cell.clients) for cell in record.cells)
    again = f", attempt {plan.attempt}" if plan.attempt > 1 else ""
    text = f"round {plan.round_number}{again}: {asked} clients on {len(record.cells)} combiners"
    events.tell("round.started", text, session=plan.session, round=str(plan.round_number))


def tell_commit(events: EventLog, record: RoundRecord) -> None:
    """Say that a round is committed, and who is not in its model."""
    plan = record.plan
    where = {"session": plan.session, "round": str(plan.round_number)}
    tell_excluded(events, record.excluded, where)
    text = (
        f"round {plan.round_number} committed: {len(record.included)} clients, {record.samples} samples, "
        f"{record.seconds:.1f} s, model {str(record.model)[:12]}"
    )
    events.tell("round.committed", text, model=str(record.model), **where)


def tell_excluded(events: EventLog, excluded: Sequence[ExcludedClient], where: Mapping[str, str]) -> None:
    """Say who is not in a round, and why."""
    for client in excluded:
        text = f"{client.name} is not in round {where['round']}: {client.reason}"
        events.tell("update.refused", text, "warning", client=client.name, **where)


def named(excluded: Sequence[Exclusion], name_of: Names) -> tuple[ExcludedClient, ...]:
    """Return the same with what people call the clients."""
    return tuple(ExcludedClient(e.client, name_of(e.client), e.reason, e.log) for e in excluded)


def measured(summaries: Sequence[MetricsSummary], name_of: Names) -> Measured:
    """Merge combiners' metrics into means over all clients.

    Raises:
        InvalidMetrics: a combiner's sums cannot be.
    """
    sums = merge(MetricSums(dict(summary.weighted_sums), dict(summary.weights)) for summary in summaries)
    by_client: dict[ClientId, Mapping[str, float]] = {}
    counts: Counter[str] = Counter()
    for summary in summaries:
        by_client.update(summary.by_client)
        counts.update(summary.clients)
    released = {name_of(client): metrics for client, metrics in by_client.items()}
    return Measured(means=sums.means(), by_client=released, counts=counts)
