"""A masked attempt in the reducer's machine: its cells, its deadlines, and what can become of its round.

What is opened, once and for ever, is decided by the machine of the attempt (``masked/opening.py``). Here it is given
what happens to combiners and what the clock says. Rules kept here:

- A cell that is too small to hide a client is never ordered; its clients are sent elsewhere, or sit out.
- A fault in what somebody said is told by name and changes nothing.
- A round is tried again only with clients whose earlier uploads can be in no sum any more; where that leaves too few,
  the session rests in a privacy hold that names who is missing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, CombinerName
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked import opening
from fedn_py.protocol.masked.committee import LARGEST_CELL
from fedn_py.protocol.masked.opening_work import (
    AbortArrived,
    Attempt,
    CellClosedArrived,
    CellLost,
    Committed,
    GivenUp,
    MeanRefused,
    ReportFailed,
    Sum2Over,
)
from fedn_py.protocol.masked.opening_work import Cell as MaskedCell
from fedn_py.protocol.masked.opening_work import Effect as OpeningEffect
from fedn_py.protocol.masked.opening_work import Event as OpeningEvent
from fedn_py.protocol.masked.outlook import Failed, Outlook, PrivacyHold, outlook, stranded
from fedn_py.protocol.masked_rounds_work import (
    AnswerDeadlinePassed,
    AttemptPlanned,
    Masked,
    MaskedEffect,
    MaskedEvent,
    MaskedPartialArrived,
    Planning,
)
from fedn_py.protocol.messages import CellCancelled, CellOrder, Exclusion
from fedn_py.protocol.reducer_terms import (
    Cell,
    Cells,
    Progress,
    Roster,
    SessionTerms,
    places,
)
from fedn_py.protocol.reducer_work import (
    Effect,
    ExpectCombiner,
    RoundNotSaved,
    RoundSaved,
    SendCancel,
    SendOrder,
    TellRefused,
    UpdateDeadlinePassed,
)

Advanced = tuple[Masked, list[Effect]]

SUM_S = 30.0
"""How long clients may take to offer keys."""

ANSWER_S = 60.0
"""How long members may take to answer, beside what computing and sending takes."""

ANSWER_MARGIN_S = 30.0
"""How much longer the reducer waits for a cell than the cell waits for its clients: to store and send its sum."""

MOVING_S = 20.0
"""How long clients that were sent to another combiner are waited for."""

PRIVACY_HOLD = "privacy hold"
RESTORED = "StoresRestored: the attempt ran before the stores were restored from a backup"
STOPPED = "Stopped: the operator ended the session"
LOST = "CombinerLost: the connection of its combiner ended"
LATE = "Late: the combiner did not answer before the deadline"

_MASK_WORDS_PER_S = 5e8
_STREAM_BYTES_PER_S = 1e6


def answers_within_s(clients: int, n_words: int) -> float:
    """Return how long a committee may take: to echo, to add the masks of so many clients, and to send their sum."""
    return ANSWER_S + clients * n_words / _MASK_WORDS_PER_S + 4 * n_words / _STREAM_BYTES_PER_S


# ---- who can be in an attempt


def held(progress: Progress) -> frozenset[ClientId]:
    """Return the clients whose earlier upload of the work at hand may yet be opened."""
    ids = frozenset[bytes]().union(*(stranded(attempt) for attempt in progress.history))
    return frozenset(ClientId(one.hex()) for one in ids)


def eligible(roster: Roster, progress: Progress) -> dict[ClientId, CombinerName]:
    """Return the clients that a masked attempt can have, with their combiners."""
    sitting_out = held(progress)
    return {
        client: combiner
        for client, combiner in places(roster).items()
        if client in roster[combiner].registered and client not in sitting_out
    }


def lacking(roster: Roster, progress: Progress) -> str:
    """Say why attached clients are not counted, empty where all are."""
    attached = frozenset[ClientId]().union(*(entry.clients for entry in roster.values()))
    registered = frozenset[ClientId]().union(*(entry.clients & entry.registered for entry in roster.values()))
    reasons = []
    if others := len(attached - registered):
        reasons.append(f"{others} more cannot take part in masked rounds: they or their combiner are not registered")
    if sitting := len(registered & held(progress)):
        reasons.append(f"{sitting} more sit out, as their earlier uploads may yet be opened")
    return "".join(f"; {reason}" for reason in reasons)


def most_in_cell(terms: SessionTerms) -> int:
    """Return how many clients a cell may have."""
    return min(terms.masked.n_max or LARGEST_CELL, LARGEST_CELL)


def without_small(cells: Cells, terms: SessionTerms) -> Cells:
    """Return the cells of an attempt, those marked as lost that are too small to hide a client."""
    return {name: _large_enough(cell, terms) for name, cell in cells.items()}


def _large_enough(cell: Cell, terms: SessionTerms) -> Cell:
    if len(cell.clients) >= terms.least_in_cell:
        return cell
    reason = f"CellTooSmall: a cell of {len(cell.clients)} clients hides nobody, {terms.least_in_cell} are needed"
    return replace(cell, lost=reason)


def moves(cells: Cells, roster: Roster, terms: SessionTerms) -> dict[CombinerName, frozenset[ClientId]]:
    """Return whom to send away from which combiner, so that nobody is in a cell that is too small.

    Empty where there is no cell that they could join, or no room in it.
    """
    small = {name: cell.clients for name, cell in without_small(cells, terms).items() if cell.lost}
    targets = targets_of(cells, terms)
    if sum(len(cell.clients) for cell in cells.values()) < terms.least_in_cell:
        return {}
    room = sum(max(0, roster[name].max_clients - len(roster[name].clients)) for name in targets)
    moved: dict[CombinerName, frozenset[ClientId]] = {}
    for name in sorted(small.keys() - targets, key=lambda one: (len(small[one]), one)):
        if len(small[name]) <= room:
            moved[name] = small[name]
            room -= len(small[name])
    return moved


def targets_of(cells: Cells, terms: SessionTerms) -> frozenset[CombinerName]:
    """Return the combiners that clients of too small cells are sent to."""
    large = frozenset(name for name, cell in cells.items() if len(cell.clients) >= terms.least_in_cell)
    return large or frozenset([max(cells, key=lambda name: (len(cells[name].clients), name))])


# ---- an attempt goes on


def begin(work: Planning, event: AttemptPlanned, roster: Roster) -> Advanced:
    """Order the cells of an attempt that is planned."""
    progress = replace(work.progress, names={**work.progress.names, **event.names})
    cells = {
        name: replace(cell, lost=event.left_out[name]) if name in event.left_out else cell
        for name, cell in work.cells.items()
    }
    masked = Masked(progress, work.plan, cells, event.masked)
    if progress.intent == "stop":
        return hear(masked, GivenUp(STOPPED))
    effects: list[Effect] = []
    gone: list[CombinerName] = []
    for name, cell in cells.items():
        if cell.lost:
            continue
        if name in roster and roster[name].instance == cell.instance:
            effects.append(order(masked, name))
        else:
            gone.append(name)
    effects.append(_deadline(masked))
    for name in gone:
        masked, more = lose(masked, name, LOST)
        effects += more
    return masked, effects


def _deadline(work: Masked) -> Effect:
    plan = work.plan
    deadline = UpdateDeadlinePassed(plan.session, plan.round_number, plan.attempt)
    return StartTimer(SUM_S + plan.update_timeout_s + ANSWER_MARGIN_S, deadline)


def order(work: Masked, combiner: CombinerName) -> SendOrder:
    """Return the order to a combiner; what was signed of it is added by the shell."""
    cell = work.cells[combiner]
    asked = CellOrder(work.plan, cell.generation, tuple(sorted(cell.clients)), len(cell.clients))
    return SendOrder(combiner, cell.instance, asked)


def inner_cell(work: Masked, combiner: CombinerName) -> MaskedCell | None:
    """Return what the attempt knows of a combiner's cell; None where it has none."""
    cell = work.cells.get(combiner)
    if cell is None or cell.lost:
        return None
    return next((one for one in work.attempt.cells if one.generation == cell.generation % 2**32), None)


def is_open(work: Masked, combiner: CombinerName) -> bool:
    """Say whether a combiner owes the sum of its cell."""
    cell = inner_cell(work, combiner)
    return work.attempt.stage == "running" and cell is not None and cell.included_hash is None and not cell.out


def lose(work: Masked, combiner: CombinerName, reason: str) -> Advanced:
    """Give up a cell that is not closed; a closed one does not need its combiner any more."""
    cell = inner_cell(work, combiner)
    if cell is None or not is_open(work, combiner):
        return work, []
    return hear(work, CellLost(cell.cell, cell.generation, reason))


def answered(work: Masked, event: MaskedPartialArrived) -> Advanced:
    """Take a combiner's answer to its order.

    Raises:
        UnexpectedEvent: it answers an order that is not open.
    """
    cell, partial = work.cells.get(event.combiner), event.partial
    if cell is None or (cell.instance, cell.generation) != (event.instance, partial.generation):
        raise UnexpectedEvent(work, event)
    if event.combiner in work.partials and work.partials[event.combiner].closed != partial.closed:
        raise UnexpectedEvent(work, event)
    if partial.closed is None:
        work = replace(work, partials={**work.partials, event.combiner: partial})
        return lose(work, event.combiner, f"TooFewUpdates: {partial.included} updates came in time")
    work, effects = hear(work, CellClosedArrived(partial.closed), event.combiner)
    if not any(isinstance(effect, TellRefused) for effect in effects):
        work = replace(work, partials={**work.partials, event.combiner: partial})
    return work, effects


def late(work: Masked) -> Advanced:
    """Give up every cell whose combiner has not answered by its deadline."""
    effects: list[Effect] = []
    for name, cell in work.cells.items():
        if is_open(work, name):
            effects.append(SendCancel(name, cell.instance, CellCancelled(cell.generation, "the deadline has passed")))
            work, more = lose(work, name, LATE)
            effects += more
    return work, effects


def answers_over(work: Masked) -> Advanced:
    """Wait for no more answers."""
    return hear(work, Sum2Over()) if work.attempt.stage == "running" else (work, [])


def stop(work: Masked) -> Advanced:
    """End the attempt if it opens nothing yet; otherwise it is finished first."""
    work = replace(work, progress=replace(work.progress, intent="stop"))
    return hear(work, GivenUp(STOPPED)) if work.attempt.stage == "running" else (work, [])


def saved(work: Masked, event: RoundSaved) -> Advanced:
    """Note that the round is committed; its key goes now.

    Raises:
        UnexpectedEvent: nothing was to be committed.
    """
    if work.attempt.stage != "opening":
        raise UnexpectedEvent(work, event)
    return hear(replace(work, model=event.model), Committed())


def not_saved(work: Masked, event: RoundNotSaved) -> Advanced:
    """Give up an attempt whose opened sums make no model."""
    if work.attempt.stage != "opening":
        raise UnexpectedEvent(work, event)
    return hear(work, MeanRefused(event.reason))


def resume(work: Masked) -> Advanced:
    """Go on with an attempt that was found in its document: in its phase, with the contexts and sets that it has.

    A combiner whose cell is not closed has its time to come back, and then owes its answer to the same order. Only what
    runs and is older than a backup, or was to be stopped, is given up: its key goes before anybody's clients are
    released.
    """
    if work.attempt.stage == "running" and work.attempt.before_restore:
        return hear(work, GivenUp(RESTORED))
    if work.attempt.stage == "running" and work.progress.intent == "stop":
        return hear(work, GivenUp(STOPPED))
    if work.attempt.stage == "opening" and work.model is not None:
        return hear(work, Committed())
    expected: list[Effect] = [
        ExpectCombiner(name, cell.instance) for name, cell in work.cells.items() if is_open(work, name)
    ]
    if expected:
        expected.append(_deadline(work))
    attempt, effects = opening.resume(work.attempt)
    work, more = _after(work, attempt, effects)
    return work, expected + more


def hear(
    work: Masked, event: OpeningEvent, combiner: CombinerName | None = None, client: ClientId | None = None
) -> Advanced:
    """Give the attempt's machine an event.

    Raises:
        UnexpectedEvent: it is not expected now; nothing has changed.
    """
    try:
        attempt, effects = opening.step(work.attempt, event)
    except UnexpectedEvent:
        raise UnexpectedEvent(work, event) from None
    except PeerFault as fault:
        refused = TellRefused(combiner or CombinerName("?"), f"{fault.code}: {fault.message}", client)
        return work, [refused]
    return _after(work, attempt, effects)


def _after(work: Masked, attempt: Attempt, effects: Iterable[OpeningEffect]) -> Advanced:
    where = (work.plan.session, work.plan.round_number, work.plan.attempt)
    passed_on: list[Effect] = []
    for effect in effects:
        passed_on.append(MaskedEffect(*where, effect))
        if isinstance(effect, ReportFailed):
            passed_on += _cancels(work, effect.reason)
            work = replace(work, reason=effect.reason)
    work = replace(work, attempt=attempt)
    if not work.answers_due and attempt.stage == "running" and _all_closed(attempt):
        most = max(len(cell.rows) for cell in attempt.cells)
        passed_on.append(StartTimer(answers_within_s(most, attempt.n_words), AnswerDeadlinePassed(*where)))
        work = replace(work, answers_due=True)
    return work, passed_on


def _all_closed(attempt: Attempt) -> bool:
    return all(cell.out or cell.included_hash is not None for cell in attempt.cells)


def _cancels(work: Masked, reason: str) -> list[Effect]:
    return [
        SendCancel(name, cell.instance, CellCancelled(cell.generation, reason))
        for name, cell in work.cells.items()
        if is_open(work, name)
    ]


def is_over(work: Masked) -> bool:
    """Say whether the attempt has ended and its key is gone."""
    return work.attempt.key == "unset"


def late_word(progress: Progress, event: MaskedEvent) -> tuple[Progress, list[Effect]] | None:
    """Note an Abort that is said of an attempt that has ended: it may release its clients. None for all else."""
    if not isinstance(event.event, AbortArrived) or event.session != progress.terms.session:
        return None
    if event.round_number != progress.committed + 1:
        return None
    attempt = next((one for one in progress.history if one.attempt == event.attempt), None)
    if attempt is None:
        return None
    try:
        after, effects = opening.step(attempt, event.event)
    except PeerFault as fault:
        refused = TellRefused(event.combiner or CombinerName("?"), f"{fault.code}: {fault.message}", event.client)
        return progress, [refused]
    history = tuple(after if one is attempt else one for one in progress.history)
    wrapped: list[Effect] = [
        MaskedEffect(event.session, event.round_number, event.attempt, effect) for effect in effects
    ]
    return replace(progress, history=history), wrapped


# ---- an attempt has failed


def excluded(work: Masked) -> tuple[Exclusion, ...]:
    """Return everybody of an attempt who is in no set that could have been opened, with the reason."""
    found: list[Exclusion] = []
    for name, cell in work.cells.items():
        said = work.partials[name].excluded if name in work.partials else ()
        inner = inner_cell(work, name)
        reason = cell.lost if inner is None else inner.out
        if not reason and (inner is None or inner.included_hash is None):
            reason = work.reason or LATE
        named = {exclusion.client for exclusion in said}
        found += said
        if reason:
            found += [Exclusion(client, reason) for client in sorted(cell.clients - named)]
    return tuple(found)


def what_next(progress: Progress, roster: Roster) -> Outlook:
    """Return what can become of a round, from its attempts that have ended."""
    attached = frozenset[ClientId]().union(*(entry.clients & entry.registered for entry in roster.values()))
    return outlook(
        progress.history,
        frozenset(bytes.fromhex(client) for client in attached),
        clients_required=progress.terms.clients_required,
        works_left=progress.terms.rework_max - progress.works,
    )


def hold_reason(progress: Progress, hold: PrivacyHold) -> str:
    """Say for people why a session rests, who is missing, and what they can do."""
    waiting = f"waiting for {names_of(progress, hold.missing)}; " if hold.missing else ""
    return (
        f"{PRIVACY_HOLD}: the updates of {len(hold.stranded)} clients may yet be opened, so they cannot be sent again; "
        f"{waiting}{' '.join(hold.ways_out)}"
    )


def failed_reason(progress: Progress, failed: Failed, reason: str) -> str:
    """Say for people why a round is not tried again."""
    needed = f"; needed to finish it: {names_of(progress, failed.missing)}" if failed.missing else ""
    return f"round {progress.committed + 1} failed {len(progress.history)} times, at last with: {reason}{needed}"


def names_of(progress: Progress, ids: Iterable[bytes]) -> str:
    """Return what people call these clients."""
    return ", ".join(_name(progress.names, ClientId(one.hex())) for one in ids)


def _name(names: Mapping[ClientId, object], client: ClientId) -> str:
    return str(names.get(client, client[:12]))


def with_next_seed(parameters: str) -> str:
    """Return parameters that make another work of the same task: with the seed one higher."""
    values = json.loads(parameters)
    seed = values.get("seed", 0)
    return json.dumps({**values, "seed": int(seed) + 1}, sort_keys=True)
