"""Following what changes, as a part of the REST API: the stream, which is served outside of Flask, and its stand-in."""

from dataclasses import dataclass

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.operation import Operation
from flask_openapi3.models.path_item import PathItem
from pydantic import Field

from fedn_py.reducer.control import Control
from fedn_py.web.areas import PREFIX, SECURITY, new_area
from fedn_py.web.bridge import Bridge
from fedn_py.web.live import PATH, changed_soon
from fedn_py.web.schemas import Request, answer_json, described

_STREAM = {
    "tags": ["live"],
    "summary": "Tell of each change as it comes: that there is something new, and not what.",
    "operationId": "live_follow_changes",
    "security": SECURITY,
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "what was told last, of one that comes back: it hears only of what is new",
            "schema": {"type": "integer", "minimum": 0},
        }
    ],
    "responses": {
        "200": {
            "description": "Server-sent events of the kind change; id and data hold the number of changes so far",
            "content": {"text/event-stream": {}},
        }
    },
}


@dataclass(frozen=True, slots=True)
class Changes:
    """How much has happened.

    Attributes:
        changes: so many so far; another number than before says that there is something new.
    """

    changes: int


class PollQuery(Request):
    """What the caller knows already."""

    after: int = Field(default=-1, ge=-1, le=2**53, description="the number of changes that is known; -1 for none")


def live_routes(control: Control, bridge: Bridge) -> APIBlueprint:
    """Return the route for networks that let no stream through, and the description of both."""
    area = new_area("live", "Following what changes")
    # The server answers this path itself, before Flask: a stream must not take one of the views' threads.
    area.paths[PATH] = PathItem(get=Operation.model_validate(_STREAM))

    @area.get(PATH.removeprefix(PREFIX) + "/poll", responses={200: described(Changes)})
    def poll_changes(query: PollQuery) -> Response:
        """The number of changes, after a moment's wait where it is still the one that is known."""
        return answer_json(Changes(bridge.call(changed_soon(control, query.after))))

    return area
