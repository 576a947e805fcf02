"""What a new site is given: settings that reach this network, and the commands that use them."""

import shlex

import yaml

from fedn_py import __version__
from fedn_py.web.surroundings import Joining

WHEEL = f"fedn_py-{__version__}-py3-none-any.whl"

_SETTINGS = """\
# Settings of a client:  fedn-py run client -c client.yaml
# This file, {token} and authority.pem lie in one folder; relative paths start there.

name: {name}
reducer: {reducer}
authority_file: authority.pem
token_file: {token}

# Its key and its memory. Keep this folder, and never put an older copy of it back.
state_dir: state

# What follows is this site's own say. Lines that begin with # and a key are off; take the # away to use them.

# This site's data, handed to the compute package and to nobody else.
#data_path: data

# How far metrics go: client = under this client's name, mean = inside means only, none = not at all.
metrics_release: client

# Whether the last lines that a failed entry point printed may leave this site.
release_logs: true

# The only packages that run here, by their digests. Absent, the reducer chooses which code runs here.
#allowed_packages: []

# own = run packages in this Python; build = make the environment that a package asks for.
environments: own
"""


def client_settings(name: str, reducer: str) -> str:
    """Return a client's settings file.

    Args:
        name: in the form of identity.parse_name.
        reducer: host:port of the reducer's gRPC, as the site calls it.
    """
    return _SETTINGS.format(name=_as_yaml(name), reducer=_as_yaml(reducer), token=_as_yaml(token_file(name)))


def reducer_address(called: str, joining: Joining | None) -> str:
    """Return host:port of the reducer's gRPC.

    Args:
        called: host or host:port that its web pages are called by.
    """
    host, _, port = called.rpartition(":")
    return f"{host if port.isdigit() else called}:{joining.grpc_port if joining else 12070}"


def token_file(name: str) -> str:
    """Return what a site's token file is called."""
    return f"{name}.token"


def token_command(name: str, days: float) -> str:
    """Return the operator's command that makes a client's token with its join credential."""
    label = shlex.quote(name)
    options = f"--role client --label {label} --days {days:g} --operator-key operator.key -o {label}.token"
    return f"fedn-py token create {options}"


def start_command(name: str, *, install: bool) -> str:
    """Return the line that starts a client at its site, in the folder of its files.

    Args:
        install: this version is not there yet.
    """
    # Browsers save files so that others can read them.
    closed = f"chmod 600 {shlex.quote(token_file(name))}"
    if not install:
        return f"{closed} && fedn-py run client -c client.yaml"
    installed = f"python3 -m venv fedn && fedn/bin/pip install ./{WHEEL}"
    return f"{closed} && {installed} && fedn/bin/fedn-py run client -c client.yaml"


def _as_yaml(text: str) -> str:
    """Return a text as a YAML scalar on one line, in quotes where it would be read as something else."""
    return yaml.safe_dump(text, width=1_000).removesuffix("\n").removesuffix("\n...")
