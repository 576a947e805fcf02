"""What a sandbox's pages can do, as routes of the REST API; in every other network they answer 404."""

from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import Field

from fedn_py.identity import parse_name
from fedn_py.reducer.control_faults import Unknown
from fedn_py.runtime.desk import Added, MadeSeed, MadeToken, MaskedUpdateView, ProcessView
from fedn_py.web.areas import created, new_area
from fedn_py.web.bridge import Bridge
from fedn_py.web.sandbox_desk import SandboxDesk
from fedn_py.web.schemas import DAY_S, DigestText, Request, answer_json, described, page_of


class ProcessPath(Request):
    """Which process."""

    name: str = Field(min_length=1, max_length=63, description="the process's name, such as client-1")


class CreateClientToken(Request):
    """Which client's token to make."""

    label: str = Field(min_length=1, max_length=63, description="the client's name")
    valid_s: float = Field(default=365 * DAY_S, gt=0, le=3650 * DAY_S, description="seconds until it expires")


class MakeSeedModel(Request):
    """Which package makes its seed model."""

    package: DigestText


def sandbox_routes(sandbox: SandboxDesk | None, bridge: Bridge) -> APIBlueprint:
    """Return the routes of a sandbox.

    Args:
        sandbox: None in every other network.
    """
    area = new_area("sandbox", "What only a sandbox can do; in every other network these routes answer 404")
    processes: dict[Any, Any] = {200: page_of(ProcessView)}

    def desk() -> SandboxDesk:
        if sandbox is None:
            raise Unknown("sandbox", "here", "Only a network that fedn-py sandbox has started can do this.")
        return sandbox

    def all_of_them() -> Response:
        return answer_json({"items": bridge.call(desk().processes()), "next": None})

    @area.get("/sandbox/processes", responses=processes)
    def list_processes() -> Response:
        """All processes of the sandbox, those that have ended too."""
        return all_of_them()

    @area.post("/sandbox/processes/<name>/kill", responses=processes)
    def kill_process(path: ProcessPath) -> Response:
        """End a client or combiner as a power cut would; the answer is all processes after that."""
        bridge.call(desk().kill(path.name))
        return all_of_them()

    @area.post("/sandbox/processes/<name>/start", responses=processes)
    def start_process(path: ProcessPath) -> Response:
        """Start a client or combiner that has ended; the answer is all processes after that."""
        bridge.call(desk().start_again(path.name))
        return all_of_them()

    @area.post("/sandbox/clients", responses={201: described(Added)})
    def add_client() -> Response:
        """Start one more client, with data of its own."""
        return answer_json(Added(bridge.call(desk().add_client())), 201)

    @area.post("/sandbox/client-tokens", responses={201: described(MadeToken)})
    def make_client_token(body: CreateClientToken) -> Response:
        """Make a client's token with its join credential; the text of its file is in this answer and nowhere else."""
        name = parse_name(body.label, "client")
        return answer_json(bridge.call(desk().make_token(name, body.valid_s / DAY_S)), 201)

    @area.post("/sandbox/seed-models", responses={201: described(MadeSeed)})
    def make_seed_model(body: MakeSeedModel) -> Response:
        """Have a package make its seed model on this machine, and store that."""
        made = bridge.call(desk().make_seed(body.package))
        return created(made, f"models/{made.digest}")

    @area.get("/sandbox/masked-update", responses={200: described(MaskedUpdateView)})
    def show_masked_update() -> Response:
        """What left one client in the newest masked round, beside what came out of the round."""
        return answer_json(bridge.call(desk().masked_update()))

    return area
