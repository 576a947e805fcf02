"""Whole updates that wait to be judged, and the clients that wait for the answers."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from fedn_py.identity import ClientId
from fedn_py.protocol.messages import UpdateHeader, UpdateReceipt
from fedn_py.transport.spool import SpooledUpload


@dataclass(slots=True)
class ArrivedUpdate:
    """A whole update that waits to be judged."""

    client: ClientId
    header: UpdateHeader
    upload: SpooledUpload
    answer: asyncio.Future[UpdateReceipt]


class Arrivals:
    """The updates at hand, each under a key of its own."""

    def __init__(self) -> None:
        self._arrived: dict[str, ArrivedUpdate] = {}
        self._numbers = itertools.count(1)
        self._in_use: Counter[tuple[ClientId, str]] = Counter()

    def get(self, key: str) -> ArrivedUpdate | None:
        """Return an update that still waits."""
        return self._arrived.get(key)

    def answer(self, key: str, receipt: UpdateReceipt) -> None:
        """Tell the client that waits for it what became of its update; the first answer counts."""
        arrived = self._arrived.get(key)
        if arrived is not None and not arrived.answer.done():
            arrived.answer.set_result(receipt)

    async def judged(
        self, client: ClientId, header: UpdateHeader, upload: SpooledUpload, tell: Callable[[str], None]
    ) -> UpdateReceipt:
        """Hand an update to who judges it, wait for the answer, and free its bytes.

        Args:
            tell: called with the key that the update has here.
        """
        answer: asyncio.Future[UpdateReceipt] = asyncio.get_running_loop().create_future()
        # The same bytes may come again for the next attempt while they are being added to a sum that is given up: each
        # arrival has an answer of its own, and the last one to be done with the bytes lets go of them.
        key, shared = f"{client}/{header.upload_id}/{next(self._numbers)}", (client, header.upload_id)
        self._arrived[key] = ArrivedUpdate(client, header, upload, answer)
        self._in_use[shared] += 1
        try:
            tell(key)
            return await answer
        finally:
            del self._arrived[key]
            self._in_use[shared] -= 1
            if not self._in_use[shared]:
                del self._in_use[shared]
                await upload.discard()
