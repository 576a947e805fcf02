"""Validation: what clients measured, as curves over the rounds of one session, or of two that are compared."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flask import render_template, request
from pydantic import Field

from fedn_py.identity import SessionId
from fedn_py.reducer.control import Page
from fedn_py.reducer.shown_measurements import ValidationView
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.web.schemas import Request, SessionText
from fedn_py.web.ui.curves import Measurements, figures
from fedn_py.web.ui.site import Site, asked

_SESSIONS = 100
"""The newest ones, to choose from."""

_ROUNDS = 500
"""In one chart; before them, others come on a page of their own."""

_TABLED = 50
"""Of the newest rounds of a chart; the exported table has all."""

_LONGEST_LABEL = 20
"""In characters, of a curve."""


class ValidationQuery(Request):
    """What a validation page shows."""

    session: SessionText | None = Field(default=None, description="the newest one, where it is not given")
    against: SessionText | None = Field(default=None, description="another session, drawn over it")
    until: int | None = Field(default=None, ge=1, le=2**31, description="no round behind this one")


@dataclass(frozen=True, slots=True)
class Difference:
    """An option that two sessions have differently, as people read its values."""

    name: str
    first: str
    second: str


def install(site: Site) -> None:
    """Add the page of validation."""

    @site.blueprint.get("/validation")
    def show_validation() -> str:
        query = asked(ValidationQuery)
        sessions: Page[SessionView]
        if query.session is None:
            (sessions,) = site.ask_all(site.control.sessions(limit=_SESSIONS))
            if not sessions.items:
                return render_template("validation_none.html")
            return _show(site, query, sessions, sessions.items[:1])
        wanted = [SessionId(one) for one in (query.session, query.against) if one]
        sessions, *chosen = site.ask_all(
            site.control.sessions(limit=_SESSIONS), *(site.control.session(one) for one in wanted)
        )
        return _show(site, query, sessions, tuple(chosen))


def _show(site: Site, query: ValidationQuery, sessions: Page[SessionView], chosen: tuple[SessionView, ...]) -> str:
    ends = [min(query.until or one.rounds_done, one.rounds_done) for one in chosen]
    pages: tuple[Page[ValidationView], ...] = site.ask_all(
        *(
            site.control.validations(one.id, after=str(max(end - _ROUNDS, 0)), limit=_ROUNDS)
            for one, end in zip(chosen, ends, strict=True)
        )
    )
    measured = [Measurements(label, page.items) for label, page in zip(_labels(chosen), pages, strict=True)]
    first, second = measured[0], measured[1] if len(measured) > 1 else None
    releasing = sorted(_releasing(first))
    clients = [client for client in request.args.getlist("client") if client in releasing]
    return render_template(
        "validation.html",
        session=chosen[0],
        against=chosen[1] if len(chosen) > 1 else None,
        sessions=sessions.items,
        labels=[one.label for one in measured],
        parts_of=(
            ("Validation of the global models", figures("validation", first, second, clients)),
            ("While training", figures("training", first, second, clients)),
        ),
        rounds=first.rounds,
        pending=[one.number for one in first.rounds if not one.validated],
        releasing=releasing,
        clients=clients,
        differences=tuple(_differences(chosen[0].options, chosen[1].options)) if len(chosen) > 1 else (),
        earlier=ends[0] - _ROUNDS if ends[0] > _ROUNDS else None,
        tabled=_TABLED,
    )


def _releasing(measured: Measurements) -> set[str]:
    """Return the clients whose own values are there to be drawn."""
    metrics = (metric for one in measured.rounds for metric in (*one.metrics, *one.training))
    return {client for metric in metrics for client in metric.by_client}


def _labels(chosen: tuple[SessionView, ...]) -> list[str]:
    """Return what tells sessions apart in a chart: their names, where there is room for them."""
    names = [one.name for one in chosen]
    fit = len(set(names)) == len(names) and all(len(name) <= _LONGEST_LABEL for name in names)
    return names if fit else [f"session {one.number}" for one in chosen]


def _differences(first: SessionOptions, second: SessionOptions) -> Iterator[Difference]:
    one, other = dict(_flat(asdict(first))), dict(_flat(asdict(second)))
    for name in sorted(one.keys() | other.keys(), key=[*one, *other].index):
        values = one.get(name), other.get(name)
        if values[0] != values[1] and name != "name":
            yield Difference(name, _words(values[0]), _words(values[1]))


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Give options inside of options by their place, such as masked.clip."""
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _words(value: object) -> str:
    if value is None or value == {}:
        return "not given"
    return value if isinstance(value, str) else json.dumps(value)
