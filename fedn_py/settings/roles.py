"""The settings of each role: one frozen model per process, read once at its start.

Every key stands in ``config/<role>.yaml`` too, with its default and unit; a test keeps the two the same. A field
``x_file`` beside a field ``x`` names a file that holds the secret ``x``.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from fedn_py.settings.fields import (
    DialAddress,
    DialAddresses,
    Digests,
    ExistingFile,
    ExistingPath,
    HttpUrl,
    ListenAddress,
    Location,
    Name,
    Section,
    is_loopback,
)

MIB = 1024 * 1024
GIB = 1024 * MIB


class LoggingSettings(Section):
    """How a process logs, to its standard error."""

    format: Literal["console", "json"] = Field(default="console", description="console for people, json for machines")
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least severe level shown"
    )


class CertificateSettings(Section):
    """The certificate that a server shows."""

    certificate_file: ExistingFile = Field(description="PEM, this server's certificate and any intermediates")
    key_file: ExistingFile = Field(description="PEM, its private key")


class ReducerCertificateSettings(CertificateSettings):
    """The reducer's certificate, and the authority that it hands to clients for its combiners."""

    authority_file: ExistingFile = Field(description="PEM, the authority that combiners' certificates come from")


class MongoDBSettings(Section):
    """Where documents are kept; without this section, in SQLite under state_dir."""

    uri: SecretStr = Field(description="mongodb:// connection string")
    uri_file: ExistingFile | None = Field(default=None, description="file that holds uri")
    database: str = Field(default="fedn_py", min_length=1, max_length=63, description="name of the database")


class MinIOSettings(Section):
    """Where objects are kept, any S3 endpoint; without this section, in a folder under state_dir."""

    url: HttpUrl = Field(description="http:// or https:// endpoint")
    access_key: str = Field(min_length=1, description="access key")
    access_key_file: ExistingFile | None = Field(default=None, description="file that holds access_key")
    secret_key: SecretStr = Field(description="secret key")
    secret_key_file: ExistingFile | None = Field(default=None, description="file that holds secret_key")
    bucket: str = Field(default="fedn-py", min_length=3, max_length=63, description="bucket, made if absent")
    ca_file: ExistingFile | None = Field(
        default=None, description="PEM, authority of the endpoint; the system's if absent"
    )


class LimitSettings(Section):
    """The largest things that the reducer takes."""

    max_model_bytes: int = Field(default=64 * GIB, gt=0, description="bytes of one model")
    max_package_bytes: int = Field(default=1 * GIB, gt=0, description="bytes of one compute package")
    max_json_bytes: int = Field(default=1 * MIB, ge=1024, description="bytes of one JSON body of the REST API")


class MaskingSettings(Section):
    """What a reducer needs for masked rounds; without this section it runs plain ones only."""

    credential_file: ExistingFile = Field(description="what fedn-py operator certify reducer wrote")
    policy_file: ExistingFile = Field(description="what fedn-py operator policy wrote")
    state_key_file: Location | None = Field(
        default=None,
        description="key that attempts are sealed with, made if absent; the same on all reducers of a network; "
        "absent: state.key in state_dir",
    )


class SweepSettings(Section):
    """How the reducer removes objects that no document names."""

    every_s: float = Field(default=3_600.0, gt=0, description="seconds between two sweeps")
    grace_s: float = Field(
        default=86_400.0,
        ge=3_600.0,
        description="seconds that an object stays in any case, at least an hour; longer than any upload takes",
    )


class SpoolSettings(Section):
    """Where a combiner keeps updates while they come in."""

    memory_bytes: int = Field(
        default=4 * MIB,
        ge=4 * MIB,
        description="bytes kept in memory; others wait for it while that is quicker than disk",
    )
    alone_bytes: int = Field(
        default=4 * GIB, ge=0, description="a larger memory for one update while it is the only one there"
    )
    disk_bytes: int = Field(
        default=16 * GIB,
        ge=4 * MIB,
        description="bytes kept on disk; beyond that, uploads wait for two minutes, then come again later",
    )
    receiving: int = Field(
        default=64, ge=1, le=10_000, description="uploads received at once, some 4 MiB of buffers each; others wait"
    )


class ReducerSettings(Section):
    """Settings of ``fedn-py run reducer``."""

    name: Name = Field(default="reducer", description="what people call this reducer")
    deployment: Name = Field(default="production", description="what people call this network")
    listen_web: ListenAddress = Field(default="0.0.0.0:8090", description="host:port of the REST API and pages (HTTPS)")
    listen_grpc: ListenAddress = Field(
        default="0.0.0.0:12070", description="host:port for combiners and clients (gRPC)"
    )
    certificate: ReducerCertificateSettings = Field(description="the certificate of both ports")
    state_dir: Location = Field(default=Path("state/reducer"), description="folder of its state")
    mongodb: MongoDBSettings | None = Field(
        default=None, description="documents in MongoDB; absent: SQLite in state_dir"
    )
    minio: MinIOSettings | None = Field(
        default=None, description="objects in MinIO or S3; absent: a folder in state_dir"
    )
    limits: LimitSettings = Field(default=LimitSettings(), description="the largest things it takes")
    masking: MaskingSettings | None = Field(default=None, description="masked rounds; absent: plain ones only")
    sweep: SweepSettings = Field(default=SweepSettings(), description="objects that no document names")
    heartbeat_s: float = Field(default=10.0, gt=0, le=600, description="seconds between signs of life from combiners")
    sandbox_socket: Location | None = Field(
        default=None,
        description="written by fedn-py sandbox, whose web pages kill and start processes there; refused unless "
        "deployment is sandbox",
    )
    logging: LoggingSettings = Field(default=LoggingSettings(), description="how it logs")

    @field_validator("sandbox_socket")
    @classmethod
    def _is_of_a_sandbox(cls, socket: Path | None, context: ValidationInfo) -> Path | None:
        if socket is not None and context.data.get("deployment") != "sandbox":
            raise ValueError("is for the deployment called sandbox alone: there the pages may do what no reducer can")
        return socket


class CombinerSettings(Section):
    """Settings of ``fedn-py run combiner``."""

    name: Name = Field(description="what people call this combiner, unique in the network")
    listen: ListenAddress = Field(default="0.0.0.0:12080", description="host:port for clients (gRPC)")
    advertise: DialAddress = Field(description="host:port at which clients reach it, as in its certificate")
    reducer: DialAddresses = Field(
        description="host:port of the reducer's gRPC; a list where others stand by for it (in a variable, with commas)"
    )
    authority_file: ExistingFile = Field(description="PEM, the authority of the reducer's certificate")
    certificate: CertificateSettings = Field(description="the certificate it shows to clients")
    token_file: ExistingFile = Field(description="file that holds a token of role combiner")
    masking_credential_file: ExistingFile | None = Field(
        default=None, description="what fedn-py operator certify combiner wrote; absent: plain rounds only"
    )
    state_dir: Location = Field(default=Path("state/combiner"), description="folder of its spool and caches")
    max_clients: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="clients it takes; above 256 a connection costs less memory and more work",
    )
    heartbeat_s: float = Field(default=10.0, gt=0, le=600, description="seconds between signs of life from clients")
    reconnect_grace_s: float = Field(default=30.0, ge=0, le=3600, description="seconds a lost client has to come back")
    spool: SpoolSettings = Field(default=SpoolSettings(), description="where updates wait to be added")
    minio: MinIOSettings | None = Field(default=None, description="objects in MinIO or S3; absent: through the reducer")
    # Before listen_metrics, whose check looks at it.
    metrics_token_file: ExistingFile | None = Field(
        default=None, description="file that holds the token that /metrics takes; absent: none is asked for"
    )
    listen_metrics: ListenAddress | None = Field(
        default=None,
        description="host:port of its metrics and probes (HTTPS), of this host alone without metrics_token_file; "
        "absent: none",
    )
    logging: LoggingSettings = Field(default=LoggingSettings(), description="how it logs")

    @field_validator("listen_metrics")
    @classmethod
    def _metrics_are_guarded(cls, listen: str | None, context: ValidationInfo) -> str | None:
        unguarded = context.data.get("metrics_token_file", "wrong, which is told already") is None
        if listen is not None and unguarded and not is_loopback(listen):
            raise ValueError("lets other hosts read the metrics: set metrics_token_file, or listen on 127.0.0.1")
        return listen


class ClientSettings(Section):
    """Settings of ``fedn-py run client``."""

    name: Name = Field(description="what people call this client, one at a time in the network")
    reducer: DialAddresses = Field(
        description="host:port of the reducer's gRPC; a list where others stand by for it (in a variable, with commas)"
    )
    authority_file: ExistingFile = Field(description="PEM, the authority of the reducer's certificate")
    token_file: ExistingFile = Field(description="file that fedn-py token create --role client wrote")
    state_dir: Location = Field(
        default=Path("state/client"), description="folder of its key, its memory, packages and models"
    )
    data_path: ExistingPath | None = Field(default=None, description="this site's data, handed to the package")
    preferred_combiner: Name | None = Field(default=None, description="combiner to attach to; absent: the least loaded")
    keep_updates: Location | None = Field(
        default=None, description="folder that keeps a copy of each update; absent: none"
    )
    metrics_release: Literal["client", "mean", "none"] = Field(
        default="client", description="metrics leave this site under its name, inside means only, or not at all"
    )
    release_logs: bool = Field(
        default=True,
        description="whether the last lines of a failed entry point leave this site, if the policy lets them too",
    )
    allowed_packages: Digests | None = Field(
        default=None,
        description="digests of the only packages that this site runs; absent: whatever the reducer chooses",
    )
    environments: Literal["own", "build"] = Field(
        default="own",
        description="own: run packages in this Python; build: make the environment that a package asks for",
    )
    train_timeout_s: float = Field(default=86_400.0, gt=0, description="seconds that one training may take at most")
    worker_warm_up: bool = Field(default=True, description="start a package's resident worker before the first task")
    logging: LoggingSettings = Field(default=LoggingSettings(), description="how it logs")


ROLES: dict[str, type[Section]] = {
    "reducer": ReducerSettings,
    "combiner": CombinerSettings,
    "client": ClientSettings,
}
"""Role to its settings."""
