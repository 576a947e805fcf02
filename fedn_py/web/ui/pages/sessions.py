"""Sessions: their list, the live page of one, and what an admin can do with it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flask import Response, render_template, request

from fedn_py.errors import PeerFault
from fedn_py.identity import SessionId
from fedn_py.reducer.control_faults import UnknownPackage, UnknownSession
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionView
from fedn_py.web.problems import status_of
from fedn_py.web.ui.limits_form import LIMITS, Changing, as_body, as_command, read_changes
from fedn_py.web.ui.site import Site, go_to
from fedn_py.web.ui.terms import masking_in_words

_LISTED = 50
_ROUNDS_SHOWN = 25
_UNDER_WAY = frozenset({"running", "waiting", "paused", "failed"})


@dataclass(frozen=True, slots=True)
class Action:
    """A button of a session, and the same as a command and a request.

    Attributes:
        place: of the page's own route; path: of the REST API's.
        confirm: what is asked before; empty where nothing is lost.
    """

    label: str
    place: str
    path: str
    command: str
    confirm: str = ""
    kind: str = ""


def install(site: Site) -> None:
    """Add the list, the page of one session and its actions."""

    @site.blueprint.get("/sessions")
    def sessions() -> str:
        found = site.ask(site.control.sessions(after=request.args.get("after", ""), limit=_LISTED))
        packages = site.ask(site.control.packages(limit=100))
        names = {one.digest: one for one in packages.items}
        return render_template("sessions.html", sessions=found, packages=names)

    @site.blueprint.get("/sessions/<session>")
    def session(session: str) -> str:
        return _page(site, _id(session), None)

    _install_actions(site)


def _install_actions(site: Site) -> None:
    @site.blueprint.post("/sessions/<session>/pause")
    def pause_session(session: str) -> Response:
        site.ask(site.control.pause_session(_id(session)))
        return go_to("ui.session", session=session)

    @site.blueprint.post("/sessions/<session>/resume")
    def resume_session(session: str) -> Response:
        site.ask(site.control.resume_session(_id(session), new_work=request.args.get("new_work") == "true"))
        return go_to("ui.session", session=session)

    @site.blueprint.post("/sessions/<session>/stop")
    def stop_session(session: str) -> Response:
        site.ask(site.control.stop_session(_id(session), after_round=request.args.get("after_round") == "true"))
        return go_to("ui.session", session=session)

    @site.blueprint.post("/sessions/<session>/change/check")
    def check_change(session: str) -> str:
        view = site.ask(site.control.session(_id(session)))
        return render_template("change_check.html", **_shown(view, read_changes(request.form)))

    @site.blueprint.post("/sessions/<session>/change")
    def change_session(session: str) -> Response:
        changing = read_changes(request.form)
        if changing.request is None:
            return Response(_page(site, _id(session), changing), 422)
        try:
            site.ask(site.control.change_session(_id(session), changing.request.changes()))
        except PeerFault as refused:
            return Response(_page(site, _id(session), changing, refused), status_of(refused))
        return go_to("ui.session", session=session)


def _id(text: str) -> SessionId:
    if not (1 <= len(text) <= 64 and all(digit in "0123456789abcdef" for digit in text)):
        raise UnknownSession(text[:80])
    return SessionId(text)


def _page(site: Site, which: SessionId, changing: Changing | None, refused: PeerFault | None = None) -> str:
    view = site.ask(site.control.session(which))
    last = _before(view.rounds_done + 2) - 1
    first = max(last - _ROUNDS_SHOWN, 0)
    rounds, package = site.ask_all(
        site.control.rounds(which, after=str(first), limit=min(_ROUNDS_SHOWN, last - first)), _package(site, view)
    )
    return render_template(
        "session.html",
        package=package,
        rounds=rounds.items,
        first_shown=first + 1,
        is_older=last <= view.rounds_done,
        now=rounds.items[-1] if rounds.items and last > view.rounds_done else None,
        under_way=view.status in _UNDER_WAY and site.network().active_session == view.id,
        actions=list(actions_of(view)),
        curves=list(curves_of(rounds.items)),
        masking=masking_in_words(view.options, rounds.items),
        limits=LIMITS,
        refused=refused,
        **_shown(view, changing or Changing.of(view)),
    )


def _shown(view: SessionView, changing: Changing) -> dict[str, object]:
    return {
        "session": view,
        "labels": {one.name: one.label for one in LIMITS},
        "changing": changing,
        "change_command": as_command(view, changing),
        "change_body": as_body(changing),
    }


async def _package(site: Site, view: SessionView) -> object:
    try:
        return await site.control.package(view.options.package)
    except UnknownPackage:
        return None


def _before(newest: int) -> int:
    """Return the round that those shown shall come before."""
    asked = request.args.get("before", "")
    return max(2, min(int(asked), newest)) if asked.isascii() and asked.isdigit() and len(asked) < 9 else newest


def actions_of(view: SessionView) -> Iterator[Action]:
    """Yield what can be done with a session in the status it has."""
    here = f"/sessions/{view.id}"

    def action(
        label: str, verb: str, query: str = "", option: str = "", *, confirm: str = "", kind: str = ""
    ) -> Action:
        place = f"{here}/{verb}{query}"
        command = shlex.join(["fedn-py", "session", verb, view.name, *([option] if option else [])])
        return Action(label, place, place, command, confirm, kind)

    if view.status in {"paused", "failed"}:
        yield action("Resume", "resume", kind="first")
        if view.options.masking != "none":
            yield action(
                "Resume with a new work",
                "resume",
                "?new_work=true",
                "--new-work",
                confirm="The way out of a privacy hold: clients train anew from the same global model, with another "
                "seed. What they uploaded for this round before is never opened. Go on?",
            )
    elif view.intent == "run" and view.status in {"running", "waiting"}:
        yield action("Pause after this round" if view.status == "running" else "Pause", "pause")
    if view.status == "running" and view.intent not in {"end", "stop"}:
        yield action(
            "Stop after this round",
            "stop",
            "?after_round=true",
            "--after-round",
            confirm=f"{view.name} ends when the round under way has; it cannot be resumed. Stop it?",
        )
    if view.status in _UNDER_WAY and view.intent != "stop":
        lost = "The work on the round under way is lost. " if view.status == "running" else ""
        yield action(
            "Stop now",
            "stop",
            confirm=f"{lost}{view.name} ends for good; its {view.rounds_done} models stay. Stop it?",
            kind="danger",
        )


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric over rounds, as the macro ``curve`` takes it."""

    title: str
    x: Sequence[int]
    series: Sequence[Mapping[str, object]] = field(default_factory=tuple)


def curves_of(rounds: Sequence[RoundView]) -> Iterator[Curve]:
    """Yield a curve for each metric that at least two rounds have: of the validation, and of the training, dashed."""
    made = [one for one in rounds if one.status == "done"]
    names = dict.fromkeys(name for one in made for name in one.metrics)
    for name in names:
        values = [one.metrics.get(name) for one in made]
        if sum(value is not None for value in values) < 2:
            continue
        series: list[Mapping[str, object]] = [{"name": "validation", "values": values}]
        trained = [one.training_metrics.get(name) for one in made]
        if any(value is not None for value in trained):
            series.append({"name": "training", "values": trained, "dashed": True})
        yield Curve(f"{name} by round", [one.number for one in made], series)
