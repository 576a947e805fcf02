"""The other process of the transport's limits: a gRPC server that swallows bytes and gives out as many as are asked.

python -m fedn_py.bench.echo plan.json
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from fedn_py.transport.channels import SHARED_OPTIONS
from fedn_py.transport.chunks import CHUNK_BYTES

_SERVICE = "fedn_py.bench.Echo"
UP, DOWN = f"/{_SERVICE}/Up", f"/{_SERVICE}/Down"

_CHANNEL_OPTIONS = (
    *SHARED_OPTIONS,
    # Each channel has a connection of its own, as each client has.
    ("grpc.use_local_subchannel_pool", 1),
    # The server is about to start: left alone a channel tries again after a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
)


@dataclass(frozen=True, slots=True)
class EchoPlan:
    """Where the server listens, and with what certificate."""

    port: int
    tls: bool
    authority_pem: bytes
    certificate_pem: bytes
    key_pem: bytes

    @property
    def address(self) -> str:
        """host:port."""
        return f"localhost:{self.port}"

    def write(self, file: Path) -> None:
        """Write it to a file, for its owner alone."""
        pems = {name: getattr(self, name).decode() for name in ("authority_pem", "certificate_pem", "key_pem")}
        file.touch(0o600)
        file.write_text(json.dumps({"port": self.port, "tls": self.tls, **pems}), encoding="utf-8")


def read_plan(file: Path) -> EchoPlan:
    """Read what ``EchoPlan.write`` wrote."""
    kept = json.loads(file.read_text(encoding="utf-8"))
    pems = {name: kept[name].encode() for name in ("authority_pem", "certificate_pem", "key_pem")}
    return EchoPlan(kept["port"], kept["tls"], **pems)


def open_echo_channel(plan: EchoPlan) -> grpc.aio.Channel:
    """Return a channel to the server, over a connection of its own."""
    if not plan.tls:
        return grpc.aio.insecure_channel(plan.address, _CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(
        plan.address, grpc.ssl_channel_credentials(root_certificates=plan.authority_pem), _CHANNEL_OPTIONS
    )


class Echo:
    """The two calls, on bytes as they are."""

    async def up(self, requests: AsyncIterator[bytes], _context: Any) -> bytes:
        """Swallow."""
        async for _ in requests:
            pass
        return b""

    async def down(self, request: bytes, context: Any) -> None:
        """Give out so many chunks."""
        block = os.urandom(CHUNK_BYTES)
        for _ in range(int(request)):
            await context.write(block)


async def _serve(plan: EchoPlan) -> None:
    server, echo = grpc.aio.server(options=SHARED_OPTIONS), Echo()
    handlers = {
        "Up": grpc.stream_unary_rpc_method_handler(echo.up),
        "Down": grpc.unary_stream_rpc_method_handler(echo.down),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    if plan.tls:
        server.add_secure_port(plan.address, grpc.ssl_server_credentials([(plan.key_pem, plan.certificate_pem)]))
    else:
        server.add_insecure_port(plan.address)
    await server.start()
    await server.wait_for_termination()


def main(arguments: Sequence[str]) -> None:
    """Serve until killed."""
    asyncio.run(_serve(read_plan(Path(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
