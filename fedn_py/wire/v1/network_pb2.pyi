from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Masking(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MASKING_UNSPECIFIED: _ClassVar[Masking]
    MASKING_NONE: _ClassVar[Masking]
    MASKING_PET: _ClassVar[Masking]

class MetricsRelease(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRICS_RELEASE_UNSPECIFIED: _ClassVar[MetricsRelease]
    METRICS_RELEASE_CLIENT: _ClassVar[MetricsRelease]
    METRICS_RELEASE_MEAN: _ClassVar[MetricsRelease]
    METRICS_RELEASE_NONE: _ClassVar[MetricsRelease]
MASKING_UNSPECIFIED: Masking
MASKING_NONE: Masking
MASKING_PET: Masking
METRICS_RELEASE_UNSPECIFIED: MetricsRelease
METRICS_RELEASE_CLIENT: MetricsRelease
METRICS_RELEASE_MEAN: MetricsRelease
METRICS_RELEASE_NONE: MetricsRelease

class FromCombiner(_message.Message):
    __slots__ = ("hello", "attached", "partial", "cell_failed", "validation", "progress", "committee", "masked_partial", "passed_on", "leaving")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    CELL_FAILED_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    COMMITTEE_FIELD_NUMBER: _ClassVar[int]
    MASKED_PARTIAL_FIELD_NUMBER: _ClassVar[int]
    PASSED_ON_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    hello: CombinerHello
    attached: AttachedClients
    partial: PartialAggregate
    cell_failed: CellFailed
    validation: ValidationReport
    progress: RoundProgress
    committee: CommitteeFormed
    masked_partial: MaskedPartial
    passed_on: WordPassedOn
    leaving: CombinerLeaving
    def __init__(self, hello: _Optional[_Union[CombinerHello, _Mapping]] = ..., attached: _Optional[_Union[AttachedClients, _Mapping]] = ..., partial: _Optional[_Union[PartialAggregate, _Mapping]] = ..., cell_failed: _Optional[_Union[CellFailed, _Mapping]] = ..., validation: _Optional[_Union[ValidationReport, _Mapping]] = ..., progress: _Optional[_Union[RoundProgress, _Mapping]] = ..., committee: _Optional[_Union[CommitteeFormed, _Mapping]] = ..., masked_partial: _Optional[_Union[MaskedPartial, _Mapping]] = ..., passed_on: _Optional[_Union[WordPassedOn, _Mapping]] = ..., leaving: _Optional[_Union[CombinerLeaving, _Mapping]] = ...) -> None: ...

class ToCombiner(_message.Message):
    __slots__ = ("accepted", "order", "cancelled", "validation", "committed", "expect", "dismiss", "for_clients", "policy", "heartbeat", "committee_stored")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    EXPECT_FIELD_NUMBER: _ClassVar[int]
    DISMISS_FIELD_NUMBER: _ClassVar[int]
    FOR_CLIENTS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    COMMITTEE_STORED_FIELD_NUMBER: _ClassVar[int]
    accepted: HelloAccepted
    order: CellOrder
    cancelled: CellCancelled
    validation: ValidationOrder
    committed: RoundCommitted
    expect: ExpectClient
    dismiss: DismissClient
    for_clients: WordForClients
    policy: PolicyNews
    heartbeat: Heartbeat
    committee_stored: CommitteeStored
    def __init__(self, accepted: _Optional[_Union[HelloAccepted, _Mapping]] = ..., order: _Optional[_Union[CellOrder, _Mapping]] = ..., cancelled: _Optional[_Union[CellCancelled, _Mapping]] = ..., validation: _Optional[_Union[ValidationOrder, _Mapping]] = ..., committed: _Optional[_Union[RoundCommitted, _Mapping]] = ..., expect: _Optional[_Union[ExpectClient, _Mapping]] = ..., dismiss: _Optional[_Union[DismissClient, _Mapping]] = ..., for_clients: _Optional[_Union[WordForClients, _Mapping]] = ..., policy: _Optional[_Union[PolicyNews, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., committee_stored: _Optional[_Union[CommitteeStored, _Mapping]] = ...) -> None: ...

class FromClient(_message.Message):
    __slots__ = ("hello", "heartbeat", "failed", "validation", "word")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    hello: ClientHello
    heartbeat: Heartbeat
    failed: TaskFailed
    validation: ValidationResult
    word: Word
    def __init__(self, hello: _Optional[_Union[ClientHello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., failed: _Optional[_Union[TaskFailed, _Mapping]] = ..., validation: _Optional[_Union[ValidationResult, _Mapping]] = ..., word: _Optional[_Union[Word, _Mapping]] = ...) -> None: ...

class ToClient(_message.Message):
    __slots__ = ("welcome", "train", "validate", "cancelled", "committed", "go_elsewhere", "heartbeat", "word", "policy", "turn_came")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    GO_ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    TURN_CAME_FIELD_NUMBER: _ClassVar[int]
    welcome: ClientWelcome
    train: TrainTask
    validate: ValidateTask
    cancelled: TaskCancelled
    committed: RoundCommitted
    go_elsewhere: GoElsewhere
    heartbeat: Heartbeat
    word: Word
    policy: PolicyNews
    turn_came: TurnCame
    def __init__(self, welcome: _Optional[_Union[ClientWelcome, _Mapping]] = ..., train: _Optional[_Union[TrainTask, _Mapping]] = ..., validate: _Optional[_Union[ValidateTask, _Mapping]] = ..., cancelled: _Optional[_Union[TaskCancelled, _Mapping]] = ..., committed: _Optional[_Union[RoundCommitted, _Mapping]] = ..., go_elsewhere: _Optional[_Union[GoElsewhere, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., word: _Optional[_Union[Word, _Mapping]] = ..., policy: _Optional[_Union[PolicyNews, _Mapping]] = ..., turn_came: _Optional[_Union[TurnCame, _Mapping]] = ...) -> None: ...

class RoundPlan(_message.Message):
    __slots__ = ("session", "session_number", "round_number", "attempt", "base_model", "package", "parameters", "masking", "update_timeout_s")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ROUND_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MASKING_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    session: str
    session_number: int
    round_number: int
    attempt: int
    base_model: bytes
    package: bytes
    parameters: str
    masking: Masking
    update_timeout_s: float
    def __init__(self, session: _Optional[str] = ..., session_number: _Optional[int] = ..., round_number: _Optional[int] = ..., attempt: _Optional[int] = ..., base_model: _Optional[bytes] = ..., package: _Optional[bytes] = ..., parameters: _Optional[str] = ..., masking: _Optional[_Union[Masking, str]] = ..., update_timeout_s: _Optional[float] = ...) -> None: ...

class CellOrder(_message.Message):
    __slots__ = ("plan", "generation", "clients", "updates_wanted", "masked", "signed")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    UPDATES_WANTED_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    plan: RoundPlan
    generation: int
    clients: _containers.RepeatedScalarFieldContainer[str]
    updates_wanted: int
    masked: bytes
    signed: bytes
    def __init__(self, plan: _Optional[_Union[RoundPlan, _Mapping]] = ..., generation: _Optional[int] = ..., clients: _Optional[_Iterable[str]] = ..., updates_wanted: _Optional[int] = ..., masked: _Optional[bytes] = ..., signed: _Optional[bytes] = ...) -> None: ...

class CellCancelled(_message.Message):
    __slots__ = ("generation", "reason")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    generation: int
    reason: str
    def __init__(self, generation: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("client", "samples", "update_sha256")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    client: str
    samples: int
    update_sha256: bytes
    def __init__(self, client: _Optional[str] = ..., samples: _Optional[int] = ..., update_sha256: _Optional[bytes] = ...) -> None: ...

class Exclusion(_message.Message):
    __slots__ = ("client", "reason", "log")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    client: str
    reason: str
    log: str
    def __init__(self, client: _Optional[str] = ..., reason: _Optional[str] = ..., log: _Optional[str] = ...) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("values",)
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.ScalarMap[str, float]
    def __init__(self, values: _Optional[_Mapping[str, float]] = ...) -> None: ...

class MetricsSummary(_message.Message):
    __slots__ = ("weighted_sums", "weights", "by_client", "clients")
    class WeightedSumsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ByClientEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Metrics
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Metrics, _Mapping]] = ...) -> None: ...
    class ClientsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    WEIGHTED_SUMS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    BY_CLIENT_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    weighted_sums: _containers.ScalarMap[str, float]
    weights: _containers.ScalarMap[str, int]
    by_client: _containers.MessageMap[str, Metrics]
    clients: _containers.ScalarMap[str, int]
    def __init__(self, weighted_sums: _Optional[_Mapping[str, float]] = ..., weights: _Optional[_Mapping[str, int]] = ..., by_client: _Optional[_Mapping[str, Metrics]] = ..., clients: _Optional[_Mapping[str, int]] = ...) -> None: ...

class PartialAggregate(_message.Message):
    __slots__ = ("generation", "sum_object", "weight", "included", "excluded", "training_metrics")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SUM_OBJECT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    INCLUDED_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    TRAINING_METRICS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    sum_object: bytes
    weight: int
    included: _containers.RepeatedCompositeFieldContainer[Contribution]
    excluded: _containers.RepeatedCompositeFieldContainer[Exclusion]
    training_metrics: MetricsSummary
    def __init__(self, generation: _Optional[int] = ..., sum_object: _Optional[bytes] = ..., weight: _Optional[int] = ..., included: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., excluded: _Optional[_Iterable[_Union[Exclusion, _Mapping]]] = ..., training_metrics: _Optional[_Union[MetricsSummary, _Mapping]] = ...) -> None: ...

class Word(_message.Message):
    __slots__ = ("kind", "body")
    KIND_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    body: bytes
    def __init__(self, kind: _Optional[str] = ..., body: _Optional[bytes] = ...) -> None: ...

class CommitteeFormed(_message.Message):
    __slots__ = ("generation", "committee")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    COMMITTEE_FIELD_NUMBER: _ClassVar[int]
    generation: int
    committee: bytes
    def __init__(self, generation: _Optional[int] = ..., committee: _Optional[bytes] = ...) -> None: ...

class CommitteeStored(_message.Message):
    __slots__ = ("committee",)
    COMMITTEE_FIELD_NUMBER: _ClassVar[int]
    committee: bytes
    def __init__(self, committee: _Optional[bytes] = ...) -> None: ...

class MaskedPartial(_message.Message):
    __slots__ = ("generation", "closed", "included", "excluded", "training_metrics")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    INCLUDED_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    TRAINING_METRICS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    closed: bytes
    included: int
    excluded: _containers.RepeatedCompositeFieldContainer[Exclusion]
    training_metrics: MetricsSummary
    def __init__(self, generation: _Optional[int] = ..., closed: _Optional[bytes] = ..., included: _Optional[int] = ..., excluded: _Optional[_Iterable[_Union[Exclusion, _Mapping]]] = ..., training_metrics: _Optional[_Union[MetricsSummary, _Mapping]] = ...) -> None: ...

class WordPassedOn(_message.Message):
    __slots__ = ("client", "word")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    client: str
    word: Word
    def __init__(self, client: _Optional[str] = ..., word: _Optional[_Union[Word, _Mapping]] = ...) -> None: ...

class WordForClients(_message.Message):
    __slots__ = ("clients", "word")
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    clients: _containers.RepeatedScalarFieldContainer[str]
    word: Word
    def __init__(self, clients: _Optional[_Iterable[str]] = ..., word: _Optional[_Union[Word, _Mapping]] = ...) -> None: ...

class PolicyNews(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: bytes
    def __init__(self, policy: _Optional[bytes] = ...) -> None: ...

class CellFailed(_message.Message):
    __slots__ = ("generation", "reason")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    generation: int
    reason: str
    def __init__(self, generation: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ValidationOrder(_message.Message):
    __slots__ = ("generation", "session", "round_number", "model", "package", "parameters", "timeout_s", "clients", "signed")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_NUMBER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    generation: int
    session: str
    round_number: int
    model: bytes
    package: bytes
    parameters: str
    timeout_s: float
    clients: _containers.RepeatedScalarFieldContainer[str]
    signed: bytes
    def __init__(self, generation: _Optional[int] = ..., session: _Optional[str] = ..., round_number: _Optional[int] = ..., model: _Optional[bytes] = ..., package: _Optional[bytes] = ..., parameters: _Optional[str] = ..., timeout_s: _Optional[float] = ..., clients: _Optional[_Iterable[str]] = ..., signed: _Optional[bytes] = ...) -> None: ...

class ValidationReport(_message.Message):
    __slots__ = ("generation", "validated", "samples", "metrics", "excluded")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VALIDATED_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    generation: int
    validated: int
    samples: int
    metrics: MetricsSummary
    excluded: _containers.RepeatedCompositeFieldContainer[Exclusion]
    def __init__(self, generation: _Optional[int] = ..., validated: _Optional[int] = ..., samples: _Optional[int] = ..., metrics: _Optional[_Union[MetricsSummary, _Mapping]] = ..., excluded: _Optional[_Iterable[_Union[Exclusion, _Mapping]]] = ...) -> None: ...

class ClientProgress(_message.Message):
    __slots__ = ("client", "state", "reason")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    client: str
    state: str
    reason: str
    def __init__(self, client: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RoundProgress(_message.Message):
    __slots__ = ("generation", "phase", "included", "training", "excluded", "clients")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    INCLUDED_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    phase: str
    included: int
    training: int
    excluded: int
    clients: _containers.RepeatedCompositeFieldContainer[ClientProgress]
    def __init__(self, generation: _Optional[int] = ..., phase: _Optional[str] = ..., included: _Optional[int] = ..., training: _Optional[int] = ..., excluded: _Optional[int] = ..., clients: _Optional[_Iterable[_Union[ClientProgress, _Mapping]]] = ...) -> None: ...

class RoundCommitted(_message.Message):
    __slots__ = ("session", "round_number", "model")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_NUMBER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    session: str
    round_number: int
    model: bytes
    def __init__(self, session: _Optional[str] = ..., round_number: _Optional[int] = ..., model: _Optional[bytes] = ...) -> None: ...

class CombinerHello(_message.Message):
    __slots__ = ("name", "instance", "address", "max_clients", "software", "certificate")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MAX_CLIENTS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    instance: str
    address: str
    max_clients: int
    software: str
    certificate: bytes
    def __init__(self, name: _Optional[str] = ..., instance: _Optional[str] = ..., address: _Optional[str] = ..., max_clients: _Optional[int] = ..., software: _Optional[str] = ..., certificate: _Optional[bytes] = ...) -> None: ...

class HelloAccepted(_message.Message):
    __slots__ = ("heartbeat_s", "fence")
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    heartbeat_s: float
    fence: int
    def __init__(self, heartbeat_s: _Optional[float] = ..., fence: _Optional[int] = ...) -> None: ...

class CombinerLeaving(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AttachedClients(_message.Message):
    __slots__ = ("clients",)
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    clients: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, clients: _Optional[_Iterable[str]] = ...) -> None: ...

class ExpectClient(_message.Message):
    __slots__ = ("client", "name", "ticket_sha256", "valid_s")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TICKET_SHA256_FIELD_NUMBER: _ClassVar[int]
    VALID_S_FIELD_NUMBER: _ClassVar[int]
    client: str
    name: str
    ticket_sha256: bytes
    valid_s: float
    def __init__(self, client: _Optional[str] = ..., name: _Optional[str] = ..., ticket_sha256: _Optional[bytes] = ..., valid_s: _Optional[float] = ...) -> None: ...

class DismissClient(_message.Message):
    __slots__ = ("client", "reason")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    client: str
    reason: str
    def __init__(self, client: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class AssignRequest(_message.Message):
    __slots__ = ("client", "name", "preferred_combiner", "software", "chain")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREFERRED_COMBINER_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    client: str
    name: str
    preferred_combiner: str
    software: str
    chain: bytes
    def __init__(self, client: _Optional[str] = ..., name: _Optional[str] = ..., preferred_combiner: _Optional[str] = ..., software: _Optional[str] = ..., chain: _Optional[bytes] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("combiner", "address", "authority_pem", "ticket", "valid_s")
    COMBINER_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_PEM_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    VALID_S_FIELD_NUMBER: _ClassVar[int]
    combiner: str
    address: str
    authority_pem: bytes
    ticket: str
    valid_s: float
    def __init__(self, combiner: _Optional[str] = ..., address: _Optional[str] = ..., authority_pem: _Optional[bytes] = ..., ticket: _Optional[str] = ..., valid_s: _Optional[float] = ...) -> None: ...

class ClientHello(_message.Message):
    __slots__ = ("client", "name", "software", "chain")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    client: str
    name: str
    software: str
    chain: bytes
    def __init__(self, client: _Optional[str] = ..., name: _Optional[str] = ..., software: _Optional[str] = ..., chain: _Optional[bytes] = ...) -> None: ...

class ClientWelcome(_message.Message):
    __slots__ = ("combiner", "heartbeat_s")
    COMBINER_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    combiner: str
    heartbeat_s: float
    def __init__(self, combiner: _Optional[str] = ..., heartbeat_s: _Optional[float] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TurnCame(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TrainTask(_message.Message):
    __slots__ = ("plan", "generation", "masked", "signed")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    plan: RoundPlan
    generation: int
    masked: bytes
    signed: bytes
    def __init__(self, plan: _Optional[_Union[RoundPlan, _Mapping]] = ..., generation: _Optional[int] = ..., masked: _Optional[bytes] = ..., signed: _Optional[bytes] = ...) -> None: ...

class ValidateTask(_message.Message):
    __slots__ = ("order",)
    ORDER_FIELD_NUMBER: _ClassVar[int]
    order: ValidationOrder
    def __init__(self, order: _Optional[_Union[ValidationOrder, _Mapping]] = ...) -> None: ...

class TaskCancelled(_message.Message):
    __slots__ = ("generation", "reason")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    generation: int
    reason: str
    def __init__(self, generation: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class TaskFailed(_message.Message):
    __slots__ = ("generation", "reason", "log")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    generation: int
    reason: str
    log: str
    def __init__(self, generation: _Optional[int] = ..., reason: _Optional[str] = ..., log: _Optional[str] = ...) -> None: ...

class ValidationResult(_message.Message):
    __slots__ = ("generation", "samples", "metrics", "release")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    generation: int
    samples: int
    metrics: Metrics
    release: MetricsRelease
    def __init__(self, generation: _Optional[int] = ..., samples: _Optional[int] = ..., metrics: _Optional[_Union[Metrics, _Mapping]] = ..., release: _Optional[_Union[MetricsRelease, str]] = ...) -> None: ...

class GoElsewhere(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class UpdateHeader(_message.Message):
    __slots__ = ("generation", "upload_id", "size", "sha256", "samples", "metrics", "release", "masked")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    generation: int
    upload_id: str
    size: int
    sha256: bytes
    samples: int
    metrics: Metrics
    release: MetricsRelease
    masked: bytes
    def __init__(self, generation: _Optional[int] = ..., upload_id: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ..., samples: _Optional[int] = ..., metrics: _Optional[_Union[Metrics, _Mapping]] = ..., release: _Optional[_Union[MetricsRelease, str]] = ..., masked: _Optional[bytes] = ...) -> None: ...

class UpdateStart(_message.Message):
    __slots__ = ("header", "offset")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    header: UpdateHeader
    offset: int
    def __init__(self, header: _Optional[_Union[UpdateHeader, _Mapping]] = ..., offset: _Optional[int] = ...) -> None: ...

class UpdatePart(_message.Message):
    __slots__ = ("start", "chunk")
    START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    start: UpdateStart
    chunk: bytes
    def __init__(self, start: _Optional[_Union[UpdateStart, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UpdateReceipt(_message.Message):
    __slots__ = ("accepted", "reason")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    reason: str
    def __init__(self, accepted: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...
