"""Serving an ASGI application over TLS in the running event loop, so that no silent connection stalls another."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn

from fedn_py.errors import OwnFault


class CannotListen(OwnFault):
    """An address cannot be listened on, or a certificate cannot be used there."""


class HttpsServer:
    """A running HTTPS server.

    Attributes:
        address: host and port that it listens on.
    """

    def __init__(self, server: "_Server", serving: "asyncio.Task[None]", address: tuple[str, int]) -> None:
        self._server, self._serving = server, serving
        self.address = address

    async def stop(self) -> None:
        """Take no more requests, let those under way end for a few seconds, and close."""
        self._server.should_exit = True
        await self._serving


async def serve_https(app: Any, host: str, port: int, *, certificate_file: Path, key_file: Path) -> HttpsServer:
    """Serve an ASGI application.

    Args:
        port: 0 takes a free one.

    Raises:
        CannotListen: the address is taken or not ours, or the certificate cannot be used.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=str(certificate_file),
        ssl_keyfile=str(key_file),
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
    )
    try:
        config.load()
    except OSError as fault:
        raise CannotListen(
            f"the certificate {certificate_file} cannot be used: {fault}",
            remedy="Issue it anew: fedn-py certificate issue.",
        ) from fault
    bound = _bind(host, port)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    started = asyncio.create_task(server.ready.wait())
    await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    if serving.done():
        serving.result()
        raise CannotListen(f"{host}:{port} cannot be served")
    return HttpsServer(server, serving, bound.getsockname()[:2])


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: asyncio sends the end of an answer at once (TCP_NODELAY) only on such sockets.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as fault:
        bound.close()
        raise CannotListen(
            f"{host}:{port} cannot be listened on: {fault.strerror or fault}",
            remedy="Stop what uses the port, or set another one.",
        ) from fault
    bound.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    return bound
