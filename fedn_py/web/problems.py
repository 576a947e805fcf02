"""Every error answer of the REST API: problem details (RFC 9457) with a stable code and the way out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Flask, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from fedn_py.errors import FednError, OwnFault, PeerFault
from fedn_py.reducer.control_faults import Conflict, NotActive, NotAllowed, NotAuthenticated, TooLarge, Unknown
from fedn_py.runtime.logging import logger
from fedn_py.store.ports import ObjectMissing, StoreFull, StoreUnavailable
from fedn_py.web.bridge import LengthRequired, UploadBroken
from fedn_py.web.sandbox_desk import DeskAway

MEDIA_TYPE = "application/problem+json"

_STATUS: Mapping[type[FednError], int] = {
    NotAuthenticated: 401,
    NotAllowed: 403,
    Unknown: 404,
    ObjectMissing: 404,
    Conflict: 409,
    NotActive: 503,
    LengthRequired: 411,
    TooLarge: 413,
    UploadBroken: 400,
    StoreUnavailable: 503,
    DeskAway: 503,
    StoreFull: 507,
    PeerFault: 422,
    OwnFault: 500,
}


class LocatedFault(BaseModel):
    """One thing that is wrong in a request."""

    model_config = ConfigDict(extra="forbid")

    where: str = Field(description="dotted place in the body, query or path")
    text: str = Field(description="what is wrong and what is allowed")


class Problem(BaseModel):
    """An error answer."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(default="about:blank", description="always about:blank; the code says which")
    code: str = Field(description="stable name of the fault")
    title: str = Field(description="the HTTP status in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what happened, with the facts")
    remedy: str = Field(default="", description="what to do about it")
    faults: list[LocatedFault] = Field(default_factory=list, description="every fault of the request, each located")


class InvalidRequest(PeerFault):
    """A request that does not have the form the API asks for.

    Attributes:
        faults: all of them, each located.
    """

    def __init__(self, faults: Sequence[LocatedFault]) -> None:
        super().__init__(
            "; ".join(f"{fault.where}: {fault.text}" for fault in faults),
            remedy="Correct the request; /api/v1/openapi.json says what each route takes.",
        )
        self.faults = list(faults)


def located(invalid: ValidationError) -> InvalidRequest:
    """Return what pydantic found wrong as a fault of ours, without the values that were given."""
    return InvalidRequest(
        [
            LocatedFault(
                where=".".join(str(part) for part in error["loc"]) or "body",
                text=error["msg"].removeprefix("Value error, ").replace("Input should be", "must be"),
            )
            for error in invalid.errors(include_url=False, include_input=False, include_context=False)
        ]
    )


def status_of(fault: FednError) -> int:
    """Return the HTTP status of a fault."""
    return next(_STATUS[family] for family in type(fault).__mro__ if family in _STATUS)


def answer_problem(fault: FednError) -> Response:
    """Return the answer that tells a peer of a fault."""
    faults = fault.faults if isinstance(fault, InvalidRequest) else []
    return _respond(status_of(fault), fault.code, fault.message, fault.remedy, faults)


def install_problems(app: Flask) -> None:
    """Make an application answer every error with problem details."""
    app.register_error_handler(FednError, _on_fault)
    app.register_error_handler(HTTPException, answer_http)
    app.register_error_handler(Exception, _on_bug)


def _on_fault(fault: FednError) -> Response:
    if isinstance(fault, OwnFault):
        logger("fedn_py.web").error("request failed", code=fault.code, reason=fault.message)
    return answer_problem(fault)


def answer_http(fault: HTTPException) -> Response:
    """Return the answer for what Flask refuses by itself."""
    if fault.response is not None and isinstance(fault.response, Response):
        return fault.response
    response = _respond(fault.code or 500, type(fault).__name__, fault.description or fault.name, "", [])
    for name, value in fault.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _on_bug(fault: Exception) -> Response:
    logger("fedn_py.web").error("request failed", exc_info=fault)
    detail = "the reducer met a fault of its own; its log says which"
    return _respond(500, "InternalFault", detail, "Tell whoever runs the reducer.", [])


def _respond(status: int, code: str, detail: str, remedy: str, faults: Sequence[LocatedFault]) -> Response:
    title = HTTP_STATUS_CODES.get(status, "Error")
    problem = Problem(code=code, title=title, status=status, detail=detail, remedy=remedy, faults=list(faults))
    content: dict[str, Any] = problem.model_dump(exclude={"faults"} if not faults else None)
    response = Response(json.dumps(content), status=status, mimetype=MEDIA_TYPE)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
