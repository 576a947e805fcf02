"""Serving the application: HTTPS in the reducer's own event loop, so that no silent connection stalls another."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any, cast

import uvicorn
from a2wsgi import WSGIMiddleware
from flask import Flask

from fedn_py.errors import OwnFault
from fedn_py.settings import CertificateSettings, split_address
from fedn_py.web.bridge import EXCHANGE, Exchange, Message
from fedn_py.web.live import LIVE, Live
from fedn_py.web.live import PATH as LIVE_PATH

IDLE_S = 60.0
"""A connection that moves no byte of its request or answer for so long is given up."""

VIEW_THREADS = 40


class CannotListen(OwnFault):
    """An address cannot be listened on."""


class WebServer:
    """A running HTTPS server.

    Attributes:
        address: host and port that it listens on.
    """

    def __init__(
        self, server: "_Server", serving: "asyncio.Task[None]", address: tuple[str, int], shown: "_Shown"
    ) -> None:
        self._server = server
        self._serving = serving
        self._shown = shown
        self.address = address

    def show(self, app: Flask) -> None:
        """Serve another application from the next request on."""
        self._shown.show(app)

    async def stop(self) -> None:
        """Take no more requests, let those under way end for a few seconds, and close."""
        self._shown.close()
        self._server.should_exit = True
        await self._serving


async def serve_web(app: Flask, listen: str, certificate: CertificateSettings) -> WebServer:
    """Serve an application over TLS in the running event loop.

    Args:
        listen: host:port; port 0 takes a free one.

    Raises:
        CannotListen: the address is taken or not ours, or the certificate cannot be used.
    """
    shown = _Shown(app)
    config = uvicorn.Config(
        _watched(shown),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=str(certificate.certificate_file),
        ssl_keyfile=str(certificate.key_file),
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
    )
    try:
        config.load()
    except OSError as fault:
        raise CannotListen(
            f"the certificate {certificate.certificate_file} cannot be used: {fault}",
            remedy="Issue it anew: fedn-py certificate issue.",
        ) from fault
    bound = _bind(listen)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    started = asyncio.create_task(server.ready.wait())
    await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    if serving.done():
        serving.result()
        raise CannotListen(f"{listen} cannot be served")
    host, port = bound.getsockname()[:2]
    return WebServer(server, serving, (host, port), shown)


class _Shown:
    """An ASGI application in whose place another one can be put."""

    def __init__(self, app: Flask) -> None:
        self._app: Any = None
        self._live: Live | None = None
        self.show(app)

    def show(self, app: Flask) -> None:
        self._app = WSGIMiddleware(cast("Any", app), workers=VIEW_THREADS)
        self._live = app.extensions.get(LIVE)

    def close(self) -> None:
        if self._live is not None:
            self._live.close()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if self._live is not None and scope["type"] == "http" and scope["path"] == LIVE_PATH:
            await self._live(scope, send)
        else:
            await self._app(scope, receive, send)


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


def _bind(listen: str) -> socket.socket:
    host, port = split_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as fault:
        bound.close()
        raise CannotListen(
            f"{listen} cannot be listened on: {fault.strerror or fault}",
            remedy="Stop what uses the port, or set another listen_web.",
        ) from fault
    bound.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    return bound


def _watched(app: Any) -> Any:
    """Return an ASGI application whose requests know their connection and give up one that moves no byte."""

    async def watched(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return

        async def receive_soon() -> Message:
            try:
                return await asyncio.wait_for(receive(), IDLE_S)
            except TimeoutError:
                # It may still read: the view answers that the upload broke off.
                return {"type": "http.disconnect"}

        async def send_soon(message: Message) -> None:
            # Once nobody reads, messages are dropped: raising here would leave the view's thread waiting for ever.
            if exchange.gone:
                return
            try:
                await asyncio.wait_for(send(message), IDLE_S)
            except TimeoutError:
                exchange.gone = True

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            exchange.gone = True

        exchange = Exchange(receive_soon)
        scope[EXCHANGE] = exchange
        watching = asyncio.create_task(watch()) if scope["method"] in {"GET", "HEAD"} else None
        try:
            await app(scope, receive_soon, send_soon)
        finally:
            if watching is not None:
                watching.cancel()

    return watched
