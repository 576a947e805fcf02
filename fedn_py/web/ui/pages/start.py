"""The first page: an empty network's three steps to a trained model, or what goes on in one that has taken them."""

from flask import render_template

from fedn_py.web.ui.site import Site


def install(site: Site) -> None:
    """Add the first page."""

    @site.blueprint.get("/")
    def start() -> str:
        packages, models, sessions = site.ask_all(
            site.control.packages(limit=20), site.control.models(None, limit=20), site.control.sessions(limit=20)
        )
        return render_template("start.html", packages=packages.items, models=models.items, sessions=sessions.items)
