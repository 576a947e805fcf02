"""The machine of the reducer in one attempt: which sets are opened, once and for ever, and which never will be.

Rules it keeps:

- A cell has one set under its context. The sets of all cells are disjoint, hold only clients that were assigned, and at
  least g_min of them.
- ``opening`` is stored before the first answer is decrypted, for all cells together, and only when enough clients are
  in fully answered cells: a failing round strands no opened cell.
- NotOpened is said only of a set that is not in ``opening``, and only after the key that could open it is gone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias, assert_never

from fedn_py.errors import PeerFault
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.answers import BadAnswer, sealed_bytes
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import WrongContext, check_rows, included_hash, nonce_commitment
from fedn_py.protocol.masked.opening_work import (
    AbortArrived,
    AnswerArrived,
    AskStream,
    Attempt,
    Cell,
    CellClosedArrived,
    CellLost,
    CellNotOpened,
    CellOpened,
    CellSeat,
    CommitMean,
    Committed,
    CommitteeFormed,
    ConfirmCommittee,
    Effect,
    Event,
    GivenUp,
    KeyUnset,
    MeanRefused,
    OpenCells,
    ReportFailed,
    SaveDocument,
    SendOpenSum2,
    SignNotOpened,
    StreamFailed,
    StreamStored,
    Sum2Over,
    UnsetKey,
)
from fedn_py.protocol.masked.round_messages import Abort, Answer, CellClosed, IncludedRow, NotOpened, OpenSum2
from fedn_py.protocol.masked.signing import Signed, WrongSigner, read_signed

Result: TypeAlias = tuple[Attempt, list[Effect]]


class ClientInTwoCells(PeerFault):
    """A client is in the sets of two cells; the later one is refused."""

    def __init__(self, clients: Sequence[bytes]) -> None:
        super().__init__(
            f"{len(clients)} clients are in the sum of another cell already: {clients[0].hex()[:16]}",
            remedy="A combiner took clients that have no ticket for it; its cell is left out.",
        )
        self.clients = tuple(clients)


class NotAssigned(PeerFault):
    """A cell's set holds clients that were not sent to it."""

    def __init__(self, clients: Sequence[bytes]) -> None:
        super().__init__(
            f"{len(clients)} clients have no ticket for this cell: {clients[0].hex()[:16]}",
            remedy="A client takes part in the cell that the reducer assigned it to, and in no other.",
        )


class FencedGeneration(PeerFault):
    """An answer to an order that was taken back, or is left out already."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the order is no longer open: {reason}", remedy="Nothing is to be done; the work goes on elsewhere."
        )


class TooFewUpdates(PeerFault):
    """A cell closed with fewer clients than may be opened."""

    def __init__(self, included: int, required: int) -> None:
        super().__init__(
            f"{included} of at least {required} updates came in time",
            remedy="Raise the round's time limit, or bring more clients online; with fewer, single ones would show.",
        )


class ClosedOtherwise(PeerFault):
    """A cell was closed before, with another set or another sum."""

    def __init__(self) -> None:
        super().__init__(
            "this cell is closed with another set", remedy="A cell is finished with the set that it was closed with."
        )


class WrongIncluded(PeerFault):
    """An answer is for another set than the one that was asked for."""

    def __init__(self) -> None:
        super().__init__(
            "an answer is for another set than the reducer asked for", remedy="Its sender was shown another list."
        )


class NotVoid(PeerFault):
    """A set may have been opened, or may yet be: nobody can be told otherwise."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"NotOpened cannot be said: {reason}", remedy="Its clients sit out until the work changes.")


def step(attempt: Attempt, event: Event) -> Result:
    """Advance the reducer's part of one attempt by one event.

    Raises:
        UnexpectedEvent: it is not expected now; nothing has changed.
        PeerFault: it is refused by name; nothing has changed.
    """
    match event:
        case CommitteeFormed(cell, generation, committee):
            return _form(attempt, event, _ordered(attempt, cell, generation), committee)
        case CellClosedArrived(closed):
            return _close(attempt, event, closed)
        case CellLost(cell, generation, reason):
            return _lose(attempt, event, _ordered(attempt, cell, generation), reason)
        case AnswerArrived(answer, stored):
            return _answer(attempt, answer, stored=stored)
        case StreamStored(ctx, member):
            return _stream(attempt, event, _answered_by(attempt, ctx, member), member, stored=True)
        case StreamFailed(ctx, member):
            return _stream(attempt, event, _answered_by(attempt, ctx, member), member, stored=False)
        case AbortArrived(abort):
            return _aborted(attempt, abort)
        case Sum2Over():
            return _begin_opening(attempt, event)
        case CellOpened(ctx):
            return _judged(attempt, event, replace(_known(attempt, ctx, "opened cell"), opened=True))
        case CellNotOpened(ctx, reason):
            return _judged(attempt, event, replace(_known(attempt, ctx, "opened cell"), out=reason))
        case Committed():
            return _committed(attempt, event)
        case MeanRefused(reason):
            _expect(attempt, event, "opening")
            return _ended(attempt, reason)
        case KeyUnset():
            return _key_unset(attempt, event)
        case GivenUp(reason):
            return _give_up(attempt, event, reason)
        case _:
            assert_never(event)


def resume(attempt: Attempt) -> Result:
    """Go on with an attempt that was found in the store: the same bytes, the same sets, whoever is the reducer now."""
    match attempt:
        case Attempt(key="unsetting"):
            return attempt, [UnsetKey()]
        case Attempt(key="unset"):
            return attempt, [SignNotOpened(void) for void in voids_of(attempt)]
        case Attempt(stage="opening"):
            judged = [cell for cell in attempt.cells if cell.ctx in attempt.opening]
            waiting = tuple(sorted(_ctx(cell) for cell in judged if not cell.opened and not cell.out))
            return (attempt, [OpenCells(waiting)]) if waiting else _outcome(attempt)
        case _:
            asked = [SendOpenSum2(_opening(cell)) for cell in attempt.cells if cell.included_hash and not cell.out]
            wanted = [AskStream(_ctx(cell), one) for cell in attempt.cells for one in cell.streams_wanted]
            attempt, effects = _settle(attempt)
            return attempt, [*asked, *wanted, *effects]


# ---- cells


def _ordered(attempt: Attempt, cell: bytes, generation: int) -> Cell:
    for one in attempt.cells:
        if one.cell == cell:
            if one.generation != generation:
                raise FencedGeneration(f"generation {generation} is not {one.generation}")
            return one
    raise WrongContext("cell")


def _known(attempt: Attempt, ctx: bytes, kind: str) -> Cell:
    for cell in attempt.cells:
        if cell.ctx == ctx:
            return cell
    raise WrongContext(kind)


def _ctx(cell: Cell) -> bytes:
    assert cell.ctx is not None
    return cell.ctx


def _with(attempt: Attempt, cell: Cell) -> Attempt:
    cells = tuple(cell if one.cell == cell.cell else one for one in attempt.cells)
    return replace(attempt, cells=cells)


def _expect(attempt: Attempt, event: Event, *stages: str) -> None:
    if attempt.stage not in stages:
        raise UnexpectedEvent(attempt, event)


def _form(attempt: Attempt, event: Event, cell: Cell, committee: Committee) -> Result:
    """Learn a cell's committee, and have it handed out once it is stored; one that comes later reaches nobody."""
    if cell.ctx is not None and cell.ctx != committee.ctx:
        raise WrongContext("committee")
    if cell.out or (cell.ctx is not None and attempt.stage != "running"):
        return attempt, []
    confirm = ConfirmCommittee(cell.cell, committee.ctx)
    if cell.ctx is not None:
        return attempt, [confirm]  # a new life of the reducer, or a new stream, is asked again
    _expect(attempt, event, "running")
    seats = tuple(
        CellSeat(m.slot, m.replica, m.client.client_id, m.client.client_key, m.nonce_commit) for m in committee.members
    )
    attempt = _with(attempt, replace(cell, ctx=committee.ctx, seats=seats))
    return attempt, [SaveDocument(attempt), confirm]


def _close(attempt: Attempt, event: Event, signed: Signed) -> Result:
    closed = read_signed(signed, CellClosed)
    cell = _known(attempt, closed.ctx, CellClosed.kind)
    if signed.signer != cell.combiner:
        raise WrongSigner(CellClosed.kind, "not signed by the combiner that was ordered")
    if cell.included_hash is not None:
        if (cell.rows, cell.partial_sha256) != (closed.rows, closed.partial_sha256):
            raise ClosedOtherwise
        return attempt, [SendOpenSum2(_opening(cell))]
    _expect(attempt, event, "running")
    if cell.out:
        raise FencedGeneration(cell.out)
    try:
        _check_set(attempt, cell, closed.rows)
    except PeerFault as error:
        # The cell is out for good; its clients may go elsewhere when nothing can open it any more.
        return _settle(_with(attempt, replace(cell, out=f"{error.code}: {error.message}")))
    digest = included_hash(closed.ctx, closed.rows)
    cell = replace(cell, rows=closed.rows, included_hash=digest, partial_sha256=closed.partial_sha256)
    attempt = _with(attempt, cell)
    return attempt, [SaveDocument(attempt), SendOpenSum2(_opening(cell))]


def _check_set(attempt: Attempt, cell: Cell, rows: tuple[IncludedRow, ...]) -> None:
    check_rows(rows)
    clients = frozenset(row.client_id for row in rows)
    if strangers := sorted(clients - cell.assigned):
        raise NotAssigned(strangers)
    elsewhere = frozenset[bytes]().union(*(one.clients for one in attempt.cells if one.cell != cell.cell))
    if shared := sorted(clients & elsewhere):
        raise ClientInTwoCells(shared)
    if len(clients) < cell.g_min:
        raise TooFewUpdates(len(clients), cell.g_min)


def _opening(cell: Cell) -> OpenSum2:
    assert cell.included_hash is not None
    return OpenSum2(_ctx(cell), cell.included_hash, len(cell.rows))


def _lose(attempt: Attempt, event: Event, cell: Cell, reason: str) -> Result:
    _expect(attempt, event, "running")
    if cell.out or cell.included_hash is not None:
        return attempt, []  # a closed cell does not need its combiner any more
    return _settle(_with(attempt, replace(cell, out=reason)))


# ---- answers


def _answer(attempt: Attempt, signed: Signed, *, stored: bool) -> Result:
    answer = read_signed(signed, Answer)
    cell = _known(attempt, answer.ctx, Answer.kind)
    seat = _seat(cell, signed, Answer.kind)
    if answer.included_hash != cell.included_hash:
        raise WrongIncluded
    if answer.slot != seat.slot:
        raise BadAnswer(seat.client_id, "it is for another slot")
    if nonce_commitment(cell.ctx0, seat.client_id, answer.nonce) != seat.nonce_commit:
        raise BadAnswer(seat.client_id, "it reveals another nonce than it committed to")
    if answer.stream_bytes != sealed_bytes(4 * attempt.n_words):
        raise BadAnswer(seat.client_id, f"its stream has {answer.stream_bytes} bytes")
    if cell.answers.get(seat.client_id, signed) != signed:
        raise BadAnswer(seat.client_id, "it has answered otherwise before")
    if attempt.stage in {"committed", "given up"} or seat.client_id in cell.answers:
        return attempt, []
    streams = cell.streams | {seat.client_id} if stored else cell.streams
    return _progress(attempt, cell, replace(cell, answers={**cell.answers, seat.client_id: signed}, streams=streams))


def _answered_by(attempt: Attempt, ctx: bytes, member: bytes) -> Cell:
    cell = _known(attempt, ctx, "stream")
    if member not in cell.answers:
        raise WrongContext("stream")
    return cell


def _stream(attempt: Attempt, event: Event, cell: Cell, member: bytes, *, stored: bool) -> Result:
    _expect(attempt, event, "running", "opening")
    if stored:
        after = replace(cell, streams=cell.streams | {member}, failed=cell.failed - {member})
    else:
        after = replace(cell, streams=cell.streams - {member}, failed=cell.failed | {member})
    return _progress(attempt, cell, after)


def _progress(attempt: Attempt, before: Cell, after: Cell) -> Result:
    """Save what came, and ask for the streams that are wanted now."""
    asked: list[Effect] = [
        AskStream(_ctx(after), member) for member in after.streams_wanted if member not in before.streams_wanted
    ]
    attempt, effects = _settle(_with(attempt, after))
    return attempt, [*effects, *asked]


def _seat(cell: Cell, signed: Signed, kind: str) -> CellSeat:
    for seat in cell.seats:
        if seat.client_key == signed.signer:
            return seat
    raise WrongSigner(kind, "not signed by a member of this committee")


def _aborted(attempt: Attempt, signed: Signed) -> Result:
    cell = _known(attempt, read_signed(signed, Abort).ctx, Abort.kind)
    seat = _seat(cell, signed, Abort.kind)
    if seat.client_id in cell.aborted:
        return attempt, []
    attempt = _with(attempt, replace(cell, aborted={**cell.aborted, seat.client_id: signed}))
    return attempt, [SaveDocument(attempt)]


# ---- opening


def _settle(attempt: Attempt) -> Result:
    """Save what has changed; begin opening, or give up, when no cell is waited for any more."""
    if attempt.stage == "running" and all(cell.out or cell.answered for cell in attempt.cells):
        return _begin_opening(attempt, Sum2Over())
    return attempt, [SaveDocument(attempt)]


def _begin_opening(attempt: Attempt, event: Event) -> Result:
    _expect(attempt, event, "running")
    ready = [cell for cell in attempt.cells if cell.answered and not cell.out]
    clients = sum(len(cell.rows) for cell in ready)
    if not ready or clients < attempt.clients_required:
        missing = sum(len(cell.unanswered) for cell in attempt.cells if cell.included_hash and not cell.out)
        reason = f"{clients} of {attempt.clients_required} clients are in answered cells, {missing} members are missing"
        return _give_up(attempt, event, reason)
    late = [cell for cell in attempt.cells if not cell.answered and not cell.out]
    for cell in late:
        attempt = _with(attempt, replace(cell, out=f"{len(cell.unanswered)} members did not answer in time"))
    ctxs = tuple(sorted(_ctx(cell) for cell in ready))
    attempt = replace(attempt, stage="opening", opening=frozenset(ctxs))
    return attempt, [SaveDocument(attempt), OpenCells(ctxs)]


def _judged(attempt: Attempt, event: Event, cell: Cell) -> Result:
    _expect(attempt, event, "opening")
    if cell.ctx not in attempt.opening:
        raise UnexpectedEvent(attempt, event)
    attempt = _with(attempt, cell)
    judged = [one for one in attempt.cells if one.ctx in attempt.opening]
    if not all(one.opened or one.out for one in judged):
        return attempt, [SaveDocument(attempt)]
    saved = SaveDocument(attempt)
    attempt, effects = _outcome(attempt)
    return attempt, [saved, *effects]


def _outcome(attempt: Attempt) -> Result:
    """Decide what becomes of an attempt whose cells are all judged."""
    opened = [cell for cell in attempt.cells if cell.opened]
    clients = sum(len(cell.rows) for cell in opened)
    if opened and clients >= attempt.clients_required:
        return attempt, [CommitMean(tuple(sorted(_ctx(cell) for cell in opened)))]
    return _ended(attempt, f"{clients} of {attempt.clients_required} clients are in cells that opened")


def _committed(attempt: Attempt, event: Event) -> Result:
    _expect(attempt, event, "opening")
    attempt = replace(attempt, stage="committed", key="unsetting")
    return attempt, [SaveDocument(attempt), UnsetKey()]


def _give_up(attempt: Attempt, event: Event, reason: str) -> Result:
    _expect(attempt, event, "running")
    return _ended(attempt, reason)


def _ended(attempt: Attempt, reason: str) -> Result:
    attempt = replace(attempt, stage="given up", key="unsetting")
    return attempt, [SaveDocument(attempt), UnsetKey(), ReportFailed(reason)]


def _key_unset(attempt: Attempt, event: Event) -> Result:
    if attempt.key != "unsetting":
        raise UnexpectedEvent(attempt, event)
    attempt = replace(attempt, key="unset")
    voids = [SignNotOpened(void) for void in voids_of(attempt)]
    return attempt, [SaveDocument(attempt), *voids]


def not_opened(attempt: Attempt, ctx: bytes, reason: str) -> NotOpened:
    """Return what releases a cell's clients.

    Raises:
        NotVoid: the set was or may have been opened, or the key that could open it is not gone, or nobody can know.
        WrongContext: there is no such cell.
    """
    _known(attempt, ctx, NotOpened.kind)
    if attempt.reopen != "reducer":
        raise NotVoid("the plan lets members alone release clients")
    if ctx in attempt.opening:
        raise NotVoid("the cell may have been opened")
    if attempt.key != "unset":
        raise NotVoid("the key that could open it is not gone")
    if attempt.before_restore:
        raise NotVoid("the stores were restored to a time before, and may not know of an opening")
    return NotOpened(ctx, reason)


def voids_of(attempt: Attempt) -> tuple[NotOpened, ...]:
    """Return what can be said of the attempt's cells after its key is gone; also for the plans of later attempts."""
    voids = []
    for cell in attempt.cells:
        if cell.ctx is not None:
            try:
                voids.append(not_opened(attempt, cell.ctx, "the attempt has ended"))
            except NotVoid:
                continue
    return tuple(voids)
