"""Parts of the REST API, version 1: each is a blueprint whose routes are described in OpenAPI under one heading."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from fedn_py.web.schemas import answer_json

PREFIX = "/api/v1"
SECURITY: list[dict[str, list[str]]] = [{"token": []}]


def new_area(name: str, text: str) -> APIBlueprint:
    """Return a part of the API that has no route yet.

    Args:
        text: what it is about, without a full stop.
    """
    return APIBlueprint(
        name, __name__, url_prefix=PREFIX, abp_tags=[Tag(name=name, description=text)], abp_security=SECURITY
    )


def created(view: object, place: str) -> Response:
    """Answer with what has been made, and where under the prefix it is."""
    response = answer_json(view, 201)
    response.headers["Location"] = f"{PREFIX}/{place}"
    return response


def as_file(content: str, name: str, media: str) -> Response:
    """Answer with a file that browsers save under a name."""
    response = Response(content, mimetype=media)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
