"""Each upload is judged once, and what is remembered of it does not grow with what was said of it."""

import asyncio
import sys
from dataclasses import replace

from fedn_py.identity import Digest, Generation
from fedn_py.protocol.messages import UpdateHeader, UpdateReceipt
from fedn_py.transport.judgements import Judgements

HEADER = UpdateHeader(Generation(1), "0a" * 16, 48, Digest("00" * 32), 10, {"loss": 0.5}, "client")


class Work:
    """Judges, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> UpdateReceipt:
        self.times += 1
        return UpdateReceipt(accepted=True, reason="")


def test_the_same_upload_is_judged_once_and_another_header_of_it_anew() -> None:
    async def story() -> None:
        judgements, work = Judgements(), Work()
        await judgements.judge("client anna", HEADER, work)
        await judgements.judge("client anna", replace(HEADER), work)
        assert work.times == 1
        assert await judgements.known("client anna", replace(HEADER)) == UpdateReceipt(accepted=True, reason="")
        assert judgements.size_of("client anna", HEADER.upload_id) == 48
        assert await judgements.known("client anna", replace(HEADER, metrics={"loss": 0.25})) is None
        assert judgements.size_of("client anna", HEADER.upload_id) == 0

    asyncio.run(story())


def test_a_header_is_not_kept() -> None:
    async def story() -> None:
        header, judgements = replace(HEADER, metrics={"loss": 0.5}), Judgements()
        before = sys.getrefcount(header)
        await judgements.judge("client anna", header, Work())
        assert sys.getrefcount(header) == before

    asyncio.run(story())
