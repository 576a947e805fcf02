"""Tells open pages that something has changed: server-sent events on the event loop, where no view's thread waits.

An event says that there is something new and not what: a page asks again for what it shows, with the rights that it
has. Where a network lets no stream through, pages ask ``/api/v1/live/poll`` instead.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder

from fedn_py.errors import FednError
from fedn_py.identity import TokenId
from fedn_py.reducer.control import Control
from fedn_py.reducer.control_faults import NotAuthenticated
from fedn_py.web.areas import PREFIX
from fedn_py.web.bridge import EXCHANGE, Exchange, Message
from fedn_py.web.problems import answer_problem
from fedn_py.web.sign_in import signed_in

PATH = f"{PREFIX}/live"
LIVE = "fedn_py.live"
"""Where an application keeps its Live."""

EVERY_S = 0.5
"""Changes within so long are told as one."""

HEARTBEAT_S = 15.0
MOST_STREAMS = 20
"""That one token may have open."""

_POLL_WAITS_S = 0.2
_LOOKERS = frozenset({"admin", "viewer"})

Send = Callable[[Message], Awaitable[None]]


class Live:
    """The stream of changes, as an ASGI application of one path.

    Args:
        app: knows browsers by their cookies.
    """

    def __init__(self, app: Flask, control: Control) -> None:
        self._app = app
        self._control = control
        self._open: dict[TokenId, int] = {}
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all streams: their pages come back, to this reducer or to the one that takes over."""
        self._closing.set()

    async def __call__(self, scope: Message, send: Send) -> None:
        """Serve one stream until its reader goes or the reducer stops."""
        try:
            token = await self._who(scope)
        except FednError as fault:
            await _answer(send, fault)
            return
        self._open[token] = self._open.get(token, 0) + 1
        try:
            await self._stream(scope[EXCHANGE], _last_id(scope), token, send)
        finally:
            self._open[token] -= 1

    async def _who(self, scope: Message) -> TokenId:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            caller = await self._control.authenticate(bearer.strip())
        else:
            caller = await self._control.recognise(self._by_cookie(headers.get("cookie", "")))
        if caller.role not in _LOOKERS or self._open.get(caller.token, 0) >= MOST_STREAMS:
            raise NotAuthenticated("this token may open no more streams", remedy="Close some of its pages.")
        return caller.token

    def _by_cookie(self, cookie: str) -> TokenId:
        # Of a cookie that no key of ours has signed, Flask makes an empty session.
        asked = EnvironBuilder(path=PATH, base_url="https://localhost", headers=[("Cookie", cookie)])
        with self._app.request_context(asked.get_environ()):
            return signed_in()

    async def _stream(self, exchange: Exchange, last: int, token: TokenId, send: Send) -> None:
        head = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await _say(send, b"retry: 2000\n\n")
        told = last
        while not exchange.gone and not self._closing.is_set():
            changes = await self._next_change(told)
            try:
                await self._control.recognise(token)  # revoked or expired meanwhile, it is told nothing more
            except FednError:
                break
            if changes is None:
                await _say(send, b": still here\n\n")
                continue
            told = changes
            await _say(send, f"id: {told}\nevent: change\ndata: {json.dumps({'changes': told})}\n\n".encode())
            await self._pause()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next_change(self, told: int) -> int | None:
        """Return the number of changes once there are others than ``told``; None after a while, or at the end."""
        change = asyncio.ensure_future(self._control.changed(told))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({change, closing}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            return change.result() if change.done() and not change.cancelled() else None
        finally:
            change.cancel()
            closing.cancel()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._closing.wait(), EVERY_S)
        except TimeoutError:
            return


async def _say(send: Send, text: bytes) -> None:
    await send({"type": "http.response.body", "body": text, "more_body": True})


async def _answer(send: Send, fault: FednError) -> None:
    answer = answer_problem(fault)
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.get_data(), "more_body": False})


def _last_id(scope: Message) -> int:
    """Return what the page was told last, -1 for nothing."""
    said: Any = dict(scope["headers"]).get(b"last-event-id", b"")
    return int(said) if said.isdigit() and len(said) < 19 else -1


async def changed_soon(control: Control, after: int) -> int:
    """Return the number of changes, after a moment's wait where there are none since ``after``."""
    try:
        return await asyncio.wait_for(control.changed(after), _POLL_WAITS_S)
    except TimeoutError:
        return after
