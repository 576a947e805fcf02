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
class _Judging:
    """A judgement under way, without the header that it is of: a masked one is as long as its committee is large.

    Attributes:
        header: sha256 of it as it is written.
        size: of the update, in bytes.
    """

    header: bytes
    size: int
    task: asyncio.Task[UpdateReceipt]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A judgement that was made, without its task: that would hold the call that it was made in."""

    upload_id: str
    header: bytes
    size: int
    receipt: UpdateReceipt


class Judgements:
    """Judges each upload once, however often it is asked for; of each owner the one that ended last is remembered.

    Args:
        most: owners of whom one is remembered.
    """

    def __init__(self, most: int = _MOST_REMEMBERED) -> None:
        self._most = most
        self._judging: dict[tuple[str, str], _Judging] = {}
        self._judged: OrderedDict[str, _Judged] = OrderedDict()

    def size_of(self, owner: str, upload_id: str) -> int:
        """Return the size of an upload that is judged or being judged, 0 for others."""
        judging = self._judging.get((owner, upload_id))
        if judging is not None:
            return judging.size
        judged = self._judged.get(owner)
        return judged.size if judged is not None and judged.upload_id == upload_id else 0

    async def known(self, owner: str, header: UpdateHeader) -> UpdateReceipt | None:
        """Return what became of exactly this upload, None where it is not known.

        The same bytes under another header, for the next attempt at a round, are judged anew: their earlier judgement
        is forgotten, so that they are not taken to be here.
        """
        if not self.size_of(owner, header.upload_id):
            return None  # as for nearly all uploads: their headers need no hash yet
        return await self._known(owner, header.upload_id, _sha256(header))

    async def _known(self, owner: str, upload_id: str, said: bytes) -> UpdateReceipt | None:
        judging = self._judging.get((owner, upload_id))
        if judging is not None:
            return await asyncio.shield(judging.task) if judging.header == said else None
        judged = self._judged.get(owner)
        if judged is None or judged.upload_id != upload_id:
            return None
        if judged.header == said:
            return judged.receipt
        del self._judged[owner]
        return None

    async def judge(
        self, owner: str, header: UpdateHeader, work: Callable[[], Coroutine[Any, Any, UpdateReceipt]]
    ) -> UpdateReceipt:
        """Return the answer of ``work``, which runs to its end even when nobody waits for it any more.

        A judgement that ends in a fault is not remembered: the update may be sent again.
        """
        key, said = (owner, header.upload_id), _sha256(header)
        known = await self._known(*key, said)
        if known is not None:
            return known
        judging = _Judging(said, header.size, asyncio.ensure_future(work()))
        self._judging[key] = judging
        judging.task.add_done_callback(lambda _: self._remember(key, judging))
        return await asyncio.shield(judging.task)

    def _remember(self, key: tuple[str, str], judging: _Judging) -> None:
        failed = judging.task.cancelled() or judging.task.exception() is not None
        if self._judging.get(key) is not judging:
            return  # the same upload is judged anew
        del self._judging[key]
        if failed:
            return
        owner, upload_id = key
        self._judged[owner] = _Judged(upload_id, judging.header, judging.size, judging.task.result())
        self._judged.move_to_end(owner)
        while len(self._judged) > self._most:
            self._judged.popitem(last=False)


def _sha256(header: UpdateHeader) -> bytes:
    return hashlib.sha256(codec.write_update_header(header).SerializeToString(deterministic=True)).digest()
