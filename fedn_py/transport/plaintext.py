"""Connections without TLS, for a benchmark that measures what TLS costs; never for a network.

No setting, no argument and no variable of the environment leads here: only code that enters ``plaintext_on_loopback``
does, in the processes of a benchmark. gRPC's local credentials take the place of TLS: on both ends they let nothing
but this host's own loopback through, and tokens travel as they do under TLS.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import grpc

from fedn_py.errors import OwnFault

_ON: ContextVar[bool] = ContextVar("plaintext_on_loopback", default=False)


class PlaintextBeyondLoopback(OwnFault):
    """A connection without TLS would leave this host."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} is not this host's loopback, and nothing goes there without TLS",
            remedy="Measure without TLS between processes of one machine only.",
        )


@contextmanager
def plaintext_on_loopback() -> Iterator[None]:
    """Have all channels and servers that are made in this block, and by tasks that begin in it, do without TLS."""
    before = _ON.set(True)
    try:
        yield
    finally:
        _ON.reset(before)


def plaintext_is_on() -> bool:
    """Say whether TLS is left out here."""
    return _ON.get()


def plaintext_channel_credentials(address: str, *, loopback: bool) -> grpc.ChannelCredentials:
    """Return what a channel has instead of an authority; raises PlaintextBeyondLoopback."""
    _check(address, loopback=loopback)
    return grpc.local_channel_credentials(grpc.LocalConnectionType.LOCAL_TCP)


def plaintext_server_credentials(address: str, *, loopback: bool) -> grpc.ServerCredentials:
    """Return what a server has instead of a certificate; raises PlaintextBeyondLoopback."""
    _check(address, loopback=loopback)
    return grpc.local_server_credentials(grpc.LocalConnectionType.LOCAL_TCP)


def _check(address: str, *, loopback: bool) -> None:
    if not loopback:
        raise PlaintextBeyondLoopback(address)
