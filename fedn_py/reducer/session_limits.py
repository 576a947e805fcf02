"""The limits of a session: what its operator may change while it is under way, and the rules that they keep."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from fedn_py.protocol.reducer_terms import SessionLimits, SessionTerms, limits_of

MOST_ROUNDS = 999_999
_LONGEST_TIMEOUT_S = 30 * 86_400
_LONGEST_WAIT_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChanges:
    """What of a session's limits shall be otherwise from its next attempt on; what is None stays.

    Attributes:
        rounds: not below those that are done; a round that is under way is finished all the same.
        clients_wanted: how many clients are drawn for a round; 0 for all that are attached when it begins.
        clients_required: with fewer, a round fails.
        update_timeout_s: from a client's task to its update being whole at the combiner.
        validation_timeout_s: for a validation.
        max_attempts: at one round, before the session fails.
        retry_delay_s: between two attempts.
        gather_timeout_s: how long a round waits for clients_wanted before it begins with fewer.
    """

    rounds: int | None = None
    clients_wanted: int | None = None
    clients_required: int | None = None
    update_timeout_s: float | None = None
    validation_timeout_s: float | None = None
    max_attempts: int | None = None
    retry_delay_s: float | None = None
    gather_timeout_s: float | None = None

    def made_to(self, limits: SessionLimits) -> SessionLimits:
        """Return limits with these changes."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(limits, **{name: value for name, value in given.items() if value is not None})


def faults_of_limits(limits: SessionLimits) -> Iterator[str]:
    """Yield everything that is wrong with the limits of a session, in words and with the numbers."""
    if not 1 <= limits.rounds <= MOST_ROUNDS:
        yield f"rounds is {limits.rounds}, must be from 1 to {MOST_ROUNDS:,}"
    if limits.clients_required < 1:
        yield f"clients_required is {limits.clients_required}, must be at least 1"
    if limits.clients_wanted and limits.clients_wanted < limits.clients_required:
        yield f"clients_wanted ({limits.clients_wanted}) is below clients_required ({limits.clients_required})"
    if limits.clients_wanted < 0 or limits.max_attempts < 0:
        yield "clients_wanted and max_attempts must not be negative"
    for key in ("update_timeout_s", "validation_timeout_s"):
        if not 0 < getattr(limits, key) <= _LONGEST_TIMEOUT_S:
            yield f"{key} is {getattr(limits, key)}, must be above 0 and at most 30 days"
    for key in ("retry_delay_s", "gather_timeout_s"):
        if not 0 <= getattr(limits, key) <= _LONGEST_WAIT_S:
            yield f"{key} is {getattr(limits, key)}, must be from 0 to a day"


def faults_of_masked_limits(terms: SessionTerms) -> Iterator[str]:
    """Yield what is wrong with the limits of a masked session: fewer clients than its smallest cell hide nobody."""
    limits = limits_of(terms)
    for key in ("clients_required", "clients_wanted"):
        clients = getattr(limits, key)
        if clients < terms.least_in_cell and not (key == "clients_wanted" and clients == 0):
            yield f"{key} is {clients}, but a masked sum of this session needs at least {terms.least_in_cell} clients"


def told(before: SessionLimits, limits: SessionLimits) -> str:
    """Return what has changed, with old and new values, for people."""
    names = [field.name for field in fields(SessionLimits)]
    changed = [name for name in names if getattr(before, name) != getattr(limits, name)]
    return ", ".join(f"{name} {getattr(before, name):g} -> {getattr(limits, name):g}" for name in changed)
