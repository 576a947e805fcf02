"""What a combiner answers over HTTPS where it is asked to: its metrics and its probes, and nothing else.

The metrics take the token of the settings, where there is one; without one, they are served on this host alone.
The probes say no more than whether the combiner can do its work, to everybody.
"""

import asyncio
import hmac
import json
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from fedn_py.runtime.metrics import MetricsPage, metrics_page

Message = MutableMapping[str, Any]

_JSON = "application/json"


class MetricsApplication:
    """An ASGI application with three pages: /metrics, /healthz and /readyz.

    Args:
        look: brings up to date what is not counted as it happens; called in the event loop before each page of metrics.
        not_ready: says why the combiner cannot work, nothing when it can.
        token: that /metrics asks for; empty for none.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        look: Callable[[], None],
        not_ready: Callable[[], Sequence[str]],
        token: str,
    ) -> None:
        self._registry, self._look, self._not_ready, self._token = registry, look, not_ready, token

    async def __call__(self, scope: Message, _receive: Any, send: Any) -> None:
        """Answer one request; its body, if it has one, is not read."""
        if scope["type"] != "http":
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status, page, more = await self._answer(scope["method"], scope["path"], headers)
        fields = {
            "content-type": page.content_type,
            "content-length": str(len(page.body)),
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            **more,
        }
        encoded = [(name.encode(), value.encode()) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else page.body})

    async def _answer(
        self, method: str, path: str, headers: dict[bytes, str]
    ) -> tuple[int, MetricsPage, dict[str, str]]:
        if method not in {"GET", "HEAD"}:
            return 405, _text("only GET and HEAD are answered here"), {"allow": "GET, HEAD"}
        match path:
            case "/healthz":
                return 200, _json({"alive": True}), {}
            case "/readyz":
                reasons = list(self._not_ready())
                return (503 if reasons else 200), _json({"ready": not reasons, "reasons": reasons}), {}
            case "/metrics":
                if not self._may_read(headers.get(b"authorization", "")):
                    return (
                        401,
                        _text("the metrics take the token of metrics_token_file"),
                        {"www-authenticate": "Bearer"},
                    )
                self._look()
                # In a thread: the disk is asked how full it is, and a disk may hang.
                return 200, await asyncio.to_thread(metrics_page, self._registry, headers.get(b"accept", "")), {}
            case _:
                return 404, _text("there are /metrics, /healthz and /readyz"), {}

    def _may_read(self, authorization: str) -> bool:
        if not self._token:
            return True
        scheme, _, shown = authorization.partition(" ")
        right = hmac.compare_digest(shown.strip().encode(), self._token.encode())
        return right and scheme.lower() == "bearer"


def _json(content: object) -> MetricsPage:
    return MetricsPage(json.dumps(content).encode(), _JSON)


def _text(line: str) -> MetricsPage:
    return MetricsPage(f"{line}\n".encode(), "text/plain; charset=utf-8")
