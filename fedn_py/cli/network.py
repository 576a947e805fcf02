"""``status``, ``client``, ``combiner`` and ``event``: what is there and what happens."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fedn_py.cli.options import JsonOption, ProfileOption, group, open_network
from fedn_py.cli.output import hint, instant, note, print_data, print_facts, print_table, short

if TYPE_CHECKING:
    from fedn_py.reducer.shown_network import ClientResultView

ClientArgument = Annotated[str, typer.Argument(help="The client's name, or its id or the beginning of that.")]

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
    """List all clients that ever joined, where they are, and how they last fared.

    Example: fedn-py client list
    """
    views = open_network(profile).clients()

    def human() -> None:
        rows = [
            (
                v.name,
                v.connected,
                v.combiner,
                instant(v.last_seen),
                instant(v.since),
                _fared(v.last_result),
                short(v.id),
            )
            for v in views
        ]
        columns = ("name", "connected", "combiner", "last seen", "since", "last result", "id")
        print_table(columns, rows, empty="No client has joined yet: fedn-py run client -c client.yaml")

    print_data(views, human, as_json=as_json)


@clients.command("show")
def show_client(client: ClientArgument, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show one client, and what became of its last update.

    Example: fedn-py client show hospital-a
    """
    from fedn_py.cli.finding import find_client

    network = open_network(profile)
    view = network.client(find_client(network, client).id)
    facts = [
        ("name", view.name),
        ("id", view.id),
        ("connected", view.connected),
        ("combiner", view.combiner),
        ("last seen", instant(view.last_seen)),
        ("since", instant(view.since)),
        ("software", view.software),
        ("revoked", view.revoked),
        ("last result", _fared(view.last_result)),
    ]
    print_data(view, lambda: print_facts(facts), as_json=as_json)


@clients.command("revoke")
def revoke_client(client: ClientArgument, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Make the token worthless that a client came by, and cut off everybody who came by that one.

    Its join credential for masked rounds is the operator's to revoke: fedn-py operator policy.

    Example: fedn-py client revoke hospital-a
    """
    from fedn_py.cli.finding import find_client

    network = open_network(profile)
    view = network.revoke_client(find_client(network, client))
    print_data(view, lambda: print(f"client {view.name} ({short(view.id)}) is cut off"), as_json=as_json)
    hint(f"fedn-py event list --client {view.name}")


def _fared(result: "ClientResultView | None") -> str:
    if result is None:
        return ""
    return f"{result.outcome} in round {result.number}" + (f": {result.reason}" if result.reason else "")


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
    before: Annotated[int | None, typer.Option(help="Only events below this number; not with --after.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    kind: Annotated[str, typer.Option(help="Only of this kind.")] = "",
    severity: Annotated[SeverityName | None, typer.Option(help="Only of this severity.")] = None,
    text: Annotated[str, typer.Option(help="Only with this in the text or kind, in upper or lower case.")] = "",
    session: Annotated[str | None, typer.Option(help="Only about this session: id, number or name.")] = None,
    round_number: Annotated[
        int | None, typer.Option("--round", min=1, help="Only about rounds of this number.")
    ] = None,
    client: Annotated[str, typer.Option(help="Only about the client of this name.")] = "",
    combiner: Annotated[str, typer.Option(help="Only about the combiner of this name.")] = "",
) -> None:
    """List what happened, the newest last.

    Example: fedn-py event list --severity error --client hospital-a
    """
    from fedn_py.cli.finding import find_session

    if after is not None and before is not None:
        raise typer.BadParameter("cannot be given together with --after", param_hint="--before")
    network = open_network(profile)
    found = network.events(
        after=after,
        before=before,
        limit=limit,
        kind=kind,
        severity=severity.value if severity else None,
        text=text,
        session=find_session(network, session).id if session else "",
        round_number=round_number,
        client=client,
        combiner=combiner,
    )
    views = sorted(found, key=lambda view: view.seq)

    def human() -> None:
        for view in views:
            print(f"{view.seq:>6}  {instant(view.time)}  {view.severity:<7}  {view.kind}: {view.text}")
        if not views:
            note("Nothing of that kind happened.")

    print_data(views, human, as_json=as_json)


@events.command("show")
def show_event(
    seq: Annotated[int, typer.Argument(min=1, help="The event's number.")],
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one event, and all that it is about.

    Example: fedn-py event show 17
    """
    view = open_network(profile).event(seq)
    facts = [("number", view.seq), ("time", instant(view.time)), ("kind", view.kind), ("severity", view.severity)]
    print_data(view, lambda: print_facts([*facts, ("text", view.text), *view.subject.items()]), as_json=as_json)
