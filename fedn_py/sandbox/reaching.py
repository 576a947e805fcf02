"""Reaching the reducer of a network in a sandbox's folder, while it starts."""

from fedn_py.api.faults import ReducerUnreachable
from fedn_py.api.network import Network
from fedn_py.api.profile import load_profile
from fedn_py.sandbox.folder import SandboxFolder


def reached(folder: SandboxFolder) -> Network | None:
    """Return the reducer's REST API, None while it does not answer yet."""
    if not folder.admin_token.exists():
        return None
    network = Network.of(load_profile(folder.profile))
    try:
        network.status()
    except ReducerUnreachable:
        return None
    return network
