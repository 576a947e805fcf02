"""What reducer, combiners and clients say to each other, as values.

Each is one message of one stream; ``transport/codec.py`` turns them into protobuf and back, and nothing else
does. Durations are in seconds, on each role's own monotonic clock: an instant never crosses the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, Generation, InstanceId, SessionId
from fedn_py.protocol.masked.certificates import Chain
from fedn_py.protocol.masked.round_messages import CommitteeBody
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import (
    MaskedTerms,
    MaskedUpload,
    StoredCommittee,
    WordFromClient,
    WordToClient,
    WorkTerms,
)

Metrics = Mapping[str, float]
"""Metric name to value; every value finite."""

Masking = Literal["none", "pet"]
"""How updates are hidden; further schemes join here."""

MetricsRelease = Literal["client", "mean", "none"]
"""How far a site lets its metrics go: by client, inside means only, not at all."""


# ---- the work of a round


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """What one attempt at one round is: sealed when it begins, the same for everybody in it.

    Attributes:
        session_number: counts the sessions of this network, from 1.
        round_number: counts the rounds of the session, from 1.
        attempt: counts the attempts at this round, from 1.
        base_model: the global model that the round trains from.
        parameters: JSON object, handed to the package's entry points as they are.
        update_timeout_s: from a client's task to its update being whole at the combiner.
    """

    session: SessionId
    session_number: int
    round_number: int
    attempt: int
    base_model: Digest
    package: Digest
    parameters: str
    masking: Masking
    update_timeout_s: float


@dataclass(frozen=True, slots=True)
class CellOrder:
    """The reducer asks one combiner for the sum of these clients' updates: its cell of the round.

    Attributes:
        clients: whom to hand the work; nobody else's update is taken.
        updates_wanted: the cell closes when this many updates are in.
        masked: what the reducer signed of it, where the plan's masking is not "none".
        signed: what it signed of it where the masking is "none"; None of a reducer without a credential.
    """

    plan: RoundPlan
    generation: Generation
    clients: tuple[ClientId, ...]
    updates_wanted: int
    masked: MaskedTerms | None = None
    signed: WorkTerms | None = None


@dataclass(frozen=True, slots=True)
class CellCancelled:
    """The reducer no longer wants the answer to an order; nothing of it is reported."""

    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True)
class Contribution:
    """One client's update that is in a sum.

    Attributes:
        samples: the update's weight, at least 1.
        update_sha256: of the update's bytes as uploaded.
    """

    client: ClientId
    samples: int
    update_sha256: Digest


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One client whose update is not in the sum, and why.

    Attributes:
        reason: the name of the fault and a sentence for people.
        log: the last lines that its training printed, empty where the site keeps them to itself.
    """

    client: ClientId
    reason: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class MetricsSummary:
    """Metrics of several clients, ready to be added to those of others.

    Attributes:
        weighted_sums: metric to the sum of value * samples over the clients that gave it.
        weights: metric to the sum of their samples.
        by_client: the values of those clients whose site releases them one by one.
        clients: metric to how many clients gave it.
    """

    weighted_sums: Metrics = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    by_client: Mapping[ClientId, Metrics] = field(default_factory=dict)
    clients: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartialAggregate:
    """A combiner's answer to an order: the weighted sum over its cell and who is in it.

    Attributes:
        sum_object: digest of the weighted sum of the updates, float64[n_parameters] little-endian, stored
            before this is said; None where nobody is included.
        weight: the sum of the included samples.
    """

    generation: Generation
    sum_object: Digest | None
    weight: int
    included: tuple[Contribution, ...]
    excluded: tuple[Exclusion, ...]
    training_metrics: MetricsSummary


@dataclass(frozen=True, slots=True)
class CommitteeFormed:
    """A masked cell has its committee; said before anybody seals anything to it."""

    generation: Generation
    committee: CommitteeBody


@dataclass(frozen=True, slots=True)
class CommitteeStored:
    """The reducer has a cell's committee in the round's document: who lacks it may hear of it now."""

    committee: StoredCommittee


@dataclass(frozen=True, slots=True)
class MaskedPartial:
    """A combiner's answer to a masked order: its sum of masked updates is stored, and who is in it.

    Attributes:
        closed: the combiner's signed CellClosed, which names the stored sum; None where too few are in it.
        included: how many clients are in it.
        training_metrics: by client alone, of the sites that release them so; nobody's samples.
    """

    generation: Generation
    closed: Signed | None
    included: int
    excluded: tuple[Exclusion, ...]
    training_metrics: MetricsSummary


@dataclass(frozen=True, slots=True)
class WordPassedOn:
    """A combiner passes on what a client said to the reducer."""

    client: ClientId
    word: WordFromClient


@dataclass(frozen=True, slots=True)
class WordForClients:
    """The reducer has a combiner pass on what it says to clients.

    Attributes:
        clients: those of them that are attached get it; all that are attached where it is empty.
    """

    clients: tuple[ClientId, ...]
    word: WordToClient


@dataclass(frozen=True, slots=True)
class PolicyNews:
    """The operator's newest policy; combiners and clients get it before any order or task that is made under it."""

    policy: Signed


@dataclass(frozen=True, slots=True)
class CellFailed:
    """The combiner cannot answer an order at all."""

    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True)
class ValidationOrder:
    """The reducer asks a combiner to have its clients validate a committed global model.

    Attributes:
        signed: what the reducer signed of it; None of one without a credential.
    """

    generation: Generation
    session: SessionId
    round_number: int
    model: Digest
    package: Digest
    parameters: str
    timeout_s: float
    clients: tuple[ClientId, ...]
    signed: WorkTerms | None = None


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """A combiner's answer to a validation order.

    Attributes:
        validated: how many clients gave metrics.
        samples: over how many samples in all.
    """

    generation: Generation
    validated: int
    samples: int
    metrics: MetricsSummary
    excluded: tuple[Exclusion, ...]


MOST_CLIENTS_TOLD = 256
"""One by one, in each word of how far a cell is."""

ClientState = Literal["training", "uploading", "checking", "validating", "in", "out"]
"""uploading: its masked update is on its way; checking: an update is whole and being added."""


@dataclass(frozen=True, slots=True)
class ClientProgress:
    """Where one client of a cell is; ``reason`` says why one is out."""

    client: ClientId
    state: ClientState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RoundProgress:
    """A combiner tells how far its cell is, for those who watch.

    Attributes:
        phase: "preparing", "committee", "collecting", "reporting" or "validating".
        included, training, excluded: counts of clients.
        clients: each of them, in a cell of at most MOST_CLIENTS_TOLD; nobody of a larger one.
    """

    generation: Generation
    phase: str
    included: int
    training: int
    excluded: int
    clients: tuple[ClientProgress, ...] = ()


@dataclass(frozen=True, slots=True)
class RoundCommitted:
    """A round has made a new global model; updates kept for it can go."""

    session: SessionId
    round_number: int
    model: Digest


# ---- reducer and combiner: who is there


@dataclass(frozen=True, slots=True)
class CombinerHello:
    """A combiner's first word on its stream.

    Attributes:
        address: host:port at which its clients reach it.
        max_clients: how many it takes.
        software: its fedn_py version.
        certificate: its ServerCert, by the operator; None where it runs no masked cells.
    """

    name: CombinerName
    instance: InstanceId
    address: str
    max_clients: int
    software: str
    certificate: Signed | None = None


@dataclass(frozen=True, slots=True)
class HelloAccepted:
    """The reducer's answer to a hello.

    Attributes:
        heartbeat_s: how often the reducer wants to hear from the combiner.
        fence: of the reducer; each one that takes over has a higher one.
    """

    heartbeat_s: float
    fence: int


@dataclass(frozen=True, slots=True)
class CombinerLeaving:
    """The combiner stops by itself: nobody need wait for it to come back."""


@dataclass(frozen=True, slots=True)
class AttachedClients:
    """All clients attached to a combiner now; sent on every change and as its heartbeat."""

    clients: tuple[ClientId, ...]


@dataclass(frozen=True, slots=True)
class ExpectClient:
    """The reducer has assigned a client to this combiner, which lets it in by its ticket.

    Attributes:
        ticket_sha256: of the ticket that the client will show on each call.
        valid_s: how long the ticket is good for.
    """

    client: ClientId
    name: ClientName
    ticket_sha256: str
    valid_s: float


@dataclass(frozen=True, slots=True)
class DismissClient:
    """A client may no longer be here: revoked, moved, or its token has expired."""

    client: ClientId
    reason: str


# ---- reducer and client


@dataclass(frozen=True, slots=True)
class AssignRequest:
    """A client asks which combiner to attach to.

    Attributes:
        preferred_combiner: empty for the least loaded one.
        chain: what makes it a registered client; None for one that has no join credential.
    """

    client: ClientId
    name: ClientName
    preferred_combiner: str
    software: str
    chain: Chain | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a client attaches, and by what right.

    Attributes:
        address: host:port of the combiner.
        authority_pem: certificate authority that the combiner's certificate is checked against.
        ticket: the secret that lets this client in there, for valid_s seconds.
    """

    combiner: CombinerName
    address: str
    authority_pem: bytes
    ticket: str
    valid_s: float


# ---- combiner and client


@dataclass(frozen=True, slots=True)
class ClientHello:
    """A client's first word on its stream; ``chain`` as in its AssignRequest."""

    client: ClientId
    name: ClientName
    software: str
    chain: Chain | None = None


@dataclass(frozen=True, slots=True)
class ClientWelcome:
    """The combiner's answer: attached, and how often it wants to hear a heartbeat."""

    combiner: CombinerName
    heartbeat_s: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Still here."""


@dataclass(frozen=True, slots=True)
class TurnCame:
    """What the combiner has put off because too many waited may come now."""


@dataclass(frozen=True, slots=True)
class TrainTask:
    """Train from the plan's base model and upload the update under this generation.

    Attributes:
        masked, signed: as in the CellOrder.
    """

    plan: RoundPlan
    generation: Generation
    masked: MaskedTerms | None = None
    signed: WorkTerms | None = None


@dataclass(frozen=True, slots=True)
class ValidateTask:
    """Validate this model and report its metrics."""

    order: ValidationOrder


@dataclass(frozen=True, slots=True)
class TaskCancelled:
    """Stop working for this generation; nothing of it is wanted any more."""

    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A client could not do a task.

    Attributes:
        log: the last lines that the entry point printed, where the site lets them go.
    """

    generation: Generation
    reason: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """A client's metrics of a model, as far as its site releases them."""

    generation: Generation
    samples: int
    metrics: Metrics
    release: MetricsRelease


@dataclass(frozen=True, slots=True)
class SaidToClient:
    """A word of a masked round for this client."""

    word: WordToClient


@dataclass(frozen=True, slots=True)
class SaidByClient:
    """A word of a masked round by this client."""

    word: WordFromClient


@dataclass(frozen=True, slots=True)
class GoElsewhere:
    """The combiner asks a client to leave and to be assigned anew."""

    reason: str


# ---- bulk transfer


@dataclass(frozen=True, slots=True)
class UpdateHeader:
    """What a client says of its update before the bytes.

    Attributes:
        upload_id: random hex; a repeated upload of the same bytes keeps it, other bytes have another.
        size: bytes to come.
        sha256: of those bytes.
        samples: the update's weight; 0 for a masked one, whose weight is masked too.
        metrics: of the training, as far as the site, and the operator's policy, release them.
        masked: header and boxes of a masked update.
    """

    generation: Generation
    upload_id: str
    size: int
    sha256: Digest
    samples: int
    metrics: Metrics
    release: MetricsRelease
    masked: MaskedUpload | None = None


@dataclass(frozen=True, slots=True)
class UpdateReceipt:
    """The combiner's answer to a whole upload: in the sum, or refused and why."""

    accepted: bool
    reason: str = ""


ToCombiner = (
    HelloAccepted
    | CellOrder
    | CellCancelled
    | ValidationOrder
    | RoundCommitted
    | ExpectClient
    | DismissClient
    | WordForClients
    | PolicyNews
    | Heartbeat
    | CommitteeStored
)
FromCombiner = (
    CombinerHello
    | AttachedClients
    | PartialAggregate
    | CellFailed
    | ValidationReport
    | RoundProgress
    | CommitteeFormed
    | MaskedPartial
    | WordPassedOn
    | CombinerLeaving
)
ToClient = (
    ClientWelcome
    | TrainTask
    | ValidateTask
    | TaskCancelled
    | RoundCommitted
    | GoElsewhere
    | Heartbeat
    | TurnCame
    | SaidToClient
    | PolicyNews
)
FromClient = ClientHello | Heartbeat | TaskFailed | ValidationResult | SaidByClient
