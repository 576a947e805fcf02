"""Serving the application: Flask and the stream of changes in the reducer's own event loop, each request watched."""

import asyncio
from typing import Any, cast

from a2wsgi import WSGIMiddleware
from flask import Flask

from fedn_py.runtime.https_server import HttpsServer, serve_https
from fedn_py.settings import CertificateSettings, split_address
from fedn_py.web.bodies import UPLOADS, Bodies
from fedn_py.web.bridge import EXCHANGE, Exchange, Message
from fedn_py.web.live import LIVE, Live
from fedn_py.web.live import PATH as LIVE_PATH

IDLE_S = 60.0
"""A connection that moves no byte of its request or answer for so long is given up."""

VIEW_THREADS = 40


class WebServer:
    """A running HTTPS server.

    Attributes:
        address: host and port that it listens on.
    """

    def __init__(self, server: HttpsServer, shown: "_Shown") -> None:
        self._server, self._shown = server, shown
        self.address = server.address

    def show(self, app: Flask) -> None:
        """Serve another application from the next request on."""
        self._shown.show(app)

    async def stop(self) -> None:
        """Take no more requests, let those under way end for a few seconds, and close."""
        self._shown.close()
        await self._server.stop()


async def serve_web(app: Flask, listen: str, certificate: CertificateSettings) -> WebServer:
    """Serve an application over TLS in the running event loop.

    Args:
        listen: host:port; port 0 takes a free one.

    Raises:
        CannotListen: the address is taken or not ours, or the certificate cannot be used.
    """
    shown = _Shown(app)
    host, port = split_address(listen)
    server = await serve_https(
        _watched(shown), host, port, certificate_file=certificate.certificate_file, key_file=certificate.key_file
    )
    return WebServer(server, shown)


class _Shown:
    """An ASGI application in whose place another one can be put."""

    def __init__(self, app: Flask) -> None:
        self._app: Any = None
        self._live: Live | None = None
        self._bodies = Bodies(0, frozenset())
        self.show(app)

    def show(self, app: Flask) -> None:
        self._app = WSGIMiddleware(cast("Any", app), workers=VIEW_THREADS)
        self._live = app.extensions.get(LIVE)
        self._bodies = Bodies(app.config["MAX_CONTENT_LENGTH"] or 0, app.extensions.get(UPLOADS, frozenset()))

    def close(self) -> None:
        if self._live is not None:
            self._live.close()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if self._live is not None and _asks_for_changes(scope):
            await self._live(scope, send)
        elif scope["type"] == "http":
            await self._bodies.pass_on(self._app, scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _asks_for_changes(scope: Message) -> bool:
    # By GET alone: of other requests nobody would notice that their reader has gone.
    return (scope["type"], scope.get("path"), scope.get("method")) == ("http", LIVE_PATH, "GET")


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
