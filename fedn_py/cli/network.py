"""``status``, ``client``, ``combiner`` and ``event``: what is there and what happens."""

from enum import StrEnum
from typing import Annotated

import typer

from fedn_py.cli.options import JsonOption, ProfileOption, group, open_network
from fedn_py.cli.output import hint, instant, note, print_data, print_facts, print_table, short

clients = group("The clients of the network.")
combiners = group("The combiners of the network.")
events = group("The event log.")


class SeverityName(StrEnum):
    """How severe an event is."""

    info = "info"
    warning = "warning"
    error = "error"


def status(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show what the reducer does now.

    Example: fedn-py status
    """
    view = open_network(profile).status()

    def human() -> None:
        print_facts(
            [
                ("reducer", f"{view.reducer} ({view.deployment}), fedn_py {view.software}"),
                ("phase", view.phase),
                ("waiting", view.waiting),
                ("restored", view.restored),
                ("session", short(view.active_session)),
                ("round", view.round_number),
                ("clients", view.clients),
                ("combiners", view.combiners),
                ("up since", instant(view.started_at)),
            ]
        )
        for store in view.stores:
            print_facts([(store.keeps, f"{store.kind}: {'healthy' if store.healthy else store.detail or 'unhealthy'}")])
        hint("fedn-py session list")

    print_data(view, human, as_json=as_json)


def open_pages(
    *,
    browser: Annotated[bool, typer.Option("--browser", help="Open it in this machine's browser too.")] = False,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a link to the web pages that signs a browser in once, within a quarter of an hour.

    Example: fedn-py open --browser
    """
    import webbrowser

    link = open_network(profile).sign_in_link()
    if browser and not webbrowser.open(link):
        note("No browser was found here; open the link by hand.")
    print_data({"link": link}, lambda: print(link), as_json=as_json)


@clients.command("list")
def list_clients(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List all clients that ever joined, and where they are.

    Example: fedn-py client list
    """
    views = open_network(profile).clients()

    def human() -> None:
        rows = [(v.name, v.connected, v.combiner, instant(v.last_seen), instant(v.since), short(v.id)) for v in views]
        columns = ("name", "connected", "combiner", "last seen", "since", "id")
        print_table(columns, rows, empty="No client has joined yet: fedn-py run client -c client.yaml")

    print_data(views, human, as_json=as_json)


@combiners.command("list")
def list_combiners(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List all combiners that ever joined, and how full they are.

    Example: fedn-py combiner list
    """
    views = open_network(profile).combiners()

    def human() -> None:
        rows = [(v.name, v.connected, v.address, f"{v.clients}/{v.max_clients}", instant(v.last_seen)) for v in views]
        columns = ("name", "connected", "address", "clients", "last seen")
        print_table(columns, rows, empty="No combiner has joined yet: fedn-py run combiner -c combiner.yaml")

    print_data(views, human, as_json=as_json)


@events.command("list")
def list_events(
    *,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
    after: Annotated[int | None, typer.Option(help="Only events behind this number.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    kind: Annotated[str, typer.Option(help="Only of this kind.")] = "",
    severity: Annotated[SeverityName | None, typer.Option(help="Only of this severity.")] = None,
) -> None:
    """List what happened, the newest last.

    Example: fedn-py event list --severity error
    """
    views = open_network(profile).events(
        after=after, limit=limit, kind=kind, severity=severity.value if severity else None
    )

    def human() -> None:
        for view in views:
            print(f"{view.seq:>6}  {instant(view.time)}  {view.severity:<7}  {view.kind}: {view.text}")
        if not views:
            note("Nothing of that kind happened.")

    print_data(views, human, as_json=as_json)
