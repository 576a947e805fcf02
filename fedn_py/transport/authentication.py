"""Tokens, and the door of every server: no method is served unless a table names the roles that may call it.

Rules: a token's secret is stored as its sha256 only and compared in constant time; no fault repeats a secret; who
calls is decided anew on every RPC.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import grpc

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import TokenId
from fedn_py.transport.status import refuse

Role = Literal["admin", "viewer", "combiner", "client"]
"""What a token lets its holder be."""

_TOKEN = re.compile(r"fedn1\.(?P<id>[0-9a-f]{16})\.(?P<secret>[A-Za-z0-9_-]{43})")
BEARER = "Bearer "
"""What stands before a token in a call's metadata."""

_caller: ContextVar["Caller"] = ContextVar("fedn_caller")


class NoToken(PeerFault):
    """A call without a token."""


class UnknownToken(PeerFault):
    """A token that this network never gave out, or a text that is none."""


class WrongTokenSecret(PeerFault):
    """A token whose id is known and whose secret is not the one given out."""


class TokenExpired(PeerFault):
    """A token past its date."""


class TokenRevoked(PeerFault):
    """A token that was taken back."""


class WrongRole(PeerFault):
    """A token of another role than this call is for."""


class MethodNotAllowed(PeerFault):
    """A method that this server has no rule for."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is kept of a token: enough to know it again, nothing to show it.

    Attributes:
        label: whom it was made for, for people.
        secret_sha256: hex, of the secret's characters.
        not_after: unix seconds.
    """

    id: TokenId
    role: Role
    label: str
    secret_sha256: str
    not_after: float
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call.

    Attributes:
        name: the token's label, or the client's id where it came by a ticket.
        token_id: the token or ticket that it showed, for logs; proves nothing.
    """

    role: Role
    name: str
    token_id: TokenId


class Authenticator(Protocol):
    """Knows tokens or tickets."""

    async def authenticate(self, bearer: str, method: str) -> Caller:
        """Return who shows this secret, or raise the named refusal.

        Args:
            bearer: what stood behind "Bearer " in the call's metadata.
            method: full name, "/fedn_py.wire.v1.Reducer/Join".
        """
        ...


def new_token(role: Role, label: str, valid_s: float, now: float) -> tuple[str, TokenRecord]:
    """Make a token.

    Args:
        valid_s: seconds from ``now`` until it expires.
        now: unix seconds.

    Returns:
        Its text, to be shown once and never stored, and the record to keep.
    """
    token_id, secret = TokenId(secrets.token_hex(8)), secrets.token_urlsafe(32)
    record = TokenRecord(token_id, role, label, secret_sha256(secret), now + valid_s)
    return f"fedn1.{token_id}.{secret}", record


def token_id_of(text: str) -> TokenId:
    """Return the id in a token's text, by which its record is found, or raise UnknownToken."""
    return _parse(text)[0]


def check(text: str, record: TokenRecord | None, now: float, roles: Collection[Role]) -> TokenRecord:
    """Return the record of a token that may be used now in one of ``roles``, or raise the named refusal.

    Args:
        record: what is stored under the token's id, None where nothing is.
        now: unix seconds.
    """
    token_id, secret = _parse(text)
    if (
        record is not None
        and record.id == token_id
        and not hmac.compare_digest(secret_sha256(secret), record.secret_sha256)
    ):
        raise WrongTokenSecret(f"token {token_id} has another secret", remedy="Copy the whole token, unchanged.")
    return check_record(token_id, record, now, roles)


def check_record(token_id: TokenId, record: TokenRecord | None, now: float, roles: Collection[Role]) -> TokenRecord:
    """Return the record of a token whose secret has been shown before; arguments and refusals as ``check`` has them."""
    if record is None or record.id != token_id:
        raise UnknownToken(f"token {token_id} is not known here", remedy="Ask the operator for a new token.")
    if record.revoked:
        raise TokenRevoked(f"token {token_id} was revoked", remedy="Ask the operator for a new token.")
    if now > record.not_after:
        raise TokenExpired(
            f"token {token_id} expired {int(now - record.not_after)} s ago", remedy="Ask the operator for a new token."
        )
    if record.role not in roles:
        raise WrongRole(
            f"token {token_id} is a {record.role}'s, and this is for {' or '.join(sorted(roles)) or 'nobody'}",
            remedy="Use a token of the right role.",
        )
    return record


def secret_sha256(secret: str) -> str:
    """Return the hex sha256 under which a token's secret or a ticket is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _parse(text: str) -> tuple[TokenId, str]:
    match = _TOKEN.fullmatch(text)
    if match is None:
        # The text is not repeated: most of what is pasted here by mistake is a secret of something else.
        raise UnknownToken("what was shown is no token", remedy="A token reads fedn1.<16 hex digits>.<43 characters>.")
    return TokenId(match["id"]), match["secret"]


# ---- the server's side


def current_caller() -> Caller:
    """Return who makes the RPC that is being served; only within a handler behind DenyByDefault."""
    return _caller.get()


class DenyByDefault(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Lets a call in when its method is in the table and its caller is of a role that the table names.

    Args:
        roles: full method name to the roles that may call it.
        public: methods that need no token.
    """

    def __init__(
        self, authenticator: Authenticator, roles: Mapping[str, Collection[Role]], public: Collection[str] = ()
    ) -> None:
        self._authenticator = authenticator
        self._roles = {method: frozenset(allowed) for method, allowed in roles.items()}
        self._public = frozenset(public)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any]"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Find the handler of a call, or the refusal in its place."""
        method = handler_call_details.method
        if method not in self._public:
            try:
                _caller.set(await self._admit(method, handler_call_details.invocation_metadata))
            except FednError as fault:
                return _refusal(await continuation(handler_call_details), fault)
        return await continuation(handler_call_details)

    async def _admit(self, method: str, metadata: Any) -> Caller:
        allowed = self._roles.get(method)
        if allowed is None:
            raise MethodNotAllowed(f"{method[:120]} is not served here", remedy="Call the right kind of server.")
        caller = await self._authenticator.authenticate(_bearer(metadata), method)
        if caller.role not in allowed:
            raise WrongRole(
                f"{method} is for {' or '.join(sorted(allowed)) or 'nobody'}, not for a {caller.role}",
                remedy="Use a token of the right role.",
            )
        return caller


def _bearer(metadata: Any) -> str:
    shown = [value for key, value in metadata or () if key == "authorization"]
    if len(shown) != 1 or not isinstance(shown[0], str) or not shown[0].startswith(BEARER):
        raise NoToken("the call shows no token", remedy="Give this process its token.")
    return shown[0].removeprefix(BEARER)


def _refusal(handler: "grpc.RpcMethodHandler[Any, Any] | None", fault: FednError) -> "grpc.RpcMethodHandler[Any, Any]":
    """Return a handler of the same kind that refuses, before a byte of the request was read."""

    async def answer(_request: Any, context: Any) -> None:
        refuse(context, fault)

    if handler is None:
        # Of a method that is not known, neither is whether a request will come: one that waits for none.
        return grpc.stream_stream_rpc_method_handler(answer)
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler(answer)
        case True, False:
            return grpc.stream_unary_rpc_method_handler(answer)
        case False, True:
            return grpc.unary_stream_rpc_method_handler(answer)
        case _:
            return grpc.stream_stream_rpc_method_handler(answer)
