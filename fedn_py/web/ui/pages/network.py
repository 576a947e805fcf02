"""The network: who is there, what each one does, and whether the stores work; in a sandbox, who is killed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Response, render_template, request

from fedn_py.errors import FednError
from fedn_py.reducer.control import Page
from fedn_py.reducer.control_faults import Unknown
from fedn_py.reducer.shown_network import ClientView, CombinerView, StatusView
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.runtime.desk import ProcessView
from fedn_py.web.sandbox_desk import SandboxDesk
from fedn_py.web.ui.network_graph import MOST_CLIENTS, Drawing, draw, states_of
from fedn_py.web.ui.site import Site, caller, go_to

_LISTED = 200
_SEARCHED = 2_000
"""Clients that one search looks through."""

_WORTH_SEARCHING = 10

_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """Which clients the page lists.

    Attributes:
        text: stands in their names, in upper or lower case.
        after: the cursor of the page before.
    """

    text: str
    after: str

    @property
    def all_of_them(self) -> bool:
        """Whether it asks for the first page of all clients."""
        return not self.text and not self.after


def install(site: Site) -> None:
    """Add the page of the network and what a sandbox adds to it."""

    @site.blueprint.get("/network")
    def show_network() -> str:
        desk = site.sandbox if caller().role == "admin" else None
        asked = Asked(request.args.get("name", "")[:_LONGEST], request.args.get("after", "")[:_LONGEST])
        clients, combiners, at_hand, known = site.ask_all(
            _clients(site, asked), site.control.combiners(), _round_at_hand(site, site.network()), _processes(desk)
        )
        return render_template(
            "network.html",
            asked=asked,
            clients=clients,
            combiners=combiners,
            at_hand=at_hand,
            states=states_of(clients.items, at_hand),
            drawing=_drawing(asked, clients, combiners, at_hand),
            desk=desk is not None,
            searchable=not asked.all_of_them or len(clients.items) >= _WORTH_SEARCHING,
            processes=known.processes,
            desk_away=known.away,
            most_drawn=MOST_CLIENTS,
        )

    if site.sandbox is not None:
        _install_actions(site, site.sandbox)


def _install_actions(site: Site, sandbox: SandboxDesk) -> None:
    @site.blueprint.post("/network/processes/<name>/kill")
    def kill_process(name: str) -> Response:
        site.ask(sandbox.kill(name))
        return go_to("ui.show_network")

    @site.blueprint.post("/network/processes/<name>/start")
    def start_process(name: str) -> Response:
        site.ask(sandbox.start_again(name))
        return go_to("ui.show_network")

    @site.blueprint.post("/network/clients")
    def add_client() -> Response:
        site.ask(sandbox.add_client())
        return go_to("ui.show_network")


async def _clients(site: Site, asked: Asked) -> Page[ClientView]:
    found = await site.control.clients(after=asked.after, limit=_SEARCHED if asked.text else _LISTED)
    wanted = asked.text.casefold()
    return Page(tuple(one for one in found.items if wanted in one.name.casefold()), found.next)


async def _round_at_hand(site: Site, network: StatusView) -> RoundView | None:
    if network.active_session is None or network.round_number is None:
        return None
    try:
        return await site.control.round(network.active_session, network.round_number)
    except Unknown:  # it has not begun yet
        return None


@dataclass(frozen=True, slots=True)
class _Known:
    """The sandbox's processes by name; ``away`` says why they are not known."""

    processes: Mapping[str, ProcessView]
    away: FednError | None = None


async def _processes(desk: SandboxDesk | None) -> _Known:
    try:
        return _Known({} if desk is None else {one.name: one for one in await desk.processes()})
    except FednError as away:
        return _Known({}, away)


def _drawing(
    asked: Asked, clients: Page[ClientView], combiners: Sequence[CombinerView], at_hand: RoundView | None
) -> Drawing | None:
    """Return the drawing, None on pages that list only some clients."""
    if not asked.all_of_them or not combiners:
        return None
    return draw(combiners, clients.items if clients.next is None else None, at_hand)
