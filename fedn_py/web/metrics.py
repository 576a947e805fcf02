"""The reducer's metrics for Prometheus, which shows a token of role viewer or admin like every other caller."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry

from fedn_py.errors import PeerFault
from fedn_py.reducer.control_faults import NotAllowed, NotAuthenticated
from fedn_py.runtime.metrics import metrics_page
from fedn_py.transport.authentication import TokenRecord
from fedn_py.web.access import shown_bearer
from fedn_py.web.bridge import Bridge

PATH = "/metrics"

_READERS = frozenset({"viewer", "admin"})


def install_metrics(app: Flask, registry: CollectorRegistry) -> None:
    """Add the metrics to an application that checks who makes a request."""

    @app.route(PATH)
    def metrics() -> Response:
        return _answer(registry)


def install_standby_metrics(
    app: Flask,
    registry: CollectorRegistry,
    known: Callable[[str], Coroutine[Any, Any, TokenRecord]],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Add the metrics to an application that checks nobody: it is checked here.

    Args:
        known: returns whose token it is given, in ``loop``, or raises why it is nobody's.
    """
    bridge = Bridge(loop)

    @app.route(PATH)
    def metrics() -> Response:
        bearer = shown_bearer()
        try:
            role = bridge.call(known(bearer)).role
        except PeerFault as refused:
            raise NotAuthenticated(refused.message, remedy=refused.remedy) from refused
        if role not in _READERS:
            raise NotAllowed(f"a token of role {role} cannot do this", remedy="Use a token of role viewer or admin.")
        return _answer(registry)


def _answer(registry: CollectorRegistry) -> Response:
    page = metrics_page(registry, request.headers.get("Accept", ""))
    return Response(page.body, content_type=page.content_type)
