"""Sessions, as people and programs ask for them and see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedn_py.identity import Digest, SessionId
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.messages import Masking
from fedn_py.protocol.reducer_terms import Intent

SessionStatus = Literal["running", "waiting", "paused", "finished", "stopped", "failed"]
"""waiting: running, but without enough clients; failed: a round failed in its last attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What a session shall be; once it has begun, ``SessionChanges`` says what of it can be changed.

    Attributes:
        name: what people call it; empty for one made up.
        clients_wanted: how many clients are drawn for a round; 0 for all that are attached when it begins.
        clients_required: with fewer, a round fails.
        update_timeout_s: from a client's task to its update being whole at the combiner.
        validate: whether clients validate each new global model.
        max_attempts: at one round, before the session fails.
        retry_delay_s: between two attempts.
        gather_timeout_s: how long a round waits for clients_wanted (0: for as many as the last attempt had) to attach
            before it begins with fewer.
        parameters: a JSON object, handed to the package's entry points.
        masking: how updates are hidden: "none", or "pet" where the network has an operator.
        masked: the terms of a session that is not "none".
    """

    package: Digest
    seed_model: Digest
    rounds: int
    name: str = ""
    clients_wanted: int = 0
    clients_required: int = 1
    update_timeout_s: float = 600.0
    validate: bool = True
    validation_timeout_s: float = 120.0
    max_attempts: int = 3
    retry_delay_s: float = 2.0
    gather_timeout_s: float = 10.0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    masking: Masking = "none"
    masked: MaskedOptions = field(default_factory=MaskedOptions)


@dataclass(frozen=True, slots=True)
class SessionView:
    """One training session.

    Attributes:
        number: counts the sessions of this network, from 1.
        rounds_wanted, options: as last changed; an attempt under way keeps the limits it began with.
        reason: why it waits, was stopped or failed; empty otherwise.
        final_model: the newest global model; None before the first round is done.
        intent: what happens when the round under way ends: it goes on ("run"), rests ("pause") or ends ("end", and
            "stop", which gives the round up where it can).
    """

    id: SessionId
    number: int
    name: str
    status: SessionStatus
    rounds_wanted: int
    rounds_done: int
    options: SessionOptions
    reason: str
    created_at: float
    final_model: Digest | None = None
    intent: Intent = "run"
