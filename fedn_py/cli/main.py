"""``fedn-py``: the command line of the network.

Data goes to standard output, everything for people to standard error; the exit codes are in ``exits.py``. Imports
that cost time are inside the commands, so that ``--help`` is quick.
"""

import os
import sys
from typing import Annotated

import typer

from fedn_py.cli import access, artifacts, backup, bench, network, operator, projects, rounds, run, sessions
from fedn_py.cli.exits import MEANING, Exit, exit_code
from fedn_py.cli.options import group
from fedn_py.errors import FednError

_ABOUT = "Federated learning through tiers: train one model over data that never leaves its owners."
_EPILOG = "Begin with: fedn-py sandbox.   Exit codes: " + ", ".join(
    f"{code.value} {meaning}" for code, meaning in MEANING.items()
)


_VERBOSE = frozenset({"-v", "--verbose"})


def build() -> typer.Typer:
    """Return the whole command line."""
    app = group(_ABOUT)

    @app.callback(epilog=_EPILOG)
    def about(
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show where in the code a fault arose.")] = False,
        version: Annotated[
            bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
        ] = False,
    ) -> None:
        del verbose, version  # main and the callback have seen to them already

    app.command("sandbox")(projects.sandbox)
    app.command("new")(projects.new)
    app.command("status")(network.status)
    app.command("open")(network.open_pages)
    app.add_typer(run.run, name="run")
    app.add_typer(projects.config, name="config")
    app.add_typer(artifacts.packages, name="package")
    app.add_typer(artifacts.models, name="model")
    app.add_typer(sessions.sessions, name="session")
    app.add_typer(rounds.rounds, name="round")
    app.add_typer(network.clients, name="client")
    app.add_typer(network.combiners, name="combiner")
    app.add_typer(network.events, name="event")
    app.add_typer(access.tokens, name="token")
    app.add_typer(access.certificates, name="certificate")
    app.add_typer(operator.operators, name="operator")
    app.add_typer(backup.backups, name="backup")
    app.add_typer(bench.benches, name="bench")
    return app


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # Where in the line it stands makes no difference: it is added after a command has failed.
    words = [word for word in sys.argv[1:] if word not in _VERBOSE]
    verbose = len(words) < len(sys.argv) - 1
    # gRPC's own lines on standard error repeat what our faults say in words; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        build()(args=words, prog_name="fedn-py")
    except FednError as fault:
        _tell(fault, verbose=verbose)
        sys.exit(exit_code(fault))
    except BrokenPipeError:
        # Whoever read the output has had enough of it; what is left of it has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.OK)
    except Exception as fault:
        _tell(fault, verbose=verbose)
        sys.exit(Exit.FAILED)


def _tell(fault: Exception, *, verbose: bool) -> None:
    from fedn_py.cli.output import print_fault
    from fedn_py.runtime.processes import explain

    if "--json" in sys.argv:
        code = fault.code if isinstance(fault, FednError) else type(fault).__name__
        print_fault(code, str(fault), fault.remedy if isinstance(fault, FednError) else "")
    explain(fault, sys.stderr, verbose=verbose)


def _show_version(asked: bool) -> None:
    if asked:
        from fedn_py import __version__

        print(f"fedn-py {__version__}")
        raise typer.Exit
