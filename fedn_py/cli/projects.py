"""``new``, ``config`` and ``sandbox``: beginning."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from fedn_py.cli.options import JsonOption, group
from fedn_py.cli.output import hint, note, print_data, print_table

config = group("Settings files.")


class Framework(StrEnum):
    """The library that an example project trains with."""

    sklearn = "sklearn"
    keras = "keras"


class RoleName(StrEnum):
    """A process of the network."""

    reducer = "reducer"
    combiner = "combiner"
    client = "client"


def new(
    name: Annotated[str, typer.Argument(help="Folder to make.")],
    framework: Annotated[Framework, typer.Option(help="What it trains with.")] = Framework.sklearn,
    as_json: JsonOption = False,
) -> None:
    """Copy an example project to start from.

    Example: fedn-py new my-project --framework sklearn
    """
    from fedn_py.execution.projects import copy_project

    folder = copy_project(framework.value, Path(name))
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def human() -> None:
        print(folder)
        note(f"{len(files)} files; begin with {folder / 'README.md'}")
        hint(f"fedn-py package validate {folder}")

    print_data({"folder": str(folder), "files": files}, human, as_json=as_json)


@config.command("check")
def check_config(
    role: Annotated[RoleName, typer.Option(help="Whose settings they are.")],
    file: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Settings (YAML). Default: FEDN_ variables alone."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check settings and show each with where it came from; every fault is told at once.

    Example: fedn-py config check -c client.yaml --role client
    """
    from fedn_py.settings import ROLES, explain_settings

    shown = explain_settings(ROLES[role.value], file, os.environ)

    def human() -> None:
        print_table(("key", "value", "from"), [(s.key, s.value, s.origin) for s in shown], empty="")
        hint(f"fedn-py run {role.value}" + (f" -c {file}" if file else ""))

    print_data(shown, human, as_json=as_json)


def sandbox(
    *,
    folder: Annotated[Path, typer.Option("--dir", help="All its state.")] = Path(".fedn") / "sandbox",
    clients: Annotated[int, typer.Option(min=1, max=200, help="Client processes.")] = 8,
    combiners: Annotated[int, typer.Option(min=1, max=20, help="Combiner processes.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to run.")] = 5,
    project: Annotated[
        Path | None,
        typer.Option(help="Project with fedn.yaml. Default: scikit-learn's digits.", exists=True, file_okay=False),
    ] = None,
    masking: Annotated[
        Literal["pet", "none"],
        typer.Option(help="How updates are hidden: no server sees a single one (3 clients and more), or not at all."),
    ] = "pet",
    split: Annotated[Literal["iid", "dirichlet"], typer.Option(help="How the data is split over the clients.")] = "iid",
    leave: Annotated[bool, typer.Option("--exit", help="End when the session has ended.")] = False,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what came of it (JSON).")] = None,
    session: Annotated[
        bool,
        typer.Option(
            "--session/--no-session", help="Train at once, or start the network alone and go on at its web pages."
        ),
    ] = True,
    new_session: Annotated[
        bool, typer.Option("--new-session", help="Stop the session under way there, and begin another.")
    ] = False,
    keep_updates: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep each client's updates.")] = None,
    mongodb: Annotated[str | None, typer.Option(metavar="URI", help="Documents in MongoDB.")] = None,
    minio: Annotated[str | None, typer.Option(metavar="URL", help="Objects in MinIO or S3.")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_000, help="Port of the REST API; others follow it. 0: any. Default: the usual ones."
        ),
    ] = None,
) -> None:
    """Start a whole network on this machine and train a model on it. Nothing leaves this machine.

    Keys for --minio come from FEDN_MINIO_ACCESS_KEY and FEDN_MINIO_SECRET_KEY. Ctrl-C ends every process; the same
    command goes on where it stopped.

    Example: fedn-py sandbox --clients 8 --combiners 2 --rounds 5
    """
    from rich.console import Console

    from fedn_py.sandbox.command import run_sandbox
    from fedn_py.sandbox.options import SandboxOptions

    options = SandboxOptions(
        dir=folder,
        clients=clients,
        combiners=combiners,
        rounds=rounds,
        project=project,
        masking=masking,
        split=split,
        exit_when_done=leave,
        summary=summary,
        session=session,
        new_session=new_session,
        keep_updates=keep_updates,
        mongodb=mongodb,
        minio=minio,
        port=port,
    )
    run_sandbox(options, Console())
