"""Fields that several messages have, between values and protobuf.

Reading is strict (MalformedMessage names the field). Writing cuts free texts to the length that readers take, so
that no log of a training can make a report unsendable.
"""

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

from fedn_py.identity import ClientId, Digest, Generation, SessionId
from fedn_py.protocol import messages as m
from fedn_py.protocol.masked.encoding import Body
from fedn_py.transport import reading
from fedn_py.wire.v1 import network_pb2 as pb

_MOST_LOGS_CHARS = 512 * 1024
"""What the logs of one report may come to: beyond it they are left out, the reasons stay."""

_RELEASE_TO_WIRE: dict[m.MetricsRelease, pb.MetricsRelease] = {
    "client": pb.METRICS_RELEASE_CLIENT,
    "mean": pb.METRICS_RELEASE_MEAN,
    "none": pb.METRICS_RELEASE_NONE,
}
_RELEASE_FROM_WIRE: dict[int, m.MetricsRelease] = {wire: release for release, wire in _RELEASE_TO_WIRE.items()}

BodyT = TypeVar("BodyT", bound=Body)


def raw_digest(digest: Digest | str) -> bytes:
    """Return a digest's 32 bytes."""
    return bytes.fromhex(digest)


def cut_reason(reason: str) -> str:
    """Return a reason that fits a message: valid text, its beginning where it is too long."""
    return _valid_text(reason)[: reading.MOST_REASON_CHARS]


def cut_log(log: str) -> str:
    """Return a log that fits a message: valid text, its end where it is too long."""
    return _valid_text(log)[-reading.MOST_LOG_CHARS :]


def read_reason(reason: str, field: str) -> str:
    """Read a sentence for people."""
    return reading.text(reason, field, most=reading.MOST_REASON_CHARS)


def read_log(log: str, field: str) -> str:
    """Read captured lines."""
    return reading.text(log, field, most=reading.MOST_LOG_CHARS)


def read_client(client: str, field: str) -> ClientId:
    """Read a client's identity."""
    return ClientId(reading.hex_id(client, field))


def read_clients(clients: Iterable[str], field: str) -> tuple[ClientId, ...]:
    """Read a bounded list of clients."""
    return tuple(read_client(client, field) for client in reading.few(clients, field))


def read_session(session: str, field: str) -> SessionId:
    """Read a session's id."""
    return SessionId(reading.hex_id(session, field))


def read_generation(generation: int, field: str) -> Generation:
    """Read the number of an order; they begin at 1."""
    return Generation(reading.count(generation, field, least=1))


def write_release(release: m.MetricsRelease) -> pb.MetricsRelease:
    """Write how far metrics may go."""
    return _RELEASE_TO_WIRE[release]


def read_release(release: int, field: str) -> m.MetricsRelease:
    """Read how far metrics may go; an unknown rule is no rule, so it is refused."""
    if release not in _RELEASE_FROM_WIRE:
        raise reading.malformed(field, f"is {release}, which is no known release of metrics")
    return _RELEASE_FROM_WIRE[release]


def write_body(body: Body | None) -> bytes | None:
    """Write the body of a masked round, as a field that may be absent."""
    return None if body is None else body.encode()


def read_body(wire: Message, field: str, kind: type[BodyT]) -> BodyT | None:
    """Read the body of a masked round from a field that may be absent; raises the masked MalformedMessage."""
    return kind.decode(getattr(wire, field)) if wire.HasField(field) else None


def write_summary(summary: m.MetricsSummary) -> pb.MetricsSummary:
    """Write metrics of several clients."""
    return pb.MetricsSummary(
        weighted_sums=summary.weighted_sums,
        weights=summary.weights,
        by_client={client: pb.Metrics(values=values) for client, values in summary.by_client.items()},
        clients=summary.clients,
    )


def read_summary(wire: pb.MetricsSummary, field: str) -> m.MetricsSummary:
    """Read metrics of several clients; each weighted sum has its weight."""
    sums = reading.metrics(wire.weighted_sums, f"{field}.weighted_sums")
    if set(sums) != set(wire.weights):
        raise reading.malformed(f"{field}.weights", "names other metrics than weighted_sums")
    if not set(wire.clients) <= set(sums):
        raise reading.malformed(f"{field}.clients", "names other metrics than weighted_sums")
    by_client = reading.few(wire.by_client.items(), f"{field}.by_client")
    return m.MetricsSummary(
        weighted_sums=sums,
        weights={
            metric: reading.count(weight, f"{field}.weights[{metric!r}]") for metric, weight in wire.weights.items()
        },
        by_client={
            read_client(client, f"{field}.by_client"): reading.metrics(metrics.values, f"{field}.by_client[{client!r}]")
            for client, metrics in by_client
        },
        clients={
            metric: reading.count(count, f"{field}.clients[{metric!r}]") for metric, count in wire.clients.items()
        },
    )


def write_exclusions(exclusions: Iterable[m.Exclusion]) -> list[pb.Exclusion]:
    """Write who is not in a sum; of the logs as many as there is room for."""
    written, room = [], _MOST_LOGS_CHARS
    for one in exclusions:
        log = cut_log(one.log)
        log = log if len(log) <= room else ""
        room -= len(log)
        written.append(pb.Exclusion(client=one.client, reason=cut_reason(one.reason), log=log))
    return written


def read_exclusions(wire: Iterable[pb.Exclusion], field: str) -> tuple[m.Exclusion, ...]:
    """Read who is not in a sum."""
    return tuple(
        m.Exclusion(
            client=read_client(one.client, f"{field}.client"),
            reason=read_reason(one.reason, f"{field}.reason"),
            log=read_log(one.log, f"{field}.log"),
        )
        for one in reading.few(wire, field)
    )


def _valid_text(text: str) -> str:
    # Captured output may hold lone surrogates, which are no text on the wire.
    return text.encode("utf-8", "replace").decode("utf-8")
