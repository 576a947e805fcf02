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


@pytest.mark.parametrize("kind", [grpc.aio.AbortError, grpc.aio.UsageError])
def test_an_answer_that_is_given_and_a_misuse_of_grpc_are_left_to_it(kind: type[grpc.aio.BaseError]) -> None:
    async def story() -> None:
        async with refusals(NEVER_ANSWERED):
            raise kind("already")

    with pytest.raises(kind):
        asyncio.run(story())
