"""What goes wrong in a run: how big the network is and how often each fault happens, drawn anew for each seed.

A seed that draws every rate at once meets faults together that a fixed mixture never would, and a seed that draws
few of them goes far enough to reach late phases.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from fedn_py.identity import Digest, SessionId
from fedn_py.protocol.reducer_terms import SessionTerms

SEED_MODEL = b"the seed model"
LONGEST_AWAY_S = 40.0

CHANCES = {
    "message repeated": 0.1,
    "request lost": 0.25,
    "answer lost": 0.25,
    "training failed": 0.15,
    "validation failed": 0.1,
    "update unfit": 0.1,
    "objects not fetched": 0.1,
    "partial not stored": 0.1,
    "partial stored very late": 0.1,
    "models not merged": 0.15,
    "crash between effects": 0.01,
    "reducer crashed before a commit": 0.15,
    "reducer crashed between a model and its commit": 0.15,
    "reducer crashed after a commit": 0.15,
    "straggler": 0.1,
    "reducer stopped before a commit": 0.15,
    "documents slow": 0.1,
    "reducer crashed after a write": 0.01,
    "answer of a write lost": 0.15,
    "object store lies": 0.03,
}
"""Faults that meet an action, and how likely each is at most."""

INTERVALS_S = {
    "client stream broken": 15.0,
    "combiner stream broken": 20.0,
    "client crashed": 40.0,
    "combiner crashed": 50.0,
    "combiner cut off": 60.0,
    "reducer crashed": 60.0,
    "reducer stopped and continued": 60.0,
    "standby crashed": 60.0,
    "document store away": 90.0,
    "object store away": 90.0,
    "stray upload": 20.0,
    "pause asked": 150.0,
    "stop asked": 900.0,
}
"""Faults that come by themselves, and the mean seconds between two of them at least."""

WISHES_S = {"stop after the round asked": 900.0, "limits changed": 150.0}
"""What an operator asks for in a few runs, and the mean seconds between two of them at least."""

WISHED_IN = 0.15
"""The part of the runs that each of these wishes comes in."""


@dataclass(frozen=True)
class Sizes:
    """How big a run is and what it is told to do.

    Attributes:
        training_s: how long each client trains.
        max_clients: how many clients a combiner takes.
        combiner_grace_s: how long the reducer waits for a combiner whose stream broke.
        reconnect_grace_s: how long a combiner waits for a client whose stream broke.
        quiet_after_s: from then on nothing goes wrong any more.
        reducers: one acts, the others stand by.
        sweep_grace_s: how old an object is that is swept.
    """

    terms: SessionTerms
    combiners: int = 2
    clients: int = 4
    training_s: tuple[float, ...] = (3.0, 3.0, 3.0, 3.0)
    max_clients: int = 100
    combiner_grace_s: float = 10.0
    reconnect_grace_s: float = 5.0
    quiet_after_s: float = 0.0
    reducers: int = 1
    sweep_grace_s: float = 150.0


def terms(**changed: object) -> SessionTerms:
    """Return the terms of a small session, with what is given changed."""
    plain: dict[str, object] = {
        "session": SessionId("s1"),
        "number": 1,
        "rounds": 2,
        "package": Digest("package"),
        "seed_model": Digest(sha256(SEED_MODEL).hexdigest()),
        "update_timeout_s": 30.0,
        "validation_timeout_s": 20.0,
    }
    return SessionTerms(**{**plain, **changed})  # type: ignore[arg-type]


def draw_sizes(rng: Random) -> Sizes:
    """Draw how big a run is."""
    clients = rng.randint(2, 6)
    combiners = rng.randint(1, 3)
    required = rng.randint(1, clients)
    drawn = terms(
        rounds=rng.randint(1, 12),
        clients_wanted=rng.choice([0, rng.randint(required, clients)]),
        clients_required=required,
        update_timeout_s=rng.uniform(20, 60),
        validate=rng.random() < 0.8,
        max_attempts=rng.choice([0, 2, 2, 3]),
        retry_delay_s=rng.uniform(0, 4),
        gather_timeout_s=rng.uniform(0, 10),
    )
    return Sizes(
        terms=drawn,
        combiners=combiners,
        clients=clients,
        training_s=tuple(rng.uniform(0.5, 12) for _ in range(clients)),
        max_clients=rng.choice([clients, -(-clients // combiners)]),
        combiner_grace_s=rng.uniform(1, 20),
        reconnect_grace_s=rng.uniform(1, 8),
        quiet_after_s=rng.uniform(200, 1500),
        reducers=rng.choice([1, 2, 2]),
    )


@dataclass
class Chaos:
    """Says what goes wrong, and counts it.

    Attributes:
        chances: by fault, how likely it is at each occasion.
        intervals_s: by fault, the mean seconds between two of them; without one it never comes.
        sometimes: what has happened, and how often.
        quiet: nothing goes wrong any more.
        told: hears of what has happened.
        clocks: each process has a clock of its own, up to two days off and up to 10 % too fast or too slow.
    """

    rng: Random
    chances: dict[str, float] = field(default_factory=dict)
    intervals_s: dict[str, float] = field(default_factory=dict)
    sometimes: Counter[str] = field(default_factory=Counter)
    latest_s: float = 0.5
    slow_notice: float = 0.0
    quiet: bool = False
    clocks: bool = False
    told: Callable[[str], None] = lambda what: None

    @classmethod
    def draw(cls, rng: Random) -> "Chaos":
        """Draw a mixture of faults: each is off, rare or frequent."""
        chances = {fault: most * rng.choice([0, 0, 0.3, 1]) for fault, most in CHANCES.items()}
        intervals = {
            fault: least_s / rng.uniform(0.1, 1) for fault, least_s in INTERVALS_S.items() if rng.random() < 0.5
        }
        own = Random(repr(rng.getstate()))  # runs without a wish are what they are without wishes
        wished = [fault for fault in WISHES_S if own.random() < WISHED_IN]
        intervals |= {fault: WISHES_S[fault] / own.uniform(0.1, 1) for fault in wished}
        return cls(
            rng, chances, intervals, latest_s=rng.choice([0.05, 0.5, 3]), slow_notice=rng.choice([0, 0.3]), clocks=True
        )

    def noticed(self, what: str) -> None:
        """Count something that must happen now and then for a swarm to be worth its name."""
        self.sometimes[what] += 1
        self.told(what)

    def happens(self, fault: str) -> bool:
        """Tell whether this fault meets the action at hand."""
        chance = self.chances.get(fault, 0.0)
        if self.quiet or not chance or self.rng.random() >= chance:
            return False
        self.noticed(fault)
        return True

    def uniform(self, least: float, most: float) -> float:
        """Draw a number."""
        return self.rng.uniform(least, most)

    def latency_s(self) -> float:
        """Draw how long a message takes."""
        return self.rng.uniform(0.001, 0.05 if self.quiet else self.latest_s)

    def notice_s(self) -> float:
        """Draw how long an end of a broken stream takes to notice it."""
        return self.rng.uniform(1, 25) if self.rng.random() < self.slow_notice else self.rng.uniform(0, 1)

    def store_s(self) -> float:
        """Draw how long half a call of a store takes."""
        return self.rng.uniform(0.001, 0.01)

    @property
    def longest_store_s(self) -> float:
        """How long a reducer may wait for the stores in one phase."""
        slow = ("documents slow", "answer of a write lost", "document store away", "object store away")
        return 3 * LONGEST_AWAY_S if any(self.chances.get(f) or self.intervals_s.get(f) for f in slow) else 0.5

    def clock_of(self, node: object) -> tuple[float, float]:
        """Draw how fast a process's clock is, and how far off."""
        if not self.clocks:
            return 1.0, 0.0
        return self.rng.choice([1.0, self.rng.uniform(0.9, 1.1)]), self.rng.uniform(-172_800, 172_800)

    def backoff_s(self) -> float:
        """Draw how long a node waits before it dials again."""
        return self.rng.uniform(0.1, 3)
