"""Walking the trail of models over the REST API, and having every object of it read by the reducer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedn_py.api import Network
from fedn_py.cli.finding import find_session
from fedn_py.identity import Digest
from fedn_py.reducer.shown_objects import ModelView
from fedn_py.reducer.shown_sessions import SessionView
from fedn_py.reducer.trail import Link, faults_of


@dataclass(frozen=True, slots=True)
class TrailVerified:
    """What came of it; faults in words, none where all is right."""

    sessions: int
    models: int
    packages: int
    size: int
    faults: tuple[str, ...]


def verify_trail(network: Network, session: str | None, progress: Callable[[int, int], None]) -> TrailVerified:
    """Verify one session's trail and objects; without one, those of all sessions and all that was ever uploaded."""
    sessions = network.sessions() if session is None else [find_session(network, session)]
    faults: list[str] = []
    models: dict[str, int] = {}
    if session is None:
        models |= {view.digest: view.size for view in network.models()}
    for view in sessions:
        made = network.models(view.id)
        faults += _faults_of(view, made)
        models |= {one.digest: one.size for one in made}
        if view.options.seed_model not in models:
            models[view.options.seed_model] = network.model(view.options.seed_model).size
    named = {view.options.package for view in sessions}
    packages: dict[str, int] = {
        one.digest: one.size for one in network.packages() if session is None or one.digest in named
    }
    faults += _read_all(network, models, packages, progress)
    size = sum(models.values()) + sum(packages.values())
    return TrailVerified(len(sessions), len(models), len(packages), size, tuple(faults))


def _faults_of(view: SessionView, made: Sequence[ModelView]) -> list[str]:
    links = [Link(one.number, one.parent, one.digest) for one in made]
    faults = list(faults_of(view.name, Digest(view.options.seed_model), links))
    if len(made) < view.rounds_done:  # it may have gone on meanwhile
        faults.append(f"session {view.name} has {view.rounds_done} rounds done and {len(made)} models")
    return faults


def _read_all(
    network: Network, models: dict[str, int], packages: dict[str, int], progress: Callable[[int, int], None]
) -> list[str]:
    faults: list[str] = []
    done, total = 0, sum(models.values()) + sum(packages.values())
    for kind, sizes in (("model", models), ("package", packages)):
        for digest, size in sizes.items():
            found = network.verify_object(digest, lambda read, _, before=done: progress(before + read, total))  # type: ignore[misc]
            if found.outcome != "whole":
                faults.append(f"{kind} {digest} is {found.outcome}: {found.fault}")
            done += size
            progress(done, total)
    return faults
