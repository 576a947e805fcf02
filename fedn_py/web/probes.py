"""Whether the reducer is alive and ready: for load balancers, orchestrators and people, without a token."""

from collections.abc import Callable, Sequence

from flask import Response
from flask_openapi3.models.tag import Tag
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel, ConfigDict, Field

from fedn_py.errors import FednError
from fedn_py.web.schemas import answer_json

_TAG = Tag(name="probes", description="Whether the reducer is alive and ready; they need no token")


class Liveness(BaseModel):
    """That the process is alive."""

    model_config = ConfigDict(frozen=True)

    alive: bool = True


class Readiness(BaseModel):
    """Whether the reducer is active and its stores answer."""

    model_config = ConfigDict(frozen=True)

    ready: bool
    reasons: tuple[str, ...] = Field(default=(), description="why it is not ready; empty when it is")


def install_probes(app: OpenAPI, not_ready: Callable[[], Sequence[str]]) -> None:
    """Add the probes.

    Args:
        not_ready: says why the reducer is not ready, nothing when it is.
    """

    @app.get("/healthz", tags=[_TAG], responses={200: Liveness})
    def healthz() -> Response:
        """Whether the process is alive; it says nothing of stores or of other reducers."""
        return answer_json(Liveness())

    @app.get("/readyz", tags=[_TAG], responses={200: Readiness, 503: Readiness})
    def readyz() -> Response:
        """Whether this reducer is the active one, its stores answer, and no work waits for them."""
        try:
            reasons = tuple(not_ready())
        except FednError as fault:
            reasons = (fault.message,)
        return answer_json(Readiness(ready=not reasons, reasons=reasons), 503 if reasons else 200)
