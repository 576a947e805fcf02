"""What is done to networks in which a second reducer waits for the first."""

from functools import partial

from chaos.actions import active_killed_at, active_stopped_at, active_terminated, stopped_and_woken_twice
from chaos.conditions import both, everybody, nothing, same_attempt
from chaos.trial import Trial

_masked = partial(Trial.of, "pet", standby=True)
_plain = partial(Trial.of, "none", standby=True)

TRIALS = (
    _plain(
        "standby takes over in Update",
        "the active reducer killed while all clients train, and started again as a standby when the round is done",
        partial(active_killed_at, point=None),
        "the other one takes over, and all clients are in the round",
        everybody,
        gated=True,
    ),
    _plain(
        "reducer stopped before a commit and woken",
        "the active reducer stands still with the commit about to be written, until the other one has committed",
        partial(active_stopped_at, point="commit unwritten"),
        "its write is refused when it wakes, and it ends or waits",
        everybody,
    ),
    _plain(
        "reducer asked to end with a standby",
        "the active reducer gets SIGTERM while all clients train",
        active_terminated,
        "it hands over at once; all clients are in the round",
        everybody,
        gated=True,
    ),
    _masked(
        "standby takes over with the opening stored",
        "the active reducer killed when it is written that sums may be opened",
        partial(active_killed_at, point="opening stored, nothing opened"),
        "the other one opens exactly these sums, in the same attempt",
        both(same_attempt, everybody),
    ),
    _masked(
        "reducer stopped before a commit and woken",
        "the active reducer stands still with the commit about to be written, until the other one has committed",
        partial(active_stopped_at, point="commit unwritten"),
        "its write is refused when it wakes, and it ends or waits",
        both(same_attempt, everybody),
    ),
    _plain(
        "reducers stopped in turn",
        "each of the reducers stands still while it is active, and wakes when the other one is",
        stopped_and_woken_twice,
        "the round is done",
        nothing,
        gated=True,
    ),
)
