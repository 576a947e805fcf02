"""What all pages have in common: the blueprint they hang on, what their templates know, and how they tell of faults.

Rules: a page is one GET route; what of it changes stands in the block ``live`` of its template and is fetched again
when the network changes. An action is one POST route that ends in a page. No inline script or style, nothing from
elsewhere.
"""

import asyncio
import hashlib
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from flask import Blueprint, Flask, Response, g, has_request_context, redirect, render_template, request, url_for
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from fedn_py import __version__
from fedn_py.errors import FednError, OwnFault
from fedn_py.reducer.control import Control
from fedn_py.reducer.control_faults import NotAuthenticated
from fedn_py.reducer.shown_network import StatusView
from fedn_py.reducer.shown_tokens import Caller
from fedn_py.runtime.logging import logger
from fedn_py.settings import LimitSettings
from fedn_py.web.bridge import Bridge
from fedn_py.web.problems import located, status_of
from fedn_py.web.sandbox_desk import SandboxDesk
from fedn_py.web.sign_in import SignInLinks, csrf_token
from fedn_py.web.surroundings import Joining, Surroundings
from fedn_py.web.ui import words

Answer = TypeVar("Answer")
Form = TypeVar("Form", bound=BaseModel)

NAME = "ui"
NAVIGATION = (
    ("/", "Start"),
    ("/sessions", "Sessions"),
    ("/network", "Network"),
    ("/models", "Models"),
    ("/validation", "Validation"),
    ("/events", "Events"),
    ("/clients", "Clients"),
    ("/privacy", "Privacy"),
)
_FOR_VIEWERS = tuple(one for one in NAVIGATION if one[0] != "/clients")


@dataclass(frozen=True, slots=True)
class Site:
    """What pages are made with.

    Attributes:
        blueprint: routes of pages; an endpoint "ui.x" is public only where ``access`` says so.
        sandbox: what pages of a sandbox can have done; None in every other network.
        joining: what a new site needs to know; None where that is not known.
    """

    blueprint: Blueprint
    control: Control
    bridge: Bridge
    limits: LimitSettings
    links: SignInLinks
    sandbox: SandboxDesk | None = None
    joining: Joining | None = None

    def ask(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Ask the reducer and wait for its answer."""
        return self.bridge.call(work)

    def network(self) -> StatusView:
        """Return what the reducer does now, asked once for all of a page."""
        if "network" not in g:
            g.network = self.ask(self.control.status())
        found: StatusView = g.network
        return found

    def ask_all(self, *works: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
        """Ask several things at once."""
        return tuple(self.bridge.call(_together(works)))


async def _together(works: tuple[Coroutine[Any, Any, Any], ...]) -> list[Any]:
    return list(await asyncio.gather(*works))


def caller() -> Caller:
    """Return who looks at this page."""
    who: Caller = g.caller
    return who


def asked(form: type[Form], **in_path: str) -> Form:
    """Return what a page's URL asks for, checked as REST checks it; fields left empty are as not given.

    Raises:
        InvalidRequest: it asks for what cannot be.
    """
    known = {name for key, field in form.model_fields.items() for name in (key, field.alias) if name}
    given = {name: text for name, text in request.args.items() if text and name in known}
    try:
        return form.model_validate({**given, **in_path})
    except ValidationError as invalid:
        raise located(invalid) from None


def by_script() -> bool:
    """Return whether htmx asks, which takes a part of a page, and not a browser, which takes a whole one."""
    return request.headers.get("HX-Request") == "true"


def go_to(endpoint: str, **values: Any) -> Response:
    """Send the browser to another page, after an action."""
    place = url_for(endpoint, **values)
    if by_script():
        response = Response(status=204)
        response.headers["HX-Redirect"] = place
        return response
    return redirect(place, 303)  # type: ignore[return-value]


def install_pages(
    app: Flask, control: Control, bridge: Bridge, limits: LimitSettings, links: SignInLinks, *, around: Surroundings
) -> None:
    """Add all pages to an application."""
    from fedn_py.web.ui.pages import PAGES

    folder = Path(__file__).parent
    blueprint = Blueprint(
        NAME, __name__, template_folder=folder / "templates", static_folder=folder / "static", static_url_path="/static"
    )
    site = Site(blueprint, control, bridge, limits, links, around.sandbox, around.joining)
    for install in PAGES:
        install(site)
    words.install(app)
    blueprint.before_request(lambda: _note_changes(site))
    blueprint.app_context_processor(lambda: _what_templates_know(site))
    blueprint.register_error_handler(FednError, _on_fault)
    blueprint.register_error_handler(HTTPException, _on_http)
    app.register_blueprint(blueprint)
    for status in (404, 405):
        app.register_error_handler(status, _on_no_page)


def _note_changes(site: Site) -> None:
    """Keep how often something has changed from before the page is read: what changes from here on is told to it."""
    if hasattr(g, "caller") and request.method == "GET" and not by_script():
        g.changes = site.ask(site.control.changed(-1))


def _what_templates_know(site: Site) -> dict[str, Any]:
    who = getattr(g, "caller", None) if has_request_context() else None
    return {
        "caller": who,
        "is_admin": who is not None and who.role == "admin",
        "pages_for_people": NAVIGATION if who is None or who.role == "admin" else _FOR_VIEWERS,
        "csrf_token": csrf_token,
        "software": __version__,
        "static": _static,
        "by_script": by_script(),
        "changes": g.get("changes", -1),
        "network": site.network() if who is not None else None,
    }


def _static(file: str) -> str:
    """Return the URL of a file of ours; it changes with the file, so that browsers keep it for long."""
    return url_for("ui.static", filename=file, v=_fingerprint(file))


@cache
def _fingerprint(file: str) -> str:
    content = (Path(__file__).parent / "static" / file).read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


# ---- faults


def _on_fault(fault: FednError) -> Response:
    if isinstance(fault, NotAuthenticated):
        return go_to("ui.show_sign_in", **({"then": request.full_path} if request.method == "GET" else {}))
    if isinstance(fault, OwnFault):
        logger("fedn_py.web").error("page failed", code=fault.code, reason=fault.message)
    return show_fault(status_of(fault), fault.code, fault.message, fault.remedy)


def _on_http(fault: HTTPException) -> Response:
    return show_fault(fault.code or 500, type(fault).__name__, fault.description or fault.name, "")


def _on_no_page(fault: HTTPException) -> Response:
    """Answer a person with a page and a program as REST does."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        code, text = type(fault).__name__, f"there is no page {request.path}"
        return show_fault(fault.code or 404, code, text, "Begin at the first page.")
    from fedn_py.web.problems import answer_http

    return answer_http(fault)


def show_fault(status: int, code: str, text: str, remedy: str) -> Response:
    """Return a page, or a part of one, that tells of a fault."""
    template = "fault_in_place.html" if by_script() else "fault.html"
    title = HTTP_STATUS_CODES.get(status, "Error")
    response = Response(render_template(template, title=title, code=code, text=text, remedy=remedy), status=status)
    if by_script():
        # Into what was to be fetched anew, whatever part of a page that is: it stays, and is fetched again.
        response.headers["HX-Reselect"] = ".notice"
        response.headers["HX-Reswap"] = "innerHTML"
    return response
