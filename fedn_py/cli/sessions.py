"""``session``: starting, watching and ending training."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedn_py.cli.exits import Exit
from fedn_py.cli.masking_options import (
    ClipOption,
    GMinOption,
    MaskingName,
    MaskingOption,
    MetricOption,
    NMaxOption,
    ReopenOption,
    ReplicasOption,
    SlotsOption,
    WeightCapOption,
    WeightUnitOption,
    masked_options,
    terms_shown,
)
from fedn_py.cli.options import JsonOption, ProfileOption, SessionArgument, group, open_network
from fedn_py.cli.output import (
    hint,
    instant,
    note,
    print_data,
    print_facts,
    print_table,
    short,
)

if TYPE_CHECKING:
    from fedn_py.api import Network
    from fedn_py.reducer.privacy_words import PrivacyView
    from fedn_py.reducer.shown_sessions import SessionView

sessions = group("Training sessions.")


@sessions.command("start")
def start_session(
    *,
    package: Annotated[
        str, typer.Option(metavar="FILE|DIGEST|NAME", help="Compute package: a file to upload, or one that is there.")
    ],
    model: Annotated[
        str, typer.Option(metavar="FILE|DIGEST", help="Seed model: a safetensors file, or one that is there.")
    ],
    rounds_wanted: Annotated[int, typer.Option("--rounds", min=1, help="Rounds to run.")] = 5,
    name: Annotated[str, typer.Option(help="What people call it. Default: one is made up.")] = "",
    clients_wanted: Annotated[int, typer.Option(min=0, help="Close a round with so many updates; 0: all.")] = 0,
    clients_required: Annotated[int, typer.Option(min=1, help="With fewer, a round fails.")] = 1,
    update_timeout: Annotated[float, typer.Option(metavar="S", help="Seconds a client has for a round.")] = 600.0,
    validate: Annotated[bool, typer.Option(help="Validate each new global model on the clients.")] = True,
    validation_timeout: Annotated[float, typer.Option(metavar="S", help="Seconds for a validation.")] = 120.0,
    max_attempts: Annotated[int, typer.Option(min=1, help="Attempts at a round before the session fails.")] = 3,
    retry_delay: Annotated[float, typer.Option(metavar="S", help="Seconds between two attempts.")] = 2.0,
    gather_timeout: Annotated[float, typer.Option(metavar="S", help="Seconds to wait for the wanted clients.")] = 10.0,
    parameters: Annotated[str, typer.Option(metavar="JSON", help="Object handed to the package.")] = "{}",
    masking: MaskingOption = MaskingName.none,
    # As MaskedOptions has them; it is not asked here, as it would load numpy for --help.
    clip: ClipOption = 10.0,
    n_max: NMaxOption = 0,
    weight_cap: WeightCapOption = 10_000,
    weight_unit: WeightUnitOption = 1,
    slots: SlotsOption = 0,
    replicas: ReplicasOption = 0,
    g_min: GMinOption = 0,
    reopen: ReopenOption = None,
    metric: MetricOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it has ended, and show each round.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="S", help="Longest wait; exit 6.")] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a session.

    Example: fedn-py session start --package digits.tar.gz --model seed.safetensors --rounds 5 --wait
    """
    from fedn_py.reducer.shown_sessions import SessionOptions

    # Before anything is uploaded: a word that is not understood costs nothing then.
    terms = masked_options(
        metric=metric,
        reopen=reopen,
        clip=clip,
        n_max=n_max,
        weight_cap=weight_cap,
        weight_unit=weight_unit,
        k=slots,
        r=replicas,
        g_min=g_min,
    )
    handed = _parameters(parameters)
    network = open_network(profile)
    options = SessionOptions(
        package=_package(network, package),
        seed_model=_model(network, model),
        rounds=rounds_wanted,
        name=name,
        clients_wanted=clients_wanted,
        clients_required=clients_required,
        update_timeout_s=update_timeout,
        validate=validate,
        validation_timeout_s=validation_timeout,
        max_attempts=max_attempts,
        retry_delay_s=retry_delay,
        gather_timeout_s=gather_timeout,
        parameters=handed,
        masking=masking.value,
        masked=terms,
    )
    session = network.start_session(options)
    note(f"session {session.name} ({short(session.id)}) has begun")
    if wait:
        _watch(network, session, timeout, as_json=as_json)
        return
    print_data(session, lambda: print(session.id), as_json=as_json)
    hint(f"fedn-py session wait {short(session.id)}")


@sessions.command("wait")
def wait_for_session(
    session: SessionArgument = None,
    timeout: Annotated[float | None, typer.Option(metavar="S", help="Longest wait; exit 6.")] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stay until a session has ended, and show each round; exit 1 unless it finished.

    Example: fedn-py session wait --timeout 600
    """
    from fedn_py.cli.finding import find_session

    network = open_network(profile)
    _watch(network, find_session(network, session), timeout, as_json=as_json)


@sessions.command("list")
def list_sessions(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List all sessions, the newest first.

    Example: fedn-py session list
    """
    views = open_network(profile).sessions()

    def human() -> None:
        rows = [
            (v.number, v.name, v.status, f"{v.rounds_done}/{v.rounds_wanted}", instant(v.created_at), short(v.id))
            for v in views
        ]
        empty = "No session yet: fedn-py session start --help"
        print_table(("number", "name", "status", "rounds", "created", "id"), rows, empty=empty)

    print_data(views, human, as_json=as_json)


@sessions.command("show")
def show_session(session: SessionArgument = None, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show one session.

    Example: fedn-py session show
    """
    from fedn_py.cli.finding import find_session

    view = find_session(open_network(profile), session)
    print_data(view, lambda: _print_session(view), as_json=as_json)


@sessions.command("privacy")
def show_privacy(session: SessionArgument = None, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show what each party sees of what in a session, what that rests on and what breaks it.

    Example: fedn-py session privacy
    """
    from fedn_py.cli.finding import find_session

    network = open_network(profile)
    view = network.privacy(find_session(network, session).id)
    print_data(view, lambda: _print_privacy(view), as_json=as_json)


@sessions.command("pause")
def pause_session(session: SessionArgument = None, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Begin no further round after the one under way.

    Example: fedn-py session pause
    """
    from fedn_py.cli.finding import find_session

    network = open_network(profile)
    view = network.pause_session(find_session(network, session).id)
    print_data(view, lambda: _print_status(view), as_json=as_json)


@sessions.command("resume")
def resume_session(
    session: SessionArgument = None,
    new_work: Annotated[
        bool,
        typer.Option(
            "--new-work",
            help="Masked: train anew from the same global model with another seed: the way out of a privacy hold.",
        ),
    ] = False,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a paused or failed session.

    Example: fedn-py session resume
    """
    from fedn_py.cli.finding import find_session

    network = open_network(profile)
    view = network.resume_session(find_session(network, session).id, new_work=new_work)
    print_data(view, lambda: _print_status(view), as_json=as_json)


@sessions.command("change")
def change_session(
    session: SessionArgument = None,
    *,
    rounds_wanted: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Rounds to run in all; not fewer than are done.")
    ] = None,
    clients_wanted: Annotated[
        int | None, typer.Option(min=0, help="Close a round with so many updates; 0: all.")
    ] = None,
    clients_required: Annotated[int | None, typer.Option(min=1, help="With fewer, a round fails.")] = None,
    update_timeout: Annotated[float | None, typer.Option(metavar="S", help="Seconds a client has for a round.")] = None,
    validation_timeout: Annotated[float | None, typer.Option(metavar="S", help="Seconds for a validation.")] = None,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, help="Attempts at a round before the session fails.")
    ] = None,
    retry_delay: Annotated[float | None, typer.Option(metavar="S", help="Seconds between two attempts.")] = None,
    gather_timeout: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds to wait for the wanted clients.")
    ] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a session's limits from its next attempt on; the one under way keeps its own.

    Example: fedn-py session change --rounds 20 --clients-required 3
    """
    from fedn_py.cli.finding import find_session

    asked = {
        "rounds": rounds_wanted,
        "clients_wanted": clients_wanted,
        "clients_required": clients_required,
        "update_timeout_s": update_timeout,
        "validation_timeout_s": validation_timeout,
        "max_attempts": max_attempts,
        "retry_delay_s": retry_delay,
        "gather_timeout_s": gather_timeout,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    if not changes:
        raise typer.BadParameter("say what to change, such as --rounds 20")
    network = open_network(profile)
    view = network.change_session(find_session(network, session).id, **changes)
    print_data(view, lambda: _print_session(view), as_json=as_json)


@sessions.command("stop")
def stop_session(
    session: SessionArgument = None,
    after_round: Annotated[
        bool, typer.Option("--after-round", help="Finish the round under way; otherwise it is given up.")
    ] = False,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a session for good; its models stay.

    Example: fedn-py session stop --after-round
    """
    from fedn_py.cli.finding import find_session

    network = open_network(profile)
    view = network.stop_session(find_session(network, session).id, after_round=after_round)
    print_data(view, lambda: _print_status(view), as_json=as_json)


def _package(network: "Network", text: str) -> Any:
    from fedn_py.cli.finding import find_package
    from fedn_py.cli.progress import transferring

    if not Path(text).is_file():
        return find_package(network, text).digest
    with transferring("package") as tell:
        return network.upload_package(text, tell).digest


def _model(network: "Network", text: str) -> Any:
    from fedn_py.cli.finding import find_model
    from fedn_py.cli.progress import transferring

    if not Path(text).is_file():
        return find_model(network, text).digest
    with transferring("seed model") as tell:
        return network.upload_seed_model(text, tell).digest


def _parameters(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as fault:
        raise typer.BadParameter(f"not JSON: {fault}", param_hint="--parameters") from None
    if not isinstance(found, dict):
        raise typer.BadParameter('must be a JSON object, such as {"epochs": 2}', param_hint="--parameters")
    return found


def _watch(network: "Network", session: "SessionView", timeout: float | None, *, as_json: bool) -> None:
    from fedn_py.cli.progress import watching

    with watching() as tell:
        ended = network.wait(session.id, timeout_s=timeout, on_change=tell)
    print_data(ended, lambda: _print_session(ended), as_json=as_json)
    if ended.status != "finished":
        raise typer.Exit(Exit.FAILED)
    hint(f"fedn-py model download {short(ended.final_model)}")


_COMES = {"pause": "rests", "stop": "ends", "end": "ends"}
"""What a session does when its round under way has ended, by the wish that is open."""


def _print_status(view: "SessionView") -> None:
    comes = f"; it {_COMES[view.intent]} after the round under way" if view.intent in _COMES else ""
    print(f"session {view.name} is {view.status}{comes}")


def _print_privacy(view: "PrivacyView") -> None:
    of_round = f"round {view.round_number}" if view.round_number else "at the least"
    terms = f"{view.scheme}: k {view.k}, r {view.r}, g_min {view.g_min}, reopen {view.reopen} ({of_round})"
    print_facts([("session", view.name), ("masking", "none" if view.scheme == "none" else terms)])
    print()
    seen = [(row.datum, row.party, row.exposure, row.text) for row in view.rows]
    print_table(("datum", "party", "sees", "how"), seen, empty="")
    print()
    rests_on = [(one.holds, one.broken_by) for one in view.assumptions]
    print_table(("this has to hold", "what breaks it"), rests_on, empty="")


def _print_session(view: "SessionView") -> None:
    print_facts(
        [
            ("session", f"{view.name} (number {view.number})"),
            ("id", view.id),
            ("status", view.status),
            ("reason", view.reason),
            ("after the round", _COMES.get(view.intent, "")),
            ("rounds", f"{view.rounds_done} of {view.rounds_wanted}"),
            ("clients", f"{view.options.clients_required} or more, {view.options.clients_wanted or 'all'} wanted"),
            ("created", instant(view.created_at)),
            ("package", view.options.package),
            ("seed model", view.options.seed_model),
            ("masking", terms_shown(view.options)),
            ("parameters", json.dumps(dict(view.options.parameters)) if view.options.parameters else ""),
            ("final model", view.final_model),
        ]
    )
