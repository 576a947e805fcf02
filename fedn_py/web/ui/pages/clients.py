"""Clients: bringing a site in, and shutting one out.

Rules: the text of a token is shown once, in the answer to the request that made it, and is in no URL, log or event.
What lets a client into masked rounds is made with the operator's key, which is on no server: only in a sandbox, whose
process has it, a page can have it made.
"""

import math
import time
from dataclasses import dataclass, field

from flask import Response, render_template, request
from pydantic import ValidationError

from fedn_py.errors import FednError
from fedn_py.identity import ClientId, TokenId, parse_name
from fedn_py.web.problems import located, status_of
from fedn_py.web.schemas import DAY_S, ClientPath, CreateToken, TokenPath
from fedn_py.web.ui.joining import WHEEL, reducer_address, start_command, token_command, token_file
from fedn_py.web.ui.site import Site, asked, caller, go_to

_LISTED = 100
_DAYS = 365.0
_MOST_DAYS = 3_650.0


@dataclass(frozen=True, slots=True)
class Made:
    """A token that was just made.

    Attributes:
        text: of its file; shown once.
        join_id: what its join credential is revoked by; empty without one.
    """

    role: str
    label: str
    text: str = field(repr=False)
    join_id: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The token that is asked for."""

    role: str = "client"
    label: str = ""
    days: float = _DAYS


def install(site: Site) -> None:
    """Add the page and what it makes."""

    @site.blueprint.get("/clients")
    def clients() -> str:
        return _page(site, Wanted(label=request.args.get("site", "")[:100]))

    @site.blueprint.post("/clients/tokens")
    def make_token() -> Response:
        wanted = Wanted(request.form.get("role", ""), request.form.get("label", "").strip(), _days())
        try:
            made = _make(site, wanted)
        except FednError as fault:
            return Response(_page(site, wanted, fault=fault), status_of(fault))
        return Response(_page(site, wanted, made=made))

    @site.blueprint.post("/clients/<client>/revoke")
    def revoke_client(client: str) -> Response:
        site.ask(site.control.revoke_client(ClientId(asked(ClientPath, client=client).client)))
        return go_to("ui.clients")

    @site.blueprint.post("/clients/tokens/<token>/revoke")
    def revoke_token(token: str) -> Response:
        site.ask(site.control.revoke_token(TokenId(asked(TokenPath, token=token).token)))
        return go_to("ui.clients")


def _page(site: Site, wanted: Wanted, *, made: Made | None = None, fault: FednError | None = None) -> str:
    found, tokens = site.ask_all(
        site.control.clients(after=request.args.get("after", "")[:200], limit=_LISTED),
        site.control.tokens(after=request.args.get("tokens", "")[:200], limit=_LISTED),
    )
    name, fault = _checked(wanted, fault)
    return render_template(
        "clients.html",
        wanted=wanted,
        name=name,
        fault=fault,
        made=made,
        clients=found,
        tokens=tokens,
        sandbox=site.sandbox is not None,
        reducer=reducer_address(request.host, site.joining),
        has_authority=site.joining is not None,
        command=token_command(name, wanted.days),
        start=start_command(name, install=site.sandbox is None),
        token_file=token_file(name),
        wheel=WHEEL,
        own_token=caller().token,
        day_s=DAY_S,
        now=time.time(),
    )


def _checked(wanted: Wanted, fault: FednError | None) -> tuple[str, FednError | None]:
    """Return the name of the site for commands and files, one made up while none or a wrong one is given."""
    if wanted.role == "client" and wanted.label:
        try:
            return parse_name(wanted.label, "client"), fault
        except FednError as wrong:
            return "hospital-a", fault or wrong
    return "hospital-a", fault


def _make(site: Site, wanted: Wanted) -> Made:
    token = _as_rest_has_it(wanted)
    if wanted.role == "client":
        parse_name(wanted.label, "client")
        if site.sandbox is not None:
            both = site.ask(site.sandbox.make_token(wanted.label, wanted.days))
            return Made(wanted.role, wanted.label, both.text, both.join_id)
    text, _ = site.ask(site.control.create_token(token.role, token.label, token.valid_s))
    return Made(wanted.role, wanted.label, text + "\n")


def _as_rest_has_it(wanted: Wanted) -> CreateToken:
    """Return what is asked for as REST checks it; raises InvalidRequest."""
    try:
        return CreateToken.model_validate({"role": wanted.role, "label": wanted.label, "valid_s": wanted.days * DAY_S})
    except ValidationError as invalid:
        raise located(invalid) from None


def _days() -> float:
    try:
        days = float(request.form.get("days", ""))
    except ValueError:
        days = _DAYS
    return min(max(days, 0.001), _MOST_DAYS) if math.isfinite(days) else _DAYS
