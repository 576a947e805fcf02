"""What goes wrong in a masked network: how big it is, what its rounds are like, and how often each fault happens."""

from dataclasses import dataclass
from random import Random

from masked_world import a_policy
from simulator.chaos import WISHED_IN, WISHES_S, Chaos

from fedn_py.identity import Digest, SessionId
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.committee import seats_needed
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.reducer_terms import SessionTerms

N_MAX = 64
LARGEST = float(2**30 // N_MAX - 1)
"""The clip at which a step is 1: updates of whole numbers are then summed exactly."""

WEIGHT_CAP = 1_024
SEED_MODEL, PACKAGE = Digest("5e" * 32), Digest("9a" * 32)

CHANCES = {
    "message repeated": 0.1,
    "request lost": 0.15,
    "answer lost": 0.15,
    "training failed": 0.1,
    "box does not open": 0.1,
    "vector damaged": 0.05,
    "stream lost": 0.1,
    "objects not fetched": 0.1,
    "partial not stored": 0.1,
    "partial stored very late": 0.1,
    "models not merged": 0.3,
    "crash between effects": 0.004,
    "documents slow": 0.1,
    "reducer crashed after a write": 0.01,
    "answer of a write lost": 0.1,
    "object store lies": 0.02,
    "reducer stopped before a commit": 0.2,
    "straggler": 0.1,
    "reducer crashed around a plan": 0.15,
    "reducer crashed before opening is stored": 0.35,
    "reducer crashed after opening is stored": 0.35,
    "reducer crashed before its key is unset": 0.35,
    "reducer crashed after its key is unset": 0.35,
    "reducer crashed before a commit": 0.35,
    "reducer crashed after a commit": 0.35,
    "members shown two sets": 0.3,
}
"""Faults that meet an action, and how likely each is at most."""

INTERVALS_S = {
    "client stream broken": 20.0,
    "combiner stream broken": 30.0,
    "client crashed": 60.0,
    "client crashed for long": 150.0,
    "client deaf for a while": 60.0,
    "client set back to a copy": 40.0,
    "client forgets what it sent": 80.0,
    "combiner crashed": 80.0,
    "combiner cut off": 80.0,
    "reducer crashed": 90.0,
    "reducer stopped and continued": 90.0,
    "standby crashed": 150.0,
    "document store away": 150.0,
    "object store away": 150.0,
    "word of the past": 20.0,
    "policy of the past": 60.0,
    "client revoked": 200.0,
    "stop asked": 500.0,
    "pause asked": 250.0,
}
"""Faults that come by themselves, and the mean seconds between two of them at least."""


@dataclass(frozen=True)
class MaskedSizes:
    """How big a run is and what it is told to do.

    Attributes:
        terms: of the first session. sessions: how many there are, each from the same seed model.
        same_work: all of them have the same parameters.
        quiet_after_s: from then on nothing goes wrong any more.
        reducers: one acts, the others stand by.
        sweep_grace_s: how old an object is that is swept.
    """

    terms: SessionTerms
    policy: Policy
    combiners: int
    clients: int
    training_s: tuple[float, ...]
    max_clients: int
    combiner_grace_s: float
    reconnect_grace_s: float
    quiet_after_s: float
    sessions: int = 1
    same_work: bool = False
    reducers: int = 1
    sweep_grace_s: float = 600.0


def terms(**changed: object) -> SessionTerms:
    """Return the terms of a masked session, with what is given changed."""
    masked: dict[str, object] = {
        "session": SessionId("51" * 16),
        "number": 1,
        "package": PACKAGE,
        "seed_model": SEED_MODEL,
        "masking": "pet",
        "update_timeout_s": 30.0,
        "validation_timeout_s": 20.0,
    }
    return SessionTerms(**{**masked, **changed})  # type: ignore[arg-type]


def draw_sizes(rng: Random) -> MaskedSizes:
    """Draw how big a run is."""
    clients = rng.randint(3, 9)
    combiners = 1 if clients < 6 else rng.randint(1, clients // 3)
    k, r = rng.choice([(2, 1), (2, 1), (2, 2), (3, 2), (3, 1)] if clients >= 6 and combiners == 1 else [(2, 1), (2, 2)])
    sessions = rng.choice([1, 1, 2, 3])
    policy = a_policy(
        version=1,
        clip_max=2 * LARGEST,
        reopen=rng.choice(["reducer", "reducer", "strict"]),
        metrics=rng.choice(["sum", "sum", "client"]),
        rework_max=20 if sessions > 1 else rng.choice([0, 3, 20]),
    )
    same_work = rng.random() < 0.4
    required = rng.randint(max(3, seats_needed(k, r)), max(3, seats_needed(k, r), clients - 1))
    drawn = terms(
        rounds=rng.randint(1, 3),
        parameters='{"seed": 7}' if same_work else "{}",
        masked=MaskedOptions(LARGEST, N_MAX, WEIGHT_CAP, 1, k, r, reopen=rng.choice(["", "", "reducer", "strict"])),
        clients_wanted=rng.choice([0, 0, rng.randint(required, clients)]),
        clients_required=required,
        update_timeout_s=rng.uniform(20, 60),
        max_attempts=rng.choice([0, 2, 3]),
        retry_delay_s=rng.uniform(0, 4),
        gather_timeout_s=rng.uniform(0, 10),
        validate=rng.random() < 0.5,
    )
    return MaskedSizes(
        terms=drawn,
        policy=policy,
        combiners=combiners,
        clients=clients,
        training_s=tuple(rng.uniform(0.5, 12) for _ in range(clients)),
        max_clients=clients,
        combiner_grace_s=rng.uniform(1, 20),
        reconnect_grace_s=rng.uniform(1, 8),
        quiet_after_s=rng.uniform(100, 900),
        sessions=sessions,
        same_work=same_work,
        reducers=rng.choice([1, 2, 2]),
    )


def draw_chaos(rng: Random) -> Chaos:
    """Draw a mixture of faults: each is off, rare or frequent."""
    chances = {fault: most * rng.choice([0, 0, 0.3, 1]) for fault, most in CHANCES.items()}
    intervals = {fault: least_s / rng.uniform(0.1, 1) for fault, least_s in INTERVALS_S.items() if rng.random() < 0.4}
    own = Random(repr(rng.getstate()))  # runs without a wish are what they are without wishes
    wished = [fault for fault in WISHES_S if own.random() < WISHED_IN]
    intervals |= {fault: WISHES_S[fault] / own.uniform(0.1, 1) for fault in wished}
    return Chaos(
        rng, chances, intervals, latest_s=rng.choice([0.05, 0.5, 2]), slow_notice=rng.choice([0, 0.3]), clocks=True
    )
