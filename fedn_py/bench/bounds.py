"""How much memory the processes of a network may hold beside what they hold at rest, and how much they did.

At rest all clients are attached and there is no round. A reducer and a combiner may hold three models and 64 MiB more,
for any number of clients, and a client three models; a process of several clients as much as all of them together.
"""

import math
from collections.abc import Mapping
from typing import Any

_MODELS = 3
_SERVER_BYTES = 64 * 1024**2


def memory_bounds(point: Mapping[str, Any]) -> dict[str, int]:
    """Return, by role, by how many bytes a process may grow."""
    models = _MODELS * int(point["model_bytes"])
    clients_in_a_process = math.ceil(point["clients"] / point["client_processes"])
    return {
        "reducer": models + _SERVER_BYTES,
        "combiner": models + _SERVER_BYTES,
        "clients": models * clients_in_a_process,
    }


def grown_bytes(point: Mapping[str, Any], role: str) -> int:
    """Return by how many bytes that process of a role grew which grew most."""
    return max(0, int(point["peak_rss_bytes"][role]) - int(point["idle_rss_bytes"][role]))


def within_bounds(point: Mapping[str, Any]) -> dict[str, bool]:
    """Say of each role whether it kept its bound."""
    return {role: grown_bytes(point, role) <= bound for role, bound in memory_bounds(point).items()}


def servers_memory(point: Mapping[str, Any]) -> str:
    """Say by how much a reducer and a combiner grew, and their bound; in bold where it is more."""
    return f"{_grown(point, 'reducer')}, {_grown(point, 'combiner')}; {_mb(memory_bounds(point)['combiner'])}"


def client_memory(point: Mapping[str, Any]) -> str:
    """Say by how much a client grew, and its bound; nothing where several share a process."""
    if point["client_processes"] < point["clients"]:
        return ""
    return f"{_grown(point, 'clients')}; {_mb(memory_bounds(point)['clients'])}"


def _grown(point: Mapping[str, Any], role: str) -> str:
    grown = _mb(grown_bytes(point, role))
    return grown if within_bounds(point)[role] else f"**{grown}**"


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
