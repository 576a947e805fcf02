"""What a new site takes along, as routes of the REST API: its settings file and the network's authority."""

from typing import Any

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from pydantic import Field

from fedn_py.identity import parse_name
from fedn_py.reducer.control_faults import Unknown
from fedn_py.web.areas import as_file, new_area
from fedn_py.web.schemas import Request
from fedn_py.web.surroundings import Joining
from fedn_py.web.ui.joining import client_settings, reducer_address

_YAML: dict[str, Any] = {"description": "client.yaml", "content": {"application/yaml": {}}}
_PEM: dict[str, Any] = {"description": "authority.pem", "content": {"application/x-pem-file": {}}}


class SiteQuery(Request):
    """Which site."""

    name: str = Field(min_length=1, max_length=63, description="of its client, such as hospital-a")


def joining_routes(joining: Joining | None) -> APIBlueprint:
    """Return the routes that give a site its files; none of them is secret.

    Args:
        joining: None where it is not known; then there is no authority to give.
    """
    area = new_area("joining", "What a new site takes along, beside its token")

    @area.get("/client-settings", responses={200: _YAML})
    def give_settings(query: SiteQuery) -> Response:
        """A client's settings file; it reaches the reducer at the name that this request was sent to."""
        name = parse_name(query.name, "client")
        return as_file(client_settings(name, reducer_address(request.host, joining)), "client.yaml", "application/yaml")

    @area.get("/authority", responses={200: _PEM})
    def give_authority() -> Response:
        """The certificate of the authority that the network's certificates come from."""
        if joining is None:
            raise Unknown("authority's certificate", "here", "Ask who runs the reducer for authority.pem.")
        return as_file(joining.authority_pem, "authority.pem", "application/x-pem-file")

    return area
