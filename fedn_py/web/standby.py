"""What a reducer answers while it is not the active one: probes and metrics, and for everything else who is."""

import html
from collections.abc import Callable

from flask import Response, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from fedn_py import __version__
from fedn_py.reducer.control_faults import NotActive
from fedn_py.web.answers import add_headers
from fedn_py.web.probes import install_probes
from fedn_py.web.problems import install_problems

_AGAIN_S = 5
_PAGE = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{_AGAIN_S}"><title>fedn_py: not active</title></head>
<body><main><h1>This reducer is not the active one</h1><p>{{}}.</p><p>{{}}</p>
<p>This page looks again every {_AGAIN_S} seconds.</p></main></body>
</html>
"""
_ANSWERED = frozenset({"healthz", "readyz", "metrics"})


def create_standby_app(waits_for: Callable[[], str]) -> OpenAPI:
    """Return the application of a reducer that waits.

    Args:
        waits_for: why it is not active; asked from any thread.
    """
    app = OpenAPI(
        "fedn_py.web.standby",
        info=Info(title="fedn_py", version=__version__, description="A reducer that waits."),
        doc_ui=False,
        static_folder=None,
    )
    install_problems(app)
    app.before_request(lambda: _refuse(waits_for()))
    app.after_request(add_headers)
    install_probes(app, lambda: (waits_for(),))
    return app


def _refuse(reason: str) -> Response | None:
    if request.endpoint in _ANSWERED:
        return None
    fault = NotActive(reason)
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) != "text/html":
        raise fault
    page = _PAGE.format(*map(html.escape, (fault.message, fault.remedy)))
    return Response(page, 503, mimetype="text/html", headers={"Retry-After": str(_AGAIN_S)})
