"""Events: what happened and why, newest first, searched and filtered by what stands in the page's URL."""

import shlex
from collections.abc import Mapping
from urllib.parse import urlencode

from flask import render_template

from fedn_py.reducer.shown_events import EventView
from fedn_py.web.schemas import EventPath, EventQuery
from fedn_py.web.ui.site import Site, asked

_EVENTS = 50
_SESSIONS = 100
"""The newest ones, to choose from."""

_ABOVE_ALL = 2**53
"""Below this number are all events: the newest of them come first."""

_FILTERS = ("text", "kind", "severity", "session", "round", "client", "combiner")


def install(site: Site) -> None:
    """Add the pages of events."""

    @site.blueprint.get("/events")
    def show_events() -> str:
        query = asked(EventQuery)
        wanted = query.asked() | {"after": None, "before": query.before or _ABOVE_ALL, "limit": _EVENTS}
        events, sessions = site.ask_all(site.control.events(**wanted), site.control.sessions(limit=_SESSIONS))
        given = _given(query)
        return render_template(
            "events.html",
            events=events,
            sessions=sessions.items,
            names={one.id: one.name for one in sessions.items},
            given=given,
            before=query.before,
            place_of=place_of,
            kinds=sorted({event.kind for event in events.items}),
            command=_command(given),
            rest=f"/events?{urlencode(given | {'before': str(query.before or _ABOVE_ALL), 'limit': str(_EVENTS)})}",
        )

    @site.blueprint.get("/events/<seq>")
    def show_event(seq: str) -> str:
        event = site.ask(site.control.event(asked(EventPath, seq=seq).seq))
        return render_template("event.html", event=event, place_of=place_of)


def place_of(name: str, event: EventView) -> str:
    """Return the page of something that an event is about; empty for what has none."""
    value = event.subject[name]
    match name:
        case "session":
            return f"/sessions/{value}"
        case "round" if "session" in event.subject:
            return f"/sessions/{event.subject['session']}/rounds/{value}"
        case "model":
            return f"/models/{value}"
        case "package":
            return f"/packages/{value}"
        case "combiner":
            return f"/network#combiner-{value}"
        case "client":
            return f"/events?{urlencode([(name, value)])}"
        case _:
            return ""


def _given(query: EventQuery) -> dict[str, str]:
    """Return the filters that are set, by their names in a URL."""
    found = query.model_dump(by_alias=True, include={name.replace("round", "round_number") for name in _FILTERS})
    return {name: str(found[name]) for name in _FILTERS if found.get(name)}


def _command(given: Mapping[str, str]) -> str:
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    return shlex.join(["fedn-py", "event", "list", *options])
