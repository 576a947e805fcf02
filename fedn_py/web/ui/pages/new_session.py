"""The page that starts a session: a form, checked in place by what REST checks with."""

from flask import Response, render_template, request

from fedn_py.errors import PeerFault
from fedn_py.web.problems import status_of
from fedn_py.web.ui.session_fit import notes_on, who_is_moved, why_not_masked
from fedn_py.web.ui.session_form import LABELS, Filled, as_body, as_command, first_values, read_form
from fedn_py.web.ui.site import Site, go_to

_LISTED = 100


def install(site: Site) -> None:
    """Add the form, its check, and the start."""

    @site.blueprint.get("/sessions/new")
    def new_session() -> str:
        return _page(site, None)

    @site.blueprint.post("/sessions/check")
    def check_session() -> str:
        return render_template("session_check.html", **_shown(site, read_form(request.form)))

    @site.blueprint.post("/sessions")
    def start_session() -> Response:
        filled = read_form(request.form)
        if filled.request is None:
            return Response(_page(site, filled), 422)
        try:
            started = site.ask(site.control.start_session(filled.request.options()))
        except PeerFault as refused:
            return Response(_page(site, filled, refused), status_of(refused))
        return go_to("ui.session", session=started.id)


def _page(site: Site, filled: Filled | None, refused: PeerFault | None = None) -> str:
    packages, models, combiners = site.ask_all(
        site.control.packages(limit=_LISTED), site.control.models(None, limit=_LISTED), site.control.combiners()
    )
    seeds = [one for one in models.items if one.session is None] or models.items  # a trained one is chosen on purpose
    newest = [items[0].digest if items else "" for items in (packages.items, seeds)]
    package, seed_model = request.args.get("package", newest[0]), request.args.get("seed", newest[1])
    first = first_values(site.network(), package, seed_model)
    filled = read_form(first) if filled is None else filled.over(first)
    return render_template(
        "new_session.html",
        packages=packages.items,
        models=models.items,
        not_masked=why_not_masked(site.network()),
        moved=who_is_moved(combiners),
        refused=refused,
        **_shown(site, filled),
    )


def _shown(site: Site, filled: Filled) -> dict[str, object]:
    asked = filled.request
    return {
        "filled": filled,
        "labels": LABELS,
        "notes": notes_on(filled.typed, site.network()),
        "command": as_command(asked) if asked is not None else "",
        "body": as_body(asked) if asked is not None else "",
    }
