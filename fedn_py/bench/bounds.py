"""How much memory the processes of a network may hold beside what they hold at rest, and how much they did."""

from collections.abc import Mapping
from typing import Any

_MODELS = 3
_SERVER_BYTES = 64 * 1024**2


def server_bound(model_bytes: int) -> int:
    """Return the bound of a reducer and of a combiner, for any number of clients."""
    return _MODELS * model_bytes + _SERVER_BYTES


def client_bound(model_bytes: int) -> int:
    """Return the bound of one client."""
    return _MODELS * model_bytes


def servers_memory(point: Mapping[str, Any]) -> str:
    """Say by how much a reducer and a combiner grew, and their bound; in bold where it is more."""
    bound = server_bound(point["model_bytes"])
    return f"{_grown(point, 'reducer', bound)}, {_grown(point, 'combiner', bound)}; {_mb(bound)}"


def client_memory(point: Mapping[str, Any]) -> str:
    """Say by how much a client grew, and its bound; nothing where several share a process."""
    if point["client_processes"] < point["clients"]:
        return ""
    bound = client_bound(point["model_bytes"])
    return f"{_grown(point, 'clients', bound)}; {_mb(bound)}"


def _grown(point: Mapping[str, Any], role: str, bound: int) -> str:
    grown = max(0, int(point["peak_rss_bytes"][role]) - int(point["idle_rss_bytes"][role]))
    return _mb(grown) if grown <= bound else f"**{_mb(grown)}**"


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
