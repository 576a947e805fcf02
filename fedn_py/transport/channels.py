"""Connections: channels that check the server and show a token, servers that let nobody in without one.

Both ends ping often enough to notice a dead peer within half a minute, and the server's limits fit the clients'
pings: a server that finds pings too frequent would close the connection.
"""

import asyncio
import functools
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fedn_py.errors import OwnFault
from fedn_py.transport.authentication import BEARER, Authenticator, DenyByDefault, Role, UnknownToken
from fedn_py.transport.call_ups import CallUps
from fedn_py.transport.certificates import ServerCertificate, read_certificate
from fedn_py.transport.chunks import MOST_MESSAGE_BYTES
from fedn_py.transport.plaintext import (
    plaintext_channel_credentials,
    plaintext_is_on,
    plaintext_server_credentials,
)

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
"""The one method that needs no token: probes of orchestrators have none, and it says nothing but up or not."""

_PING_EVERY_MS = 20_000
_PING_TIMEOUT_MS = 10_000
NOTICED_WITHIN_S = (_PING_EVERY_MS + _PING_TIMEOUT_MS) / 1000
"""A peer that is cut off, or hangs, is noticed by its silence after so long."""

_CONNECT_TIMEOUT_MS = 10_000
_MOST_HEADER_BYTES = 16 * 1024
_MOST_STREAMS_PER_CONNECTION = 64
_READ_BUFFER_BYTES = 12_000
"""What a connection reads into stays with it; left alone it gets as large as its last bursts, a megabyte and more. From
12 KiB on gRPC takes pieces of 64 KiB; below, as many of 8 KiB as are needed: two, which is about a TLS record."""

_WINDOW_BYTES = 4 * 1024 * 1024
"""What a peer may send of a stream before it is read: 40 MB/s at 100 ms. Left alone gRPC takes what the line could
hold, which on a busy machine is tens of MB for each stream."""

_FEW_PEERS = 256
_SMALL_RECORD_BYTES = 4 * 1024
"""What a server of many peers puts into one TLS record. Each connection keeps the pages that its largest took; left
alone that is 16 KiB, of which a large model comes down with some 5 % less work."""

_IDENTITY_ONLY = 1
"""Bit set of compression algorithms: none, so that no small message unpacks into a large one."""

SHARED_OPTIONS = (
    ("grpc.max_send_message_length", MOST_MESSAGE_BYTES + 1024),
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES + 1024),
    ("grpc.max_metadata_size", _MOST_HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", _MOST_HEADER_BYTES),
    ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
    ("grpc.keepalive_time_ms", _PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.experimental.tcp_max_read_buffer_size", _READ_BUFFER_BYTES),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
)

Stub = TypeVar("Stub")


class AddressInUse(OwnFault):
    """A server cannot listen at its address."""


class Channel:
    """A connection to one server; an async context manager.

    Attributes:
        address: host:port.
        grpc: makes the calls of the grpc library, for this package only.
        call_ups: by which the server calls transfers that it has put off.
    """

    def __init__(self, address: str, channel: "grpc.aio.Channel | _TokenShown") -> None:
        self.address = address
        self.grpc = channel
        self.call_ups = CallUps()
        self._stubs: dict[Callable[[Any], Any], Any] = {}

    def stub(self, kind: Callable[[Any], Stub]) -> Stub:
        """Return the calls of a service, which are made once."""
        if kind not in self._stubs:
            self._stubs[kind] = kind(self.grpc)
        stub: Stub = self._stubs[kind]
        return stub

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and every call on it."""
        await self.grpc.close(None)


class _TokenShown:
    """A channel whose every call shows a token.

    As metadata of the call, not as call credentials: for those grpc starts a thread for each call. They would also
    keep the token from a connection without TLS; here, that there is none such rests with ``secure_channel``, the one
    place that makes a channel with a token.
    """

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"{BEARER}{token}"),)

    async def close(self, grace_s: float | None) -> None:
        await self._channel.close(grace_s)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return self._showing(self._channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return self._showing(self._channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return self._showing(self._channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return self._showing(self._channel.stream_stream(*args, **kwargs))

    def _showing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        return functools.partial(call, metadata=self._metadata)


def secure_channel(address: str, authority_pem: bytes, token: str) -> Channel:
    """Return a channel that trusts this authority only and shows the token on every call; it connects when used.

    Args:
        address: host:port.
        token: a token's text or a ticket.

    Raises:
        CertificateProblem: authority_pem is no certificate.
        UnknownToken: the token cannot stand in a header.
    """
    read_certificate(authority_pem, "the certificate authority")
    if not (token and token.isascii() and token.isprintable() and " " not in token):
        raise UnknownToken("what should be shown is no token", remedy="Give the token as one line without spaces.")
    credentials = _channel_credentials(address, authority_pem)
    options = (
        *SHARED_OPTIONS,
        # One connection for each channel: another one to the same server may show another token.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_TIMEOUT_MS),
        ("grpc.initial_reconnect_backoff_ms", 250),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # A proxy that is set for the world outside cannot reach this host's own loopback.
        ("grpc.enable_http_proxy", 0 if is_loopback(address) else 1),
        ("grpc.enable_retries", 0),
    )
    return Channel(address, _TokenShown(grpc.aio.secure_channel(address, credentials, options=options), token))


def _channel_credentials(address: str, authority_pem: bytes) -> grpc.ChannelCredentials:
    if plaintext_is_on():
        return plaintext_channel_credentials(address, loopback=is_loopback(address))
    return grpc.ssl_channel_credentials(root_certificates=authority_pem)


def _server_credentials(address: str, certificate: ServerCertificate) -> grpc.ServerCredentials:
    if plaintext_is_on():
        return plaintext_server_credentials(address, loopback=is_loopback(address))
    return grpc.ssl_server_credentials([(certificate.key_pem, certificate.certificate_pem)])


def is_loopback(address: str) -> bool:
    """Say whether host:port is this very host."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Service(Protocol):
    """What a server serves."""

    @property
    def roles(self) -> Mapping[str, frozenset[Role]]:
        """Full method name to the roles that may call it; every method of the service stands here."""
        ...

    def register(self, server: grpc.aio.Server) -> None:
        """Add the handlers."""
        ...

    async def close(self) -> None:
        """End the long-lived streams, so that a stop need not wait for them."""
        ...


class CallsUnderWay(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """The tasks in which a server's calls are served, as each call passes here first."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any]"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Note the task of a call, in which gRPC runs interceptors and handler alike."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await continuation(handler_call_details)

    async def ended(self) -> None:
        """Wait until what serves the calls has ended; to be called when no new ones come."""
        # A call that came in just before has its task, which takes its first step, the one to here, in this turn.
        await asyncio.sleep(0)
        while self._tasks:
            await asyncio.wait(self._tasks)


class Server:
    """A running server.

    Attributes:
        port: the one it listens on, which matters when 0 was asked for.
        is_serving: whether probes are told that it can do its work.
    """

    def __init__(
        self, port: int, server: grpc.aio.Server, services: Sequence[Service], probe: Any, calls: CallsUnderWay
    ) -> None:
        self.port = port
        self.is_serving = True
        self._server, self._services, self._probe, self._calls = server, services, probe, calls

    async def tell_probes(self, *, serving: bool) -> None:
        """Say to health probes whether this server can do its work; it says so until told otherwise."""
        self.is_serving = serving
        status = health_pb2.HealthCheckResponse
        await self._probe.set("", status.SERVING if serving else status.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, end the streams, and give the other calls a while to end by themselves.

        When it returns, nothing serves a call any more.
        """
        await self._probe.enter_graceful_shutdown()
        for service in self._services:
            await service.close()
        await self._server.stop(grace_s)
        # gRPC waits for the ends of the calls, not of their handlers. One whose peer has just left is still on its
        # way out: it may need what is closed next, and gRPC logs an error where the end of the loop cuts it short.
        await self._calls.ended()

    async def wait(self) -> None:
        """Wait until it has stopped."""
        await self._server.wait_for_termination()


async def serve(
    address: str,
    services: Sequence[Service],
    certificate: ServerCertificate,
    authenticator: Authenticator,
    *,
    most_peers: int = 1,
) -> Server:
    """Start a server that lets in whom its services' tables and the authenticator admit, and nobody else.

    Args:
        address: host:port to listen at; port 0 takes a free one.
        most_peers: how many it should hold connections of; where they are many, each costs less memory and more time.

    Raises:
        AddressInUse: it cannot listen there.
    """
    roles = {method: allowed for service in services for method, allowed in service.roles.items()}
    calls = CallsUnderWay()
    door = DenyByDefault(authenticator, roles, public=(HEALTH_CHECK,))
    credentials = _server_credentials(address, certificate)
    server = grpc.aio.server(interceptors=[calls, door], options=_server_options(most_peers))
    probe = health.aio.HealthServicer()  # type: ignore[attr-defined]  # missing in the stubs only
    health_pb2_grpc.add_HealthServicer_to_server(probe, server)
    for service in services:
        service.register(server)
    try:
        port = _listen(server, address, credentials)
    except AddressInUse:
        # Only what ran is shut down. The rest gRPC frees when nobody has it any more, and logs then, at the level of
        # debugging, an object that is gone: whoever keeps that line crashes.
        await server.start()
        await server.stop(None)
        raise
    await server.start()
    return Server(port, server, services, probe, calls)


def _server_options(most_peers: int) -> tuple[tuple[str, Any], ...]:
    return (
        *SHARED_OPTIONS,
        *((("grpc.tsi.max_frame_size", _SMALL_RECORD_BYTES),) if most_peers > _FEW_PEERS else ()),
        ("grpc.max_concurrent_streams", _MOST_STREAMS_PER_CONNECTION),
        # Half of what our clients keep to, so that a delayed and a timely ping do not add up to a reproach.
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_EVERY_MS // 2),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_EVERY_MS // 2),
        ("grpc.server_handshake_timeout_ms", 10_000),
        # Two servers on one port would each get some of the calls.
        ("grpc.so_reuseport", 0),
    )


def _listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials) -> int:
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as fault:
        raise _cannot_listen(address) from fault
    if port == 0:
        raise _cannot_listen(address)
    return port


def _cannot_listen(address: str) -> AddressInUse:
    return AddressInUse(
        f"cannot listen at {address}: another process does, or the address is not this host's",
        remedy="Stop the other process, or give this one another port.",
    )
