"""What a reducer answers while it is not the active one: probes and metrics, and for everything else who is."""

from collections.abc import Callable

from flask import request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from fedn_py import __version__
from fedn_py.reducer.control import NotActive
from fedn_py.web.answers import add_headers
from fedn_py.web.probes import install_probes
from fedn_py.web.problems import install_problems

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


def _refuse(reason: str) -> None:
    if request.endpoint not in _ANSWERED:
        raise NotActive(reason)
