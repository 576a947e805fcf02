"""Privacy: what each party sees in a session, and what that rests on."""

from flask import render_template

from fedn_py.identity import SessionId
from fedn_py.reducer.control_faults import Unknown
from fedn_py.runtime.desk import DeskRefused
from fedn_py.web.schemas import Request, SessionPath, SessionText, session_id
from fedn_py.web.ui.exposures import SYMBOLS, exposures
from fedn_py.web.ui.histograms import histogram
from fedn_py.web.ui.site import Site, asked

_SESSIONS = 100
"""The newest ones, to choose from."""

_WORDS = 2**32
"""A masked number is below it."""

_SHOWN = 12
"""Numbers that are shown as they are."""


class PrivacyQuery(Request):
    """Whose privacy a page tells of."""

    session: SessionText | None = None


def install(site: Site) -> None:
    """Add the pages of privacy."""

    @site.blueprint.get("/privacy")
    def show_privacy() -> str:
        wanted = asked(PrivacyQuery).session
        return _page(site, SessionId(wanted) if wanted else None)

    @site.blueprint.get("/sessions/<session>/privacy")
    def show_session_privacy(session: str) -> str:
        return _page(site, session_id(asked(SessionPath, session=session)))

    @site.blueprint.get("/privacy/masked-update")
    def show_masked_update() -> str:
        if site.sandbox is None:
            raise Unknown("masked update to be shown", "in this network", "Only a sandbox keeps some to be looked at.")
        try:
            update = site.ask(site.sandbox.masked_update())
        except DeskRefused as none_yet:
            if none_yet.code != "NothingMasked":
                raise
            return render_template("masked_update.html", update=None, why=none_yet)
        return render_template(
            "masked_update.html",
            update=update,
            left=histogram(update.words, 0, _WORDS) if update.words else None,
            opened=histogram(update.opened) if update.opened else None,
            shown=_SHOWN,
        )


def _page(site: Site, wanted: SessionId | None) -> str:
    sessions, *views = site.ask_all(
        site.control.sessions(limit=_SESSIONS), *([site.control.privacy(wanted)] if wanted else [])
    )
    if not views and not sessions.items:
        return render_template("privacy_none.html")
    view = views[0] if views else site.ask(site.control.privacy(sessions.items[0].id))
    return render_template(
        "privacy.html",
        view=view,
        sessions=sessions.items,
        table=exposures(view),
        symbols=SYMBOLS,
        in_sandbox=site.sandbox is not None,
    )
