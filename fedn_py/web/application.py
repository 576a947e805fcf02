"""The Flask application of the reducer: REST API, pages, probes."""

import asyncio
import secrets
from typing import Any

from flask import Response, jsonify, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from pydantic import ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from fedn_py import __version__
from fedn_py.reducer.control import Control
from fedn_py.settings import LimitSettings
from fedn_py.web.access import install_access
from fedn_py.web.answers import add_headers
from fedn_py.web.areas import PREFIX
from fedn_py.web.bodies import UPLOADS
from fedn_py.web.bridge import Bridge
from fedn_py.web.joining_routes import joining_routes
from fedn_py.web.live import LIVE, Live
from fedn_py.web.live_routes import live_routes
from fedn_py.web.probes import install_probes
from fedn_py.web.problems import MEDIA_TYPE, Problem, answer_problem, install_problems, located
from fedn_py.web.routes import (
    model_routes,
    network_routes,
    package_routes,
    session_routes,
    sign_in_routes,
    token_routes,
)
from fedn_py.web.sandbox_routes import sandbox_routes
from fedn_py.web.schemas import StrictJSON
from fedn_py.web.sign_in import SignInLinks, install_sign_in
from fedn_py.web.surroundings import Surroundings
from fedn_py.web.throttle import install_throttle
from fedn_py.web.ui import install_pages

_UPLOADS = frozenset({"models.upload_model", "packages.upload_package"})


def create_app(
    control: Control,
    loop: asyncio.AbstractEventLoop,
    limits: LimitSettings,
    *,
    key: bytes | None = None,
    links: SignInLinks | None = None,
    around: Surroundings | None = None,
) -> OpenAPI:
    """Return the application that answers for ``control``, which lives in ``loop``.

    Args:
        key: what cookies are signed with; None for one that no restart survives.
        links: one-time links that others make too.
        around: what pages know beside ``control``.
    """
    bridge = Bridge(loop)
    links = links or SignInLinks()
    around = around or Surroundings()
    app = OpenAPI(
        "fedn_py.web",
        info=Info(title="fedn_py", version=__version__, description="The REST API of a reducer."),
        security_schemes={"token": {"type": "http", "scheme": "bearer"}},
        responses={"default": _problem_description()},
        validation_error_model=Problem,
        validation_error_callback=_refuse_request,
        doc_ui=False,
        static_folder=None,
    )
    app.json = StrictJSON(app)
    app.config["MAX_CONTENT_LENGTH"] = limits.max_json_bytes
    app.url_map.strict_slashes = False
    install_problems(app)
    csrf = install_sign_in(app, key or secrets.token_bytes(32))
    install_throttle(app)
    install_access(app, control, bridge, csrf)
    app.before_request(_check_body)
    app.after_request(add_headers)
    install_pages(app, control, bridge, limits, links, around=around)
    install_probes(app, lambda: bridge.call(control.not_ready()))
    app.register_api(network_routes(control, bridge))
    app.register_api(session_routes(control, bridge))
    app.register_api(model_routes(control, bridge, limits))
    app.register_api(package_routes(control, bridge, limits))
    app.register_api(token_routes(control, bridge))
    app.register_api(sign_in_routes(links))
    app.register_api(live_routes(control, bridge))
    app.register_api(joining_routes(around.joining))
    app.register_api(sandbox_routes(around.sandbox, bridge))

    app.extensions[LIVE] = Live(app, control)
    app.extensions[UPLOADS] = frozenset(rule.rule for rule in app.url_map.iter_rules() if rule.endpoint in _UPLOADS)

    @app.route(f"{PREFIX}/openapi.json")
    def openapi() -> Response:
        return jsonify(app.api_doc)

    return app


def _refuse_request(invalid: ValidationError) -> Response:
    return answer_problem(located(invalid))


def _check_body() -> None:
    is_json_due = request.endpoint not in _UPLOADS and request.blueprint != "ui"
    if not is_json_due or request.method not in {"POST", "PUT", "PATCH"} or not request.content_length:
        return
    if not request.is_json:
        raise UnsupportedMediaType("the body must be JSON, with Content-Type: application/json")
    request.get_json()


def _problem_description() -> dict[str, Any]:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"description": "What went wrong", "content": {MEDIA_TYPE: {"schema": schema}}}
