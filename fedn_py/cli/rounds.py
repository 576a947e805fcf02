"""``round``: what came of the rounds of a session."""

from typing import TYPE_CHECKING, Annotated

import typer

from fedn_py.cli.masking_options import cells_shown, masking_shown
from fedn_py.cli.options import JsonOption, ProfileOption, SessionArgument, group, open_network
from fedn_py.cli.output import counted, instant, measures, print_data, print_facts, print_table, short

if TYPE_CHECKING:
    from fedn_py.reducer.shown_rounds import RoundView

rounds = group("The rounds of a session.")


@rounds.command("list")
def list_rounds(session: SessionArgument = None, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List the rounds of a session.

    Example: fedn-py round list
    """
    from fedn_py.cli.finding import find_session

    network = open_network(profile)
    views = network.rounds(find_session(network, session).id)

    def human() -> None:
        rows = [
            (
                v.number,
                v.status,
                v.attempt,
                len(v.clients),
                v.samples,
                v.masking.scheme if v.masking else "none",
                f"{v.seconds:.1f}",
                measures(v.metrics.items()) or v.reason,
                short(v.model),
            )
            for v in views
        ]
        columns = ("round", "status", "attempt", "clients", "samples", "masking", "seconds", "metrics", "model")
        print_table(columns, rows, empty="No round yet.")

    print_data(views, human, as_json=as_json)


@rounds.command("show")
def show_round(
    number: Annotated[int, typer.Argument(min=1, help="The round's number.")],
    session: Annotated[str | None, typer.Option(help="Id, number or name. Default: the newest.")] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one round: who is in it, who is not and why.

    Example: fedn-py round show 3
    """
    from fedn_py.cli.finding import find_session

    network = open_network(profile)
    view = network.round(find_session(network, session).id, number)
    print_data(view, lambda: _print_round(view), as_json=as_json)


@rounds.command("validations")
def list_validations(
    session: SessionArgument = None, profile: ProfileOption = None, as_json: JsonOption = False
) -> None:
    """List what clients measured in each round: means, how many stand behind them, and how far values are apart.

    Example: fedn-py round validations
    """
    from fedn_py.cli.finding import find_session

    network = open_network(profile)
    views = network.validations(find_session(network, session).id)

    def human() -> None:
        rows = [
            (
                view.number, measured, one.name, f"hidden: {one.hidden}" if one.hidden else one.mean, one.clients,
                one.minimum, one.median, one.maximum,
            )
            for view in views
            for measured, metrics in (("validation", view.metrics), ("training", view.training))
            for one in metrics
        ]  # fmt: skip
        columns = ("round", "measured", "metric", "mean", "clients", "least", "median", "most")
        print_table(columns, rows, empty="Nothing was measured yet.")

    print_data(views, human, as_json=as_json)


def _print_round(view: "RoundView") -> None:
    print_facts(
        [
            ("round", f"{view.number}, attempt {view.attempt}"),
            ("status", f"{view.status} ({view.phase})"),
            ("reason", view.reason),
            ("began", f"{instant(view.started_at)}, {view.seconds:.1f} s"),
            ("samples", view.samples),
            ("masking", masking_shown(view.masking) if view.masking else "none"),
            ("validation", measures(view.metrics.items())),
            ("hidden", "; ".join(f"{name}: {why}" for name, why in view.metrics_hidden.items())),
            ("training", measures(view.training_metrics.items())),
            ("combiners", ", ".join(view.combiners)),
            ("model", view.model),
        ]
    )
    rows = [
        (c.name, counted(c.samples), measures(view.metrics_by_client.get(c.name, {}).items())) for c in view.clients
    ]
    print_table(("client", "samples", "metrics"), rows, empty="No client is in it.")
    if view.masking:
        columns = ("cell", "clients", "sum participants (slot.replica)", "sum")
        print_table(columns, cells_shown(view.masking), empty="No cell has begun.")
    for excluded in view.excluded:
        print(f"not in it: {excluded.name}: {excluded.reason}")
        for line in excluded.log.splitlines():
            print(f"    {line}")
