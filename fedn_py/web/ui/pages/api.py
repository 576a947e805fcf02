"""The API reference: the OpenAPI document as a page, made by this reducer, with a curl line for each route."""

from typing import cast

from flask import current_app, render_template, request
from flask_openapi3.openapi import OpenAPI

from fedn_py.web.ui.reference import read
from fedn_py.web.ui.site import Site


def install(site: Site) -> None:
    """Add the API reference."""

    @site.blueprint.get("/api")
    def show_api() -> str:
        document = cast("OpenAPI", current_app).api_doc
        return render_template("api.html", reference=read(document, request.host_url.rstrip("/")))
