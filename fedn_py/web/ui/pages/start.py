"""The first page: three steps from an empty network to a trained model; in one that took them, whether all is well."""

from flask import Response, render_template, request

from fedn_py.errors import FednError
from fedn_py.identity import Digest, parse_digest
from fedn_py.reducer.shown_contents import PackageFileView, TensorView
from fedn_py.reducer.shown_objects import ModelView, PackageView
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionView
from fedn_py.web.ui.health import Seen, health_of
from fedn_py.web.ui.site import Site, caller, go_to

_CLIENTS_LOOKED_AT = 200


def install(site: Site) -> None:
    """Add the first page, the page of a package, and what makes a seed model in a sandbox."""

    @site.blueprint.get("/")
    def start() -> str:
        packages, models, sessions = site.ask_all(
            site.control.packages(limit=1), site.control.models(None, limit=1), site.control.sessions(limit=1)
        )
        session = next(iter(sessions.items), None)
        package, model = next(iter(packages.items), None), next(iter(models.items), None)
        return render_template(
            "start.html",
            session=session,
            package=package,
            model=model,
            sandbox=site.sandbox is not None,
            **(_contents(site, package, model) if session is None else _state(site, session)),
        )

    @site.blueprint.get("/packages/<digest>")
    def package(digest: str) -> str:
        which = Digest(parse_digest(digest))
        found, files = site.ask_all(site.control.package(which), site.control.package_files(which))
        return render_template("package.html", package=found, files=files)

    if site.sandbox is None:
        return
    desk = site.sandbox

    @site.blueprint.post("/seed-models")
    def make_seed_model() -> Response:
        site.ask(desk.make_seed(parse_digest(request.form.get("package", ""))))
        return go_to("ui.start")


def _contents(site: Site, package: PackageView | None, model: ModelView | None) -> dict[str, object]:
    """Return what is in the newest package and the newest model."""
    files: tuple[PackageFileView, ...] = ()
    tensors: tuple[TensorView, ...] = ()
    try:
        if package is not None:
            files = site.ask(site.control.package_files(package.digest))
        if model is not None:
            tensors = site.ask(site.control.model_tensors(model.digest))
    except FednError:
        # A store that is away is told of by the findings; an object that is missing must not take the page with it.
        pass
    return {"files": files, "tensors": tensors}


def _state(site: Site, session: SessionView) -> dict[str, object]:
    before_newest = str(max(session.rounds_done - 1, 0))
    rounds, combiners, clients, failures = site.ask_all(
        site.control.rounds(session.id, after=before_newest, limit=2),
        site.control.combiners(),
        site.control.clients(limit=_CLIENTS_LOOKED_AT),
        site.control.events(severity="error", limit=1),
    )
    now: RoundView | None = rounds.items[-1] if rounds.items else None
    failure = next(iter(failures.items), None)
    seen = Seen(site.network(), session, now, combiners, clients.items, failure, more_clients=clients.next is not None)
    return {"health": health_of(seen, may_change=caller().role == "admin"), "now": now, "under_way": seen.under_way}
