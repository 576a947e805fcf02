"""Finding the session, model, package or client that a person means by a few letters."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from fedn_py.api import Network
from fedn_py.errors import PeerFault
from fedn_py.reducer.shown_network import ClientView
from fedn_py.reducer.shown_objects import ModelView, PackageView
from fedn_py.reducer.shown_sessions import SessionView

View = TypeVar("View")


class NotFound(PeerFault):
    """Nothing goes by this name."""


class Ambiguous(PeerFault):
    """More than one thing goes by this name."""


def find_session(network: Network, text: str | None) -> SessionView:
    """Return a session by its id, the beginning of it, its number or name; without one, the newest."""
    sessions = network.sessions()
    if text is None:
        if not sessions:
            raise NotFound("there is no session yet", remedy="Start one: fedn-py session start --help.")
        return sessions[0]
    exact = [view for view in sessions if text in {view.id, str(view.number), view.name}]
    return exact[0] if exact else _by_start(sessions, lambda view: view.id, "session", text)


def find_model(network: Network, text: str) -> ModelView:
    """Return a model by its digest or the beginning of it."""
    return _by_start(network.models(), lambda view: view.digest, "model", text)


def find_package(network: Network, text: str) -> PackageView:
    """Return a package by its digest, the beginning of it, or its name (the newest of it)."""
    packages = network.packages()
    named = [view for view in packages if view.name == text]
    return named[0] if named else _by_start(packages, lambda view: view.digest, "package", text)


def find_client(network: Network, text: str) -> ClientView:
    """Return a client by its name (the one that is connected, where several had it), its id or the beginning of it."""
    clients = sorted(network.clients(), key=lambda view: (view.connected, view.last_seen), reverse=True)
    named = [view for view in clients if view.name == text]
    return named[0] if named else _by_start(clients, lambda view: view.id, "client", text)


def _by_start(views: Sequence[View], name: Callable[[View], str], kind: str, text: str) -> View:
    found = {name(view): view for view in views if text and name(view).startswith(text.lower())}
    if not found:
        raise NotFound(f"there is no {kind} {text}", remedy=f"List them: fedn-py {kind} list.")
    if len(found) > 1:
        raise Ambiguous(f"{len(found)} {kind}s begin with {text}", remedy="Give more of its letters.")
    return next(iter(found.values()))
