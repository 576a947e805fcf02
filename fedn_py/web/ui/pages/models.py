"""Models: the trail from the seed model to the newest global model, and each model with its tensors."""

import math

from flask import render_template

from fedn_py.identity import Digest, SessionId
from fedn_py.reducer.shown_objects import VerificationView
from fedn_py.web.schemas import DigestPath, ModelQuery
from fedn_py.web.ui.site import Site, asked

_MODELS = 50
_SESSIONS = 100
"""The newest ones, to choose from."""


def install(site: Site) -> None:
    """Add the pages of models."""

    @site.blueprint.get("/models")
    def show_models() -> str:
        query = asked(ModelQuery)
        return _trail(site, SessionId(query.session), query.after) if query.session else _all_models(site, query.after)

    @site.blueprint.get("/models/<digest>")
    def show_model(digest: str) -> str:
        model = site.ask(site.control.model(_digest(digest)))
        session = site.ask(site.control.session(model.session)) if model.session is not None else None
        return render_template("model.html", model=model, session=session)

    @site.blueprint.get("/models/<digest>/tensors")
    def show_tensors(digest: str) -> str:
        wanted = _digest(digest)
        model, tensors = site.ask_all(site.control.model(wanted), site.control.model_tensors(wanted))
        elements = sum(math.prod(one.shape) for one in tensors)
        return render_template("tensors.html", model=model, tensors=tensors, elements=elements)

    @site.blueprint.post("/models/<digest>/verify")
    def verify_model(digest: str) -> str:
        # For browsers without scripts; the others read the API's stream as it comes.
        return render_template("verified.html", outcome=site.ask(_outcome(site, _digest(digest))))


def _all_models(site: Site, after: str) -> str:
    sessions, models = site.ask_all(
        site.control.sessions(limit=_SESSIONS), site.control.models(None, after=after, limit=_MODELS)
    )
    names = {one.id: one.name for one in sessions.items}
    return render_template("models.html", models=models, sessions=sessions.items, names=names)


def _trail(site: Site, wanted: SessionId, after: str) -> str:
    session, sessions, models = site.ask_all(
        site.control.session(wanted),
        site.control.sessions(limit=_SESSIONS),
        site.control.models(wanted, after=after, limit=_MODELS),
    )
    seed = site.ask(site.control.model(session.options.seed_model))
    return render_template(
        "trail.html",
        session=session,
        sessions=sessions.items,
        models=models,
        seed=seed if models.next is None else None,
    )


async def _outcome(site: Site, digest: Digest) -> VerificationView:
    last: VerificationView | None = None
    async for step in await site.control.verify_object(digest):
        last = step
    assert last is not None  # the last step of a verification has ended
    return last


def _digest(text: str) -> Digest:
    return Digest(asked(DigestPath, digest=text).digest)
