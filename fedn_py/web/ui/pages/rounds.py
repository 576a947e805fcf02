"""A round: who is in its model and who is not, why, what failed trainings printed, and how it was masked."""

from flask import render_template

from fedn_py.web.schemas import RoundPath, session_id
from fedn_py.web.ui.site import Site, asked


def install(site: Site) -> None:
    """Add the page of a round."""

    @site.blueprint.get("/sessions/<session>/rounds/<number>")
    def show_round(session: str, number: str) -> str:
        path = asked(RoundPath, session=session, number=number)
        view, found = site.ask_all(
            site.control.session(session_id(path)), site.control.round(session_id(path), path.number)
        )
        metrics = sorted({name for values in found.metrics_by_client.values() for name in values})
        return render_template("round.html", session=view, round=found, metrics=metrics)
