"""TCP proxies that write down every byte that a server process receives and sends, as that process sees it.

Before a server with TLS the proxy ends TLS with a certificate of the same authority and begins it again, so that what
it records is plain; gRPC's bytes are put together again from their HTTP/2 frames.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA = 0
_PADDED = 0x8


@dataclass
class Recording:
    """What passed through a proxy, by connection and direction.

    Attributes:
        received: what the server got. sent: what it answered.
    """

    received: list[bytearray] = field(default_factory=list)
    sent: list[bytearray] = field(default_factory=list)

    def everything(self) -> bytes:
        """Return all bytes as they passed, and all messages put together from their frames."""
        raw = [bytes(one) for one in (*self.received, *self.sent)]
        return b"\n".join([*raw, *self.messages()])

    def messages(self) -> list[bytes]:
        """Return the contents of every HTTP/2 stream that the server got or sent, frames taken away."""
        return [one for raw in (*self.received, *self.sent) for one in _streams(bytes(raw))]

    def received_messages(self) -> list[bytes]:
        """Return the contents of every HTTP/2 stream that the server got."""
        return [one for raw in self.received for one in _streams(bytes(raw))]


def _streams(raw: bytes) -> Iterator[bytes]:
    streams: dict[int, bytearray] = {}
    for stream, payload in _data_frames(raw):
        streams.setdefault(stream, bytearray()).extend(payload)
    yield from (bytes(one) for one in streams.values())


def _data_frames(raw: bytes) -> Iterator[tuple[int, bytes]]:
    at = len(_PREFACE) if raw.startswith(_PREFACE) else 0
    while at + 9 <= len(raw):
        size, kind, flags = int.from_bytes(raw[at : at + 3], "big"), raw[at + 3], raw[at + 4]
        payload = raw[at + 9 : at + 9 + size]
        if kind == _DATA:
            if flags & _PADDED and payload:
                payload = payload[1 : len(payload) - payload[0]]
            yield int.from_bytes(raw[at + 5 : at + 9], "big"), payload
        at += 9 + size


@dataclass(frozen=True)
class Certificates:
    """How a proxy shows itself and what it believes: PEM files."""

    certificate: Path
    key: Path
    authority: Path


@asynccontextmanager
async def recording_proxy(
    server_port: int, certificates: Certificates | None = None, *, listen: int = 0
) -> AsyncIterator[tuple[int, Recording]]:
    """Run a proxy before a server on this machine; gives its port and what passes through it."""
    recording, connections = Recording(), set[asyncio.Task[None]]()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received, sent = bytearray(), bytearray()
        recording.received.append(received)
        recording.sent.append(sent)
        try:
            inward, outward = await asyncio.open_connection(
                "127.0.0.1",
                server_port,
                ssl=_dialling(certificates),
                server_hostname="localhost" if certificates else None,
            )
        except OSError:
            writer.close()
            return
        try:
            await _either(_copy(reader, outward, received), _copy(inward, writer, sent))
        finally:
            outward.close()
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(pass_on(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", listen, ssl=_listening(certificates), limit=2**22)
    try:
        yield server.sockets[0].getsockname()[1], recording
    finally:
        server.close()
        for task in tuple(connections):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, into: bytearray) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(2**18):
            into += data
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _either(*copies: object) -> None:
    tasks = [asyncio.ensure_future(copy) for copy in copies]  # type: ignore[arg-type]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _listening(certificates: Certificates | None) -> ssl.SSLContext | None:
    if certificates is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.set_alpn_protocols(["h2"])
    return context


def _dialling(certificates: Certificates | None) -> ssl.SSLContext | None:
    if certificates is None:
        return None
    context = ssl.create_default_context(cafile=str(certificates.authority))
    context.set_alpn_protocols(["h2"])
    return context
