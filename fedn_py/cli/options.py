"""The options that many commands share, and the network that they speak to."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fedn_py.api import Network

ProfileOption = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help="Connection profile (url, token_file, authority_file). Default: $FEDN_PROFILE, else the sandbox's in "
        "this folder, else your own.",
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]

SessionArgument = Annotated[
    str | None,
    typer.Argument(metavar="[SESSION]", help="Id, its first letters, number or name. Default: the newest."),
]


def open_network(profile: Path | None) -> "Network":
    """Return the network that a profile, or the defaults, name."""
    from fedn_py.api import Network, find_profile, load_profile

    return Network.of(load_profile(find_profile(profile, os.environ, Path.cwd())))


def group(help_text: str) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
