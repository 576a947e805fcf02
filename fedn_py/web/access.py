"""Who may call what: every route asks who calls unless it stands in the list of public ones here.

A program shows a token with each request, a browser the cookie that it was signed in with. To look takes a token of
role viewer or admin, to change anything one of role admin. A route that is added is closed until somebody opens it
here.
"""

from flask import Flask, g, request
from flask_wtf.csrf import CSRFProtect

from fedn_py.reducer.control import Control
from fedn_py.reducer.control_faults import NotAllowed, NotAuthenticated
from fedn_py.reducer.shown_tokens import Caller
from fedn_py.web.bridge import Bridge
from fedn_py.web.sign_in import check_csrf, signed_in

PUBLIC = frozenset({"healthz", "readyz", "openapi", "ui.static", "ui.enter", "ui.show_sign_in", "ui.sign_in_by_token"})
"""Endpoints for everybody: they say nothing of the network but whether it is up."""

ADMIN_ONLY = frozenset({"tokens.list_tokens", "ui.clients", "ui.new_session"})
"""Endpoints that only look, and still need an admin."""

FOR_VIEWERS = frozenset({"sign_in.make_link", "ui.leave"})
"""Endpoints that change nothing of the network, whatever their method."""

_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})


def install_access(app: Flask, control: Control, bridge: Bridge, csrf: CSRFProtect) -> None:
    """Check who makes a request before anything of it is read."""

    def check() -> None:
        if request.url_rule is None:
            return
        if request.endpoint in PUBLIC:
            if request.method not in _LOOKING:
                check_csrf(csrf)
            return
        # Before anything is refused: the page that tells of it has navigation and a way out too.
        g.caller = caller = _who_calls(control, bridge, csrf)
        looking = request.endpoint in FOR_VIEWERS or (request.method in _LOOKING and request.endpoint not in ADMIN_ONLY)
        if caller.role != "admin" and not (looking and caller.role == "viewer"):
            raise NotAllowed(
                f"a token of role {caller.role} cannot do this",
                remedy=f"Use a token of role {'viewer or admin' if looking else 'admin'}.",
            )

    app.before_request(check)


def _who_calls(control: Control, bridge: Bridge, csrf: CSRFProtect) -> Caller:
    if "Authorization" in request.headers:
        return by_token(control, bridge, shown_bearer())
    caller = bridge.call(control.recognise(signed_in()))
    if request.method not in _LOOKING:
        check_csrf(csrf)
    return caller


def by_token(control: Control, bridge: Bridge, bearer: str) -> Caller:
    """Return whose token this is, or raise NotAuthenticated."""
    return bridge.call(control.authenticate(bearer))


def shown_bearer() -> str:
    """Return the token that a request shows, or raise NotAuthenticated."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not bearer.strip():
        raise NotAuthenticated(
            "the request shows no token",
            remedy="Send the header Authorization: Bearer TOKEN; make one: fedn-py token create.",
        )
    return bearer.strip()
