"""What requests look like, and the description of answers for OpenAPI."""

import dataclasses
import json
from collections.abc import AsyncGenerator, AsyncIterator
from functools import cache
from typing import Annotated, Any, Literal, Self, get_type_hints

from flask import Response
from flask.json.provider import DefaultJSONProvider
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic_core import to_json
from werkzeug.exceptions import BadRequest

from fedn_py.errors import FednError
from fedn_py.identity import Digest, SessionId, parse_digest, parse_name
from fedn_py.protocol.masked.options import DEFAULT_CLIP, DEFAULT_WEIGHT_CAP, MaskedOptions
from fedn_py.protocol.messages import Masking
from fedn_py.reducer.session_limits import SessionChanges
from fedn_py.reducer.shown_events import Severity
from fedn_py.reducer.shown_sessions import SessionOptions
from fedn_py.reducer.shown_tokens import Role, TokenView

DAY_S = 86_400.0


def _digest(text: str) -> str:
    try:
        return parse_digest(text)
    except FednError as fault:
        raise ValueError(f"{fault.message}. {fault.remedy}") from None


def _name_or_none(text: str) -> str:
    try:
        return parse_name(text) if text else text
    except FednError as fault:
        raise ValueError(f"{fault.message}. {fault.remedy}") from None


DigestText = Annotated[str, AfterValidator(_digest), Field(description="sha256, 64 lower-case hex digits")]
SessionText = Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$", description="a session's id")]


class Request(BaseModel):
    """A part of a request; fields that it does not know are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Paging(Request):
    """Which page of a list."""

    after: str = Field(default="", max_length=200, description="the next of the page before; empty for the first")
    limit: int = Field(default=100, ge=1, le=1_000, description="how many at most")


class ModelQuery(Paging):
    """Which models."""

    session: SessionText | None = Field(default=None, description="of this session only")


class EventQuery(Request):
    """Which events; a page may hold fewer than there are behind it, ask with its next until that is null."""

    after: int | None = Field(default=None, ge=0, le=2**53, description="only events behind this number, oldest first")
    before: int | None = Field(
        default=None, ge=0, le=2**53, description="only events below this number, newest first; not with after"
    )
    limit: int = Field(default=100, ge=1, le=1_000, description="how many at most")
    kind: str = Field(default="", max_length=100, description="of this kind only")
    severity: Severity | None = Field(default=None, description="of this severity only")
    text: str = Field(default="", max_length=200, description="with this in text or kind, in upper or lower case")
    session: SessionText | None = Field(default=None, description="about this session only")
    round_number: int | None = Field(default=None, alias="round", ge=1, le=2**31, description="about this round only")
    client: str = Field(default="", max_length=63, description="about the client of this name only")
    combiner: str = Field(default="", max_length=63, description="about the combiner of this name only")

    @model_validator(mode="after")
    def _one_direction(self) -> Self:
        if self.after is not None and self.before is not None:
            raise ValueError("after and before lead in opposite directions; give one of them")
        return self

    def asked(self) -> dict[str, Any]:
        """Return what is asked for, by the names of ``Control.events``."""
        return {**dict(self), "session": self.session or ""}


class ClientPath(Request):
    """Which client."""

    client: str = Field(pattern=r"^[0-9a-f]{1,64}$", description="a client's id, hex digits")


class EventPath(Request):
    """Which event."""

    seq: int = Field(ge=1, le=2**53, description="the event's number")


class ResumeQuery(Request):
    """How to go on with a session."""

    new_work: bool = Field(
        default=False,
        description="train anew from the same global model with another seed: the way out of a privacy hold",
    )


class StopQuery(Request):
    """How to end a session."""

    after_round: bool = Field(default=False, description="finish the round under way first; otherwise it is given up")


class SessionPath(Request):
    """Which session."""

    session: SessionText


class RoundPath(SessionPath):
    """Which round of which session."""

    number: int = Field(ge=1, le=2**31, description="the round's number")


class DigestPath(Request):
    """Which model or package."""

    digest: DigestText


class TokenPath(Request):
    """Which token."""

    token: str = Field(pattern=r"^[0-9a-f]{16}$", description="a token's id, 16 hex digits")


class MaskedTerms(Request):
    """The terms of a masked session; see MaskedOptions. What is 0 or empty follows from the size of each cell."""

    clip: float = Field(
        default=DEFAULT_CLIP, gt=0, description="values of an update are clipped to +-this, in model units"
    )
    n_max: int = Field(default=0, ge=0, description="clients in one cell at most; 0: 64, or as many as it has")
    weight_cap: int = Field(default=DEFAULT_WEIGHT_CAP, ge=1, description="largest weight of one client")
    weight_unit: int = Field(default=1, ge=1, description="samples for a weight of 1")
    k: int = Field(default=0, ge=0, description="slots of a committee, which open a sum together")
    r: int = Field(default=0, ge=0, description="replicas of each slot; one of them has to answer")
    g_min: int = Field(default=0, ge=0, description="clients in an opened sum at least")
    reopen: Literal["", "strict", "reducer"] = Field(
        default="", description="who can release the clients of a sum that was never opened"
    )
    metrics: dict[str, float] = Field(
        default_factory=dict, description="metrics summed under the masks; each with the bound of its values"
    )


Rounds = Annotated[int, Field(ge=1, le=1_000_000, description="rounds to run")]
ClientsWanted = Annotated[int, Field(ge=0, description="close a round with so many updates; 0: all attached")]
ClientsRequired = Annotated[int, Field(ge=1, description="with fewer, a round fails")]
UpdateTimeout = Annotated[float, Field(gt=0, le=7 * DAY_S, description="from task to whole update, s")]
ValidationTimeout = Annotated[float, Field(gt=0, le=7 * DAY_S, description="for a validation, s")]
MaxAttempts = Annotated[int, Field(ge=1, le=1_000, description="attempts at one round")]
RetryDelay = Annotated[float, Field(ge=0, le=DAY_S, description="between two attempts, s")]
GatherTimeout = Annotated[float, Field(ge=0, le=DAY_S, description="wait for clients_wanted, s")]


class StartSession(Request):
    """What a session shall be; see SessionOptions."""

    # Its name in JSON is "validate"; the attribute has another because pydantic's own classmethod has that one.
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)

    package: DigestText
    seed_model: DigestText
    rounds: Rounds
    name: Annotated[str, AfterValidator(_name_or_none)] = Field(default="", description="empty: one is made up")
    clients_wanted: ClientsWanted = 0
    clients_required: ClientsRequired = 1
    update_timeout_s: UpdateTimeout = 600.0
    validates: bool = Field(default=True, alias="validate", description="validate each new global model on clients")
    validation_timeout_s: ValidationTimeout = 120.0
    max_attempts: MaxAttempts = 3
    retry_delay_s: RetryDelay = 2.0
    gather_timeout_s: GatherTimeout = 10.0
    parameters: dict[str, Any] = Field(default_factory=dict, description="handed to the package's entry points")
    masking: Masking = Field(default="none", description="how updates are hidden")
    masked: MaskedTerms = Field(default_factory=MaskedTerms, description="terms of a session that is masked")

    def options(self) -> SessionOptions:
        """Return the options that this request asks for."""
        fields = self.model_dump(by_alias=True)
        masked = MaskedOptions(**fields.pop("masked"))
        digests = {"package": Digest(self.package), "seed_model": Digest(self.seed_model)}
        return SessionOptions(**{**fields, **digests, "masked": masked})


class ChangeSession(Request):
    """What of a session shall be otherwise from its next attempt on; what is absent stays."""

    rounds: Rounds | None = None
    clients_wanted: ClientsWanted | None = None
    clients_required: ClientsRequired | None = None
    update_timeout_s: UpdateTimeout | None = None
    validation_timeout_s: ValidationTimeout | None = None
    max_attempts: MaxAttempts | None = None
    retry_delay_s: RetryDelay | None = None
    gather_timeout_s: GatherTimeout | None = None

    def changes(self) -> SessionChanges:
        """Return the changes that this request asks for."""
        return SessionChanges(**self.model_dump())


class CreateToken(Request):
    """Which token to make."""

    role: Role = Field(description="what it is for")
    label: str = Field(min_length=1, max_length=100, description="what people call it")
    valid_s: float = Field(default=365 * DAY_S, gt=0, le=3650 * DAY_S, description="seconds until it expires")


@dataclasses.dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made; ``text`` is the whole of it, and is kept nowhere."""

    text: str = dataclasses.field(repr=False)
    token: TokenView


@dataclasses.dataclass(frozen=True, slots=True)
class SignInLink:
    """A link that signs a browser in, once.

    Attributes:
        path: to be put behind the reducer's address.
        valid_s: seconds from now.
    """

    path: str = dataclasses.field(repr=False)
    valid_s: float


def session_id(path: SessionPath) -> SessionId:
    """Return the id in a path."""
    return SessionId(path.session)


@cache
def described(view: type, name: str = "") -> type[BaseModel]:
    """Return a model of a view dataclass, for OpenAPI."""
    hints = get_type_hints(view, include_extras=True)
    fields: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is dataclasses.MISSING else field.default)
        for field in dataclasses.fields(view)
    }
    return create_model(name or view.__name__, __doc__=view.__doc__, **fields)


@cache
def page_of(view: type) -> type[BaseModel]:
    """Return a model of a page of views, for OpenAPI."""
    name = f"{view.__name__}Page"
    return create_model(name, __doc__=f"A page of {view.__name__}.", items=(list[view], ...), next=(str | None, None))  # type: ignore[valid-type]


def answer_json(view: object, status: int = 200) -> Response:
    """Return views as JSON."""
    return Response(to_json(view, inf_nan_mode="null"), status=status, mimetype="application/json")


async def json_lines(views: AsyncIterator[object]) -> AsyncGenerator[bytes, None]:
    """Give views as lines of JSON."""
    async for view in views:
        yield to_json(view) + b"\n"


class StrictJSON(DefaultJSONProvider):
    """JSON as its standard has it: no NaN, no key twice, no depth that breaks the parser."""

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """Parse, or raise BadRequest."""
        try:
            return strict_json(s)
        except ValueError as fault:
            raise BadRequest(f"the body is not JSON: {fault}") from None


def strict_json(text: str | bytes) -> Any:
    """Parse, or raise ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_twins)
    except RecursionError as fault:
        raise ValueError(str(fault)) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object holds a key twice")
    return found
