"""Who may call what: every route asks for a token unless it stands in the list of public ones here.

To look takes a token of role viewer or admin, to change anything one of role admin. A route that is added is closed
until somebody opens it here.
"""

from flask import Flask, g, request

from fedn_py.errors import PeerFault
from fedn_py.reducer.control import Caller, Control, NotAllowed, NotAuthenticated
from fedn_py.web.bridge import Bridge

PUBLIC = frozenset({"front_page", "healthz", "readyz", "openapi"})
"""Endpoints without a token: they say nothing of the network but whether it is up."""

ADMIN_ONLY = frozenset({"tokens.list_tokens"})
"""Endpoints that only look, and still need an admin."""

_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})


def install_access(app: Flask, control: Control, bridge: Bridge) -> None:
    """Check the token of every request before anything of it is read."""

    def check() -> None:
        if request.url_rule is None or request.endpoint in PUBLIC:
            return
        caller = _authenticate(control, bridge)
        looking = request.method in _LOOKING and request.endpoint not in ADMIN_ONLY
        if caller.role != "admin" and not (looking and caller.role == "viewer"):
            raise NotAllowed(
                f"a token of role {caller.role} cannot do this",
                remedy=f"Use a token of role {'viewer or admin' if looking else 'admin'}.",
            )
        g.caller = caller

    app.before_request(check)


def _authenticate(control: Control, bridge: Bridge) -> Caller:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not bearer.strip():
        raise NotAuthenticated(
            "the request shows no token",
            remedy="Send the header Authorization: Bearer TOKEN; make one: fedn-py token create.",
        )
    try:
        return bridge.call(control.authenticate(bearer.strip()))
    except NotAuthenticated:
        raise
    except PeerFault as refused:
        raise NotAuthenticated(refused.message, remedy=refused.remedy) from refused
