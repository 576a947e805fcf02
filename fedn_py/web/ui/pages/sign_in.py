"""Coming in and going out: by a one-time link, or by a token."""

import re

from flask import Response, render_template, request

from fedn_py.errors import FednError
from fedn_py.reducer.control_faults import NotAllowed
from fedn_py.web.access import by_token
from fedn_py.web.problems import status_of
from fedn_py.web.sign_in import sign_in, sign_out
from fedn_py.web.ui.site import Site, go_to, show_fault

_PEOPLE = frozenset({"admin", "viewer"})


def install(site: Site) -> None:
    """Add the page to sign in and what it does."""

    @site.blueprint.get("/sign-in")
    def show_sign_in() -> Response:
        return _page("")

    @site.blueprint.post("/sign-in")
    def sign_in_by_token() -> Response:
        try:
            who = by_token(site.control, site.bridge, request.form.get("token", "").strip())
            if who.role not in _PEOPLE:
                raise NotAllowed(f"a {who.role}'s token is for its process", remedy="Use one of role admin or viewer.")
        except FednError as refused:
            return _page(f"{refused.message}. {refused.remedy}", status_of(refused))
        sign_in(who.token)
        return _entered()

    @site.blueprint.get("/enter")
    def enter() -> Response:
        try:
            token = site.links.take(request.args.get("code", ""))
        except FednError as spent:
            return show_fault(403, spent.code, spent.message, spent.remedy)
        sign_in(token)
        return _entered()

    @site.blueprint.post("/sign-out")
    def leave() -> Response:
        sign_out()
        return go_to("ui.show_sign_in")


def _page(wrong: str, status: int = 200) -> Response:
    return Response(render_template("sign_in.html", wrong=wrong, then=_inner(request.args.get("then", ""))), status)


def _entered() -> Response:
    # A page in between: a redirect would still be part of a visit that began elsewhere, for which browsers hold back a
    # cookie of SameSite=Strict.
    return Response(render_template("entered.html", then=_inner(request.args.get("then", ""))))


def _inner(place: str) -> str:
    """Return a place of this site, "/" for anything that could lead elsewhere."""
    # Browsers take a backslash for a slash, and leave out tabs and ends of lines wherever they stand.
    is_inner = place.startswith("/") and not place.startswith("//") and re.search(r"[\\\x00-\x20]", place) is None
    return place.rstrip("?") if is_inner else "/"
