"""What can become of a round whose attempt has failed: another attempt, or a privacy hold that says who is missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fedn_py.protocol.masked.opening import voids_of
from fedn_py.protocol.masked.opening_work import Attempt, Cell

MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt can be made.

    Attributes:
        clients: ids of those who may upload this work.
    """

    clients: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class PrivacyHold:
    """No attempt can be made without risk to single clients; the session pauses.

    Attributes:
        missing: ids of the members without whom the cells cannot be finished.
        stranded: ids of the clients that sit out until the work changes.
        ways_out: for people.
    """

    missing: tuple[bytes, ...]
    stranded: frozenset[bytes]
    ways_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The round is given up after its last attempt.

    Attributes:
        missing: ids of the members who would be needed to finish it.
    """

    missing: tuple[bytes, ...]


Outlook: TypeAlias = Retry | PrivacyHold | Failed


def stranded(attempt: Attempt) -> frozenset[bytes]:
    """Return the clients that may not upload the attempt's work again."""
    released = {void.ctx for void in voids_of(attempt)}
    held = [cell for cell in attempt.cells if cell.ctx is not None and cell.ctx not in released]
    return frozenset[bytes]().union(*(_may_have_sent(cell) for cell in held if not _all_aborted(cell)))


def _may_have_sent(cell: Cell) -> frozenset[bytes]:
    # Whoever has a committee may have sent; a cell that is closed does not show who else had.
    return cell.assigned


def _all_aborted(cell: Cell) -> bool:
    return bool(cell.seats) and cell.aborted.keys() >= {seat.client_id for seat in cell.seats}


def missing(attempts: Iterable[Attempt]) -> tuple[bytes, ...]:
    """Return the members that cells wait for: those of unanswered slots, and those who have not aborted."""
    names: list[bytes] = []
    for attempt in attempts:
        for cell in attempt.cells:
            waited = cell.unanswered if cell.included_hash is not None else cell.seats
            names += [seat.client_id for seat in waited if seat.client_id not in cell.aborted and not cell.opened]
    return tuple(sorted(set(names)))


def outlook(
    attempts: Sequence[Attempt], attached: frozenset[bytes], *, clients_required: int, works_left: int
) -> Outlook:
    """Return what can become of a round.

    Args:
        attempts: all that were made, the last one ended and its key gone.
        attached: ids of the clients that are there.
        works_left: how many more works the policy allows on this base model.
    """
    held = frozenset[bytes]().union(*(stranded(attempt) for attempt in attempts))
    free = attached - held
    if len(free) >= clients_required or not held & attached:
        return Retry(free) if len(attempts) < MOST_ATTEMPTS else Failed(missing(attempts))
    return PrivacyHold(missing(attempts), held, ways_out(works_left))


def ways_out(works_left: int) -> tuple[str, ...]:
    """Return what people can do about a privacy hold."""
    wait = (
        "Bring the missing members back online: where all of a committee give up, its clients are free and the session "
        "goes on by itself; who has answered cannot give up."
    )
    if works_left < 1:
        used_up = (
            "BaseUsedUp: no further work may be done on this base model. Have the operator sign a policy with a "
            "larger rework_max, knowing that works on one base can be compared with each other."
        )
        return (wait, used_up)
    anew = f"Start a new work on the same base (another seed; clients train anew); {works_left} more are allowed."
    return (wait, anew)
