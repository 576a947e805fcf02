"""What became of the updates that arrived: a client whose connection broke before the answer came gets the same one."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fedn_py.protocol.messages import UpdateHeader, UpdateReceipt
from fedn_py.transport import codec

_MOST_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class _Made:
    """One judgement, without the header that it is of: a masked one is as long as its committee is large.

    Attributes:
        header: sha256 of it as it is written.
        size: of the update, in bytes.
    """

    header: bytes
    size: int
    task: asyncio.Task[UpdateReceipt]


class Judgements:
    """Judges each upload once, however often it is asked for; the latest ones are remembered."""

    def __init__(self, most: int = _MOST_REMEMBERED) -> None:
        self._most = most
        self._made: OrderedDict[tuple[str, str], _Made] = OrderedDict()

    def size_of(self, owner: str, upload_id: str) -> int:
        """Return the size of an upload that is judged or being judged, 0 for others."""
        made = self._made.get((owner, upload_id))
        return made.size if made is not None else 0

    async def known(self, owner: str, header: UpdateHeader) -> UpdateReceipt | None:
        """Return what became of exactly this upload, None where it is not known.

        The same bytes under another header, for the next attempt at a round, are judged anew: their earlier judgement
        is forgotten, so that they are not taken to be here.
        """
        key = (owner, header.upload_id)
        made = self._made.get(key)
        if made is None:
            return None
        if made.header == _sha256(header):
            return await asyncio.shield(made.task)
        if made.task.done():
            del self._made[key]
        return None

    async def judge(
        self, owner: str, header: UpdateHeader, work: Callable[[], Coroutine[Any, Any, UpdateReceipt]]
    ) -> UpdateReceipt:
        """Return the answer of ``work``, which runs to its end even when nobody waits for it any more.

        A judgement that ends in a fault is not remembered: the update may be sent again.
        """
        key, said = (owner, header.upload_id), _sha256(header)
        if key not in self._made or self._made[key].header != said:
            task = asyncio.ensure_future(work())
            self._made[key] = _Made(said, header.size, task)
            task.add_done_callback(lambda done: self._forget_fault(key, done))
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        return await asyncio.shield(self._made[key].task)

    def _forget_fault(self, key: tuple[str, str], done: "asyncio.Task[UpdateReceipt]") -> None:
        failed = done.cancelled() or done.exception() is not None
        if failed and key in self._made and self._made[key].task is done:
            del self._made[key]


def _sha256(header: UpdateHeader) -> bytes:
    return hashlib.sha256(codec.write_update_header(header).SerializeToString(deterministic=True)).digest()
