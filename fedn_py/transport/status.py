"""Faults across the network: a FednError becomes a gRPC status at the callee and the same words at the caller.

The fault's code, message and remedy travel as JSON in the trailing metadata ``fedn-error-bin``; the gRPC status says
the kind to tools that know nothing of us. UNAVAILABLE and DEADLINE_EXCEEDED are never used for a refusal: they mean
that the peer could not be reached, which is what a caller may try again.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog

from fedn_py.errors import FednError, OwnFault, PeerFault

_TRAILER = "fedn-error-bin"
_MOST_TRAILER_CHARS = 1_500
# What grpc.aio makes of a write that meets the end of its call, in place of the words that came with the end. It is
# worth another attempt, which hears them.
_WRITE_MET_THE_END = "Internal error from Core"
_CLOCK_OR_CERTIFICATE = "Compare the clocks of both hosts; if they agree, issue a new certificate."

_STATUS_BY_CODE: dict[str, grpc.StatusCode] = {
    "MalformedMessage": grpc.StatusCode.INVALID_ARGUMENT,
    "InvalidName": grpc.StatusCode.INVALID_ARGUMENT,
    "ChunkTooLarge": grpc.StatusCode.INVALID_ARGUMENT,
    "NoToken": grpc.StatusCode.UNAUTHENTICATED,
    "UnknownToken": grpc.StatusCode.UNAUTHENTICATED,
    "WrongTokenSecret": grpc.StatusCode.UNAUTHENTICATED,
    "TokenExpired": grpc.StatusCode.UNAUTHENTICATED,
    "TokenRevoked": grpc.StatusCode.UNAUTHENTICATED,
    "WrongRole": grpc.StatusCode.PERMISSION_DENIED,
    "MethodNotAllowed": grpc.StatusCode.PERMISSION_DENIED,
    "ObjectMissing": grpc.StatusCode.NOT_FOUND,
    "DigestMismatch": grpc.StatusCode.DATA_LOSS,
    "ObjectCorrupt": grpc.StatusCode.DATA_LOSS,
    "WrongOffset": grpc.StatusCode.OUT_OF_RANGE,
    "SpoolFull": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "StoreFull": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TooManyTransfers": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "NotYourTurn": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "PeerTooSlow": grpc.StatusCode.RESOURCE_EXHAUSTED,
}

_TLS_HINTS: tuple[tuple[str, str, str], ...] = (
    (
        "certificate has expired",
        "its certificate has expired by this host's clock",
        _CLOCK_OR_CERTIFICATE,
    ),
    (
        "certificate is not yet valid",
        "its certificate is not yet valid by this host's clock",
        _CLOCK_OR_CERTIFICATE,
    ),
    (
        "hostname verification check failed",
        "its certificate is for other host names",
        "Use an address that the certificate names, or issue a certificate that names this address.",
    ),
    (
        "certificate_verify_failed",
        "its certificate is not signed by the authority that is trusted here",
        "Give this process the certificate authority of the network that it should join.",
    ),
    (
        "wrong_version_number",
        "it does not speak TLS",
        "Check the port: it may belong to another service.",
    ),
)


class RemoteFault(PeerFault):
    """The other side refused or failed, and said so; its own words.

    Attributes:
        code: the name of the fault there.
    """

    def __init__(self, code: str, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self._code = code

    @property
    def code(self) -> str:
        """The name of the fault at the side that found it."""
        return self._code

    def __str__(self) -> str:
        return f"{self._code}: {self.message}"


class PeerUnreachable(OwnFault):
    """No connection to the other side, or it was lost; trying again may help.

    Attributes:
        address: host:port that was called.
        why: what the network or TLS said.
    """

    def __init__(self, address: str, why: str, *, remedy: str = "") -> None:
        super().__init__(
            f"cannot reach {address}: {why}",
            remedy=remedy or "Check that it runs, that the address is right and that no firewall is between.",
        )
        self.address, self.why = address, why


@contextlib.asynccontextmanager
async def refusals(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Answer an RPC with the fault that its body raises; it ends there, and the handler returns nothing."""
    try:
        yield
    except FednError as fault:
        refuse(context, fault)
    except grpc.aio.UsageError:
        raise
    except grpc.aio.BaseError as over:
        # The RPC's peer is gone, or the server has stopped. gRPC cancels such an RPC by itself, but a read or write may
        # find out a moment before; to be the first to know is no fault, and gRPC would log it as one, with a traceback.
        raise asyncio.CancelledError from over
    except Exception:
        # The edge of an RPC: gRPC would send the text of whatever broke to the peer, secrets included.
        structlog.get_logger(__name__).exception("rpc_failed")
        context.set_code(grpc.StatusCode.INTERNAL)
        context.set_details("an unexpected fault; this side's log has it")


def refuse(context: grpc.aio.ServicerContext[Any, Any], fault: FednError) -> None:
    """Give an RPC a fault for its end; its handler has nothing more to do than to return.

    ``context.abort`` would do both. But gRPC keeps what that raises with the RPC, and by its traceback the RPC with it,
    in a circle: until Python looks for such, each refused RPC would hold some 20 KiB.
    """
    context.set_code(status_of(fault))
    context.set_details(_cut(str(fault)))
    context.set_trailing_metadata(((_TRAILER, _pack(fault)),))


def status_of(fault: FednError) -> grpc.StatusCode:
    """Return the gRPC status that stands for a fault."""
    if isinstance(fault, PeerFault):
        return _STATUS_BY_CODE.get(fault.code, grpc.StatusCode.FAILED_PRECONDITION)
    return _STATUS_BY_CODE.get(fault.code, grpc.StatusCode.INTERNAL)


def restored(error: grpc.aio.AioRpcError, address: str) -> RemoteFault | PeerUnreachable:
    """Return what a failed call says: the callee's own words, or that it could not be reached.

    Args:
        address: host:port that was called, for the reader.
    """
    trailer: Any = error.trailing_metadata()
    for key, value in trailer or ():
        if key == _TRAILER and isinstance(value, bytes) and (fault := _unpack(value)) is not None:
            return fault
    details = error.details() or ""
    if details == _WRITE_MET_THE_END:
        return PeerUnreachable(address, "it ended the call while this side was still sending")
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return _unreachable(address, details or error.code().name)
    return RemoteFault(error.code().name, _cut(details) or "the call failed without a word")


def _unreachable(address: str, details: str) -> PeerUnreachable:
    lowered = details.lower()
    for sign, why, remedy in _TLS_HINTS:
        if sign in lowered:
            return PeerUnreachable(address, why, remedy=remedy)
    return PeerUnreachable(address, _cut(details))


def _pack(fault: FednError) -> bytes:
    words = {"code": fault.code, "message": _cut(fault.message), "remedy": _cut(fault.remedy)}
    return json.dumps(words).encode()


def _unpack(packed: bytes) -> RemoteFault | None:
    try:
        words = json.loads(packed)
    except (ValueError, RecursionError):
        return None
    if not isinstance(words, dict) or not all(isinstance(words.get(key), str) for key in ("code", "message", "remedy")):
        return None
    return RemoteFault(_cut(words["code"]), _cut(words["message"]), remedy=_cut(words["remedy"]))


def _cut(text: str) -> str:
    # Headers have a limit in every HTTP/2 implementation; words beyond it would break the answer, not lengthen it.
    return text if len(text) <= _MOST_TRAILER_CHARS else text[: _MOST_TRAILER_CHARS - 3] + "..."
