"""Whether all is well with a network, at a glance: each finding in words, and what to do next.

The whole is good only where every finding is.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fedn_py.reducer.absences import MISSED_FOR_S
from fedn_py.reducer.shown_events import EventView
from fedn_py.reducer.shown_network import ClientView, CombinerView, StatusView
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionView
from fedn_py.runtime.passed_time import ago
from fedn_py.web.ui.words import plural

Look = Literal["good", "wait", "bad"]

_NAMED = 3
_UNDER_WAY = frozenset({"running", "waiting", "paused", "failed"})
_HEADLINES: dict[Look, str] = {
    "good": "All is well",
    "wait": "Something waits",
    "bad": "Something needs you",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        place, link: where more of it is, and what people call that.
    """

    look: Look
    text: str
    place: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class NextStep:
    """What to do next; ``place`` is where, empty for nothing that a page could do."""

    text: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """All findings and what follows from them."""

    findings: tuple[Finding, ...]
    next: NextStep

    @property
    def look(self) -> Look:
        """The worst of all findings."""
        looks = {one.look for one in self.findings}
        return "bad" if "bad" in looks else "wait" if "wait" in looks else "good"

    @property
    def headline(self) -> str:
        """The whole in a few words."""
        return _HEADLINES[self.look]


@dataclass(frozen=True, slots=True)
class Seen:
    """What health is judged by.

    Attributes:
        session: the newest one.
        now: the newest round of it, None before the first.
        failure: the newest event of an error, None where there is none.
        more_clients: there are others behind ``clients``, which were not looked at.
    """

    network: StatusView
    session: SessionView
    now: RoundView | None
    combiners: Sequence[CombinerView]
    clients: Sequence[ClientView]
    failure: EventView | None
    more_clients: bool = False

    @property
    def under_way(self) -> bool:
        """Whether the newest session may yet make models."""
        return self.session.status in _UNDER_WAY


def health_of(seen: Seen, *, may_change: bool) -> Health:
    """Judge what was seen; ``may_change``: whoever looks can do something about it here."""
    findings = (*_of_session(seen), *_of_stores(seen), *_of_combiners(seen), *_of_clients(seen), *_of_failure(seen))
    return Health(findings, _next(seen, may_change=may_change))


def _of_session(seen: Seen) -> Iterator[Finding]:
    session, network = seen.session, seen.network
    place = f"/sessions/{session.id}"
    if network.restored:
        yield Finding("bad", network.restored)
    if session.status == "failed":
        yield Finding("bad", f"{session.name} stopped trying: {session.reason}", place, "the session")
    elif session.status == "paused":
        yield Finding("wait", f"{session.name} is paused: {session.reason}", place, "the session")
    elif network.waiting and seen.under_way:
        yield Finding("wait", f"round {network.round_number} waits: {network.waiting}", place, "the session")
    elif seen.under_way:
        yield Finding("good", f"round {network.round_number} of {session.rounds_wanted} goes on: {network.phase}")
    else:
        reason = f" {session.reason}" if session.reason else ""
        yield Finding(
            "good", f"{session.name} {session.status}{reason} after {plural(session.rounds_done, 'round')}; none runs"
        )


def _of_stores(seen: Seen) -> Iterator[Finding]:
    for store in seen.network.stores:
        if not store.healthy:
            yield Finding("bad", f"the store of {store.keeps} ({store.kind}) does not work: {store.detail}")
    if all(store.healthy for store in seen.network.stores):
        kinds = " and ".join(store.kind for store in seen.network.stores)
        yield Finding("good", f"stores work: {kinds}")


def _of_combiners(seen: Seen) -> Iterator[Finding]:
    here = [one for one in seen.combiners if one.connected]
    away = [one for one in seen.combiners if not one.connected and _is_missed(one.last_seen)]
    if away:
        yield Finding("wait" if here else "bad", f"away: {_named([(one.name, one.last_seen) for one in away])}")
    elif not here:
        yield Finding("bad", "no combiner is connected", "/network", "the network")
    if here:
        yield Finding("good", f"{plural(len(here), 'combiner')} connected")


def _of_clients(seen: Seen) -> Iterator[Finding]:
    away = [(one.name, one.last_seen) for one in seen.clients if not one.connected and _is_missed(one.last_seen)]
    here, required = seen.network.clients, seen.session.options.clients_required
    if seen.under_way and here < required:
        yield Finding("wait", f"{plural(here, 'client')} attached, {required} are required", "/network", "the network")
    elif not here:
        yield Finding("wait", "no client is attached", "/network", "the network")
    else:
        yield Finding("good", f"{plural(here, 'client')} attached")
    looked_at = f", of the first {len(seen.clients)}" if seen.more_clients else ""
    if seen.more_clients and not away:
        yield Finding("good", f"away: nobody{looked_at}; the others are on the page", "/network", "Network")
    if away:
        away.sort(key=lambda one: -one[1])
        yield Finding("wait", f"away{looked_at}: {_named(away)}", "/network", "the network")


def _of_failure(seen: Seen) -> Iterator[Finding]:
    failure = seen.failure
    if failure is None:
        yield Finding("good", "no failure so far")
        return
    made_since = seen.now is not None and seen.now.status == "done" and seen.now.started_at > failure.time
    if not seen.under_way or made_since or seen.now is None:
        later = "; rounds succeeded since" if made_since else ""
        yield Finding(
            "good", f"last failure {ago(failure.time)}: {failure.text}{later}", "/events?severity=error", "events"
        )
    else:
        yield Finding("bad", f"failed {ago(failure.time)}: {failure.text}", "/events?severity=error", "events")


def _is_missed(last_seen: float) -> bool:
    return time.time() - last_seen < MISSED_FOR_S


def _named(away: Sequence[tuple[str, float]]) -> str:
    first = ", ".join(f"{name} (last seen {ago(last_seen)})" for name, last_seen in away[:_NAMED])
    return first + (f" and {len(away) - _NAMED} more" if len(away) > _NAMED else "")


def _next(seen: Seen, *, may_change: bool) -> NextStep:
    session, network = seen.session, seen.network
    place = f"/sessions/{session.id}"
    broken = [store for store in network.stores if not store.healthy]
    if broken:
        return NextStep(f"Bring the store of {broken[0].keeps} back; work waits for it and goes on by itself.")
    if not any(one.connected for one in seen.combiners):
        return NextStep("Start a combiner: fedn-py run combiner.")
    if session.status in {"paused", "failed"}:
        return NextStep("See why, and resume it" if may_change else "See why", place)
    if seen.under_way and network.clients < session.options.clients_required:
        return NextStep("Add a client", "/clients") if may_change else NextStep("Have more clients attach.")
    if seen.under_way:
        return NextStep("Watch the round", place)
    if session.final_model is not None:
        return NextStep("Look at the final model", f"/models/{session.final_model}")
    return NextStep("Start another session", "/sessions/new") if may_change else NextStep("See the session", place)
