"""What becomes of an RPC whose end gRPC raises within it."""

import asyncio
from typing import Any

import grpc
import pytest

from fedn_py.transport.status import refusals

NEVER_ANSWERED: Any = None


def test_an_rpc_that_finds_its_peer_gone_is_cancelled() -> None:
    async def story() -> None:
        async with refusals(NEVER_ANSWERED):
            raise grpc.aio.InternalError("a write was cut off")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(story())


def test_a_misuse_of_grpc_is_left_to_it() -> None:
    async def story() -> None:
        async with refusals(NEVER_ANSWERED):
            raise grpc.aio.UsageError("already")

    with pytest.raises(grpc.aio.UsageError):
        asyncio.run(story())
