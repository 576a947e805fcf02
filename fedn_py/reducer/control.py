"""What people and programs can ask of a reducer: the interface behind REST, and the values it answers with.

Instants are seconds since 1970 in UTC, durations are in seconds. A list that can grow comes in pages: ask again with
the page's ``next`` as ``after`` until ``next`` is None.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, SessionId, TokenId
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.messages import Masking
from fedn_py.protocol.reducer_terms import Intent
from fedn_py.reducer.privacy_words import PrivacyView
from fedn_py.reducer.session_limits import SessionChanges
from fedn_py.reducer.shown_contents import PackageFileView, TensorView
from fedn_py.reducer.shown_measurements import ValidationView

Role = Literal["admin", "viewer", "combiner", "client"]
"""What a token is for: admin may all, viewer may look, combiner and client may join."""

SessionStatus = Literal["running", "waiting", "paused", "finished", "stopped", "failed"]
"""waiting: running, but without enough clients; failed: a round failed in its last attempt."""

Severity = Literal["info", "warning", "error"]

Item = TypeVar("Item")


class Unknown(PeerFault):
    """What was asked for is not here."""

    def __init__(self, kind: str, name: object, remedy: str = "") -> None:
        super().__init__(f"there is no {kind} {name}", remedy=remedy)


class UnknownSession(Unknown):
    """No session has this id."""

    def __init__(self, session: object) -> None:
        super().__init__("session", session, "List them: fedn-py session list.")


class UnknownRound(Unknown):
    """The session has no round of this number."""

    def __init__(self, session: object, number: int) -> None:
        super().__init__("round", f"{number} of session {session}", "List them: fedn-py round list.")


class UnknownModel(Unknown):
    """No model has this digest."""

    def __init__(self, digest: object) -> None:
        super().__init__("model", digest, "List them: fedn-py model list.")


class UnknownPackage(Unknown):
    """No compute package has this digest."""

    def __init__(self, digest: object) -> None:
        super().__init__("package", digest, "List them: fedn-py package list.")


class UnknownObject(Unknown):
    """No model and no package has this digest."""

    def __init__(self, digest: object) -> None:
        super().__init__("model or package", digest, "List them: fedn-py model list, fedn-py package list.")


class UnknownClient(Unknown):
    """No client has this id."""

    def __init__(self, client: object) -> None:
        super().__init__("client", client, "List them: fedn-py client list.")


class UnknownEvent(Unknown):
    """No event has this number, or it is not stored yet."""

    def __init__(self, seq: int) -> None:
        super().__init__("event", seq, "List them: fedn-py event list.")


class UnknownToken(Unknown):
    """No token has this id."""

    def __init__(self, token: object) -> None:
        super().__init__("token", token, "List them: fedn-py token list.")


class Conflict(PeerFault):
    """The request does not fit the state that things are in now."""


class SessionUnderWay(Conflict):
    """Only one session runs at a time, and one does."""

    def __init__(self, session: object) -> None:
        super().__init__(
            f"session {session} is under way",
            remedy=f"Wait for it, or stop it first: fedn-py session stop {session}.",
        )


class WrongSessionStatus(Conflict):
    """A session cannot be paused, resumed, changed or stopped in the status it has."""

    def __init__(self, session: object, status: str, wanted: str) -> None:
        super().__init__(f"session {session} is {status} and cannot be {wanted}", remedy="See fedn-py session show.")


class NotAuthenticated(PeerFault):
    """The caller showed no token, or one that is unknown, expired or revoked."""


class NotAllowed(PeerFault):
    """The caller's token does not carry the right to do this."""


class NotActive(PeerFault):
    """This reducer is not the active one, so it answers nothing but its probes."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            reason,
            remedy="Ask the active reducer. This one takes over by itself when that one ends; fedn-py and the probe "
            "/readyz tell when it has.",
        )


class TooLarge(PeerFault):
    """An upload or a request is larger than the reducer takes."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as their token says."""

    token: TokenId
    role: Role
    label: str


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list.

    Attributes:
        next: give it as ``after`` to get the next page; None at the end.
    """

    items: tuple[Item, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class StoreView:
    """One store and whether it works.

    Attributes:
        keeps: "documents" or "objects".
        kind: such as "SQLite", "MongoDB", "folder", "MinIO".
        detail: what is wrong, empty when healthy.
    """

    keeps: str
    kind: str
    healthy: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StatusView:
    """The reducer and what it does now.

    Attributes:
        phase: of the round under way, such as "collecting"; "idle" without one.
        phase_since: when it began, as far as this process knows.
        phase_deadline: when it ends at the latest; None where nothing is waited for, or nobody can say.
        waiting: why nothing goes on, in words; empty when it does.
        active_session, round_number: None without one.
        clients, combiners: connected now.
        started_at: when this process began.
        masks: an operator has certified this reducer, so that it can run masked rounds.
        restored: what was lost when the stores were set back to an older state, and what to do, until a session has
            begun since; empty when they never were.
    """

    reducer: str
    deployment: str
    software: str
    stores: tuple[StoreView, ...]
    phase: str
    waiting: str
    active_session: SessionId | None
    round_number: int | None
    clients: int
    combiners: int
    started_at: float
    restored: str = ""
    phase_since: float = 0.0
    phase_deadline: float | None = None
    masks: bool = False


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


@dataclass(frozen=True, slots=True)
class ContributorView:
    """A client whose update is in the global model.

    Attributes:
        samples: None in a masked round, where nobody knows those of a single client.
    """

    name: ClientName
    samples: int | None


@dataclass(frozen=True, slots=True)
class ExcludedView:
    """A client whose update is not in it, why, and what its training printed last."""

    name: ClientName
    reason: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class CombinerProgressView:
    """How far one combiner is in the round under way; counts are of clients."""

    combiner: CombinerName
    phase: str
    included: int
    training: int
    excluded: int


@dataclass(frozen=True, slots=True)
class AskedView:
    """A client that was asked in the attempt under way, and where it is with it.

    Attributes:
        state: "training", "checking" (its update is here and is being looked at), "in" or "out"; in a validation
            "validating" and "in"; "asked" where its combiner does not tell.
        reason: why it is out; empty otherwise.
    """

    name: ClientName
    combiner: CombinerName
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PhaseView:
    """A phase of a round's last attempt.

    Attributes:
        seconds: how long it took, or has taken so far.
    """

    phase: str
    started_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class SumParticipantView:
    """A client that held a part of the masks of a cell: a member of its committee.

    Attributes:
        slot, replica: one replica of every slot has to answer for the sum to be opened.
        answered: its answer came.
    """

    name: ClientName
    slot: int
    replica: int
    answered: bool


@dataclass(frozen=True, slots=True)
class MaskedCellView:
    """One combiner's sum in a masked round.

    Attributes:
        included: how many clients are in it.
        members: its sum participants, by slot and replica.
        opened: it passed all checks and is in the model.
        reason: why it is left out; empty while it is not.
    """

    combiner: CombinerName
    included: int
    members: tuple[SumParticipantView, ...]
    opened: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RoundMaskingView:
    """How a round's updates were hidden.

    Attributes:
        scheme: "pet".
        k, r, g_min: slots, replicas of each, fewest clients of an opened sum; the smallest of any cell.
        reopen: "strict" or "reducer": who can release the clients of a sum that was never opened.
        cells: by combiner.
    """

    scheme: Masking
    k: int
    r: int
    g_min: int
    reopen: str
    cells: tuple[MaskedCellView, ...]


@dataclass(frozen=True, slots=True)
class RoundView:
    """One round, in its last attempt.

    Attributes:
        status: "running", "done" or "failed".
        seconds: how long it took, or has taken so far.
        reason: why it failed, empty otherwise.
        samples: over all clients in the model.
        metrics: of the validation, means weighted by samples.
        metrics_hidden: those of the validation whose mean is not shown, and why.
        metrics_by_client: of the sites that release them one by one.
        training_metrics: means weighted by samples.
        model: the new global model, None before it is committed.
        progress, asked: live, empty once the round has ended.
        phases: of the last attempt, in order. Where the reducer was started anew in between, the time before counts
            to the phase that it went on with.
        masking: None in a round that is not masked. In one that is, ``samples`` is the sum that came out from under
            the masks, and ``training_metrics`` are the means that did.
    """

    session: SessionId
    number: int
    attempt: int
    phase: str
    status: Literal["running", "done", "failed"]
    started_at: float
    seconds: float
    reason: str = ""
    clients: tuple[ContributorView, ...] = ()
    excluded: tuple[ExcludedView, ...] = ()
    combiners: tuple[CombinerName, ...] = ()
    samples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    metrics_hidden: Mapping[str, str] = field(default_factory=dict)
    metrics_by_client: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    training_metrics: Mapping[str, float] = field(default_factory=dict)
    model: Digest | None = None
    progress: tuple[CombinerProgressView, ...] = ()
    masking: RoundMaskingView | None = None
    asked: tuple[AskedView, ...] = ()
    phases: tuple[PhaseView, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model of the trail.

    Attributes:
        number: the round that made it; 0 for a seed model.
        session, parent, package: None for a seed model.
        size: bytes.
        metrics_hidden: those of the validation whose mean is not shown, and why.
        clients: how many clients' updates are in it, of ``samples`` samples together.
    """

    digest: Digest
    number: int
    session: SessionId | None
    parent: Digest | None
    size: int
    created_at: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0
    metrics_hidden: Mapping[str, str] = field(default_factory=dict)
    clients: int = 0
    package: Digest | None = None


@dataclass(frozen=True, slots=True)
class PackageView:
    """One compute package.

    Attributes:
        size: bytes of the archive.
        files: how many are in it.
        entry_points: name to command.
    """

    digest: Digest
    name: str
    version: str
    size: int
    files: int
    entry_points: Mapping[str, str]
    created_at: float


@dataclass(frozen=True, slots=True)
class VerificationView:
    """How far an object is read, to see whether it is what its name says.

    Attributes:
        done, size: bytes.
        outcome: "reading" until it has ended; "unknown" where the store went away in between.
        fault: what is wrong and what to do, in words; empty while nothing is.
    """

    digest: Digest
    done: int
    size: int
    outcome: Literal["reading", "whole", "missing", "corrupt", "unknown"]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class CombinerView:
    """One combiner; ``clients`` are attached to it now."""

    name: CombinerName
    address: str
    clients: int
    max_clients: int
    connected: bool
    last_seen: float
    software: str = ""


@dataclass(frozen=True, slots=True)
class ClientResultView:
    """What became of a client's update in a round that has ended.

    Attributes:
        number: of the round.
        outcome: whether it is in the round's model; in a failed round there are only those that are not.
        at: when the round ended.
        reason: why it is not in it; empty otherwise.
    """

    session: SessionId
    number: int
    outcome: Literal["included", "excluded"]
    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ClientView:
    """One client.

    Attributes:
        combiner: where it is attached, None when it is not.
        since: when it was first seen.
        revoked: the token that it came by last is worthless, so it cannot come again by that.
        last_result: in the newest rounds; None where it took part in none of those.
    """

    id: ClientId
    name: ClientName
    combiner: CombinerName | None
    connected: bool
    last_seen: float
    since: float
    software: str = ""
    revoked: bool = False
    last_result: ClientResultView | None = None


@dataclass(frozen=True, slots=True)
class EventView:
    """Something that happened.

    Attributes:
        seq: counts the events of this network, from 1.
        kind: such as "client attached" or "round failed".
        subject: what it is about, such as session, round or client.
    """

    seq: int
    time: float
    kind: str
    severity: Severity
    text: str
    subject: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token, without its secret.

    Attributes:
        not_after: when it expires.
        last_used: None when it never was.
    """

    id: TokenId
    role: Role
    label: str
    created: float
    not_after: float
    revoked: bool
    last_used: float | None


class Control(Protocol):
    """Everything that people and programs can ask of a reducer.

    Each method may raise StoreUnavailable; those that take an id raise the Unknown of its kind, and those that change
    something a Conflict when it does not fit.
    """

    async def authenticate(self, bearer: str) -> Caller:
        """Return whose token this is, or raise NotAuthenticated."""
        ...

    async def recognise(self, token: TokenId) -> Caller:
        """Return whose token this is, of which the holder has proved before that it is theirs.

        Raises NotAuthenticated once it is revoked or expired.
        """
        ...

    async def not_ready(self) -> tuple[str, ...]:
        """Return why this reducer cannot work now, nothing where it can."""
        ...

    async def changed(self, after: int) -> int:
        """Wait until the number of changes in the network is another one than ``after``, and return it.

        It begins anew with each start of a reducer; -1 is never one, so it waits for nothing.
        """
        ...

    async def status(self) -> StatusView:
        """Return what the reducer does now."""
        ...

    async def sessions(self, *, after: str = "", limit: int = 100) -> Page[SessionView]:
        """Return sessions, newest first."""
        ...

    async def session(self, session: SessionId) -> SessionView:
        """Return one session."""
        ...

    async def start_session(self, options: SessionOptions) -> SessionView:
        """Begin a session; raises UnknownPackage, UnknownModel, SessionUnderWay."""
        ...

    async def pause_session(self, session: SessionId) -> SessionView:
        """Begin no further round after the one under way."""
        ...

    async def resume_session(self, session: SessionId, *, new_work: bool = False) -> SessionView:
        """Go on with a paused or failed session.

        Args:
            new_work: train anew from the same global model with another seed: the way out of a privacy hold.
        """
        ...

    async def privacy(self, session: SessionId) -> PrivacyView:
        """Return what each party sees in a session, what that rests on and what breaks it."""
        ...

    async def change_session(self, session: SessionId, changes: SessionChanges) -> SessionView:
        """Let other limits hold from the next attempt on; the one under way keeps those it began with.

        Raises:
            InvalidSession, FewerRoundsThanDone, BeyondPolicy: the session cannot have these.
            WrongSessionStatus: it has ended.
        """
        ...

    async def stop_session(self, session: SessionId, *, after_round: bool = False) -> SessionView:
        """End a session for good.

        Args:
            after_round: finish the round under way; otherwise it is given up. Without one the session ends at once.
        """
        ...

    async def rounds(self, session: SessionId, *, after: str = "", limit: int = 100) -> Page[RoundView]:
        """Return a session's rounds, oldest first."""
        ...

    async def round(self, session: SessionId, number: int) -> RoundView:
        """Return one round."""
        ...

    async def validations(self, session: SessionId, *, after: str = "", limit: int = 100) -> Page[ValidationView]:
        """Return what was measured in a session's committed rounds, oldest first."""
        ...

    async def models(self, session: SessionId | None, *, after: str = "", limit: int = 100) -> Page[ModelView]:
        """Return the models of a session (None: of all, and the seed models), newest first."""
        ...

    async def model(self, digest: Digest) -> ModelView:
        """Return what is known of one model."""
        ...

    async def open_model(self, digest: Digest) -> tuple[int, AsyncIterator[bytes]]:
        """Return a model's size in bytes and a stream of them."""
        ...

    async def model_tensors(self, digest: Digest) -> tuple[TensorView, ...]:
        """Return the tensors of a model and what their numbers are like, in the order of their bytes."""
        ...

    async def upload_model(self, chunks: AsyncIterator[bytes]) -> ModelView:
        """Store a seed model; refused unless it is a safetensors file."""
        ...

    async def packages(self, *, after: str = "", limit: int = 100) -> Page[PackageView]:
        """Return compute packages, newest first."""
        ...

    async def package(self, digest: Digest) -> PackageView:
        """Return what is known of one compute package."""
        ...

    async def package_files(self, digest: Digest) -> tuple[PackageFileView, ...]:
        """Return the files of a compute package and their sizes, in the archive's order."""
        ...

    async def upload_package(self, chunks: AsyncIterator[bytes]) -> PackageView:
        """Store a compute package; refused unless it is one that clients can unpack safely."""
        ...

    async def verify_object(self, digest: Digest) -> AsyncIterator[VerificationView]:
        """Read a model's or a package's object to its end, as a stream of how far it is; the last one has ended."""
        ...

    async def combiners(self) -> tuple[CombinerView, ...]:
        """Return all combiners that ever joined, by name."""
        ...

    async def clients(self, *, after: str = "", limit: int = 100) -> Page[ClientView]:
        """Return all clients that ever joined, by name."""
        ...

    async def client(self, client: ClientId) -> ClientView:
        """Return one client; its last result is looked for in more rounds than that of a list."""
        ...

    async def revoke_client(self, client: ClientId) -> ClientView:
        """Make the token worthless that a client came by, and cut off everybody who came by that one.

        Raises UnknownClient, and TokenNotKnown where nobody knows its token.
        """
        ...

    async def events(
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        kind: str = "",
        severity: Severity | None = None,
        text: str = "",
        session: str = "",
        round_number: int | None = None,
        client: str = "",
        combiner: str = "",
    ) -> Page[EventView]:
        """Return events; a search reads a bounded number of them, so a page may hold fewer than there are behind it.

        Args:
            after: those behind this number, oldest first; the page's ``next`` goes on as ``after``.
            before: those below this number, newest first; the page's ``next`` goes on as ``before``. Without either,
                the newest ones come, oldest first, and ``next`` is what follows them as ``after``.
            text: stands somewhere in the text or the kind, in upper or lower case.
            session, round_number, client, combiner: what they are about; clients and combiners by name.
        """
        ...

    async def event(self, seq: int) -> EventView:
        """Return one event; raises UnknownEvent."""
        ...

    async def tokens(self, *, after: str = "", limit: int = 100) -> Page[TokenView]:
        """Return tokens, newest first."""
        ...

    async def create_token(self, role: Role, label: str, valid_s: float) -> tuple[str, TokenView]:
        """Make a token and return its text, which is kept nowhere, and what is known of it."""
        ...

    async def revoke_token(self, token: TokenId) -> TokenView:
        """Make a token worthless from now on."""
        ...
