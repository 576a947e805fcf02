"""One cell's boxes on their way to its members: kept while the cell lasts, sent in batches."""

import asyncio
from collections.abc import Callable, Iterable

from fedn_py.identity import ClientId
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.round_messages import BoxFor, IncludedRow
from fedn_py.protocol.masked.words import MOST_BOXES, Boxes, MaskedUpload
from fedn_py.protocol.messages import SaidToClient, ToClient

GATHER_S = 0.02
"""Boxes wait so long for others to go with them: an upload takes far longer."""


class BoxRelay:
    """Keeps each upload's boxes, and sends every member its own.

    Args:
        send: puts a message into a client's outbox; drops it when the client is not attached.
    """

    def __init__(self, committee: Committee, send: Callable[[ClientId, ToClient], None]) -> None:
        self._ctx = committee.ctx
        self._seats = {
            ClientId(member.client.client_id.hex()): (member.slot, member.replica) for member in committee.members
        }
        self._send = send
        self._kept: dict[IncludedRow, MaskedUpload] = {}
        self._waiting: dict[ClientId, dict[IncludedRow, None]] = {}
        self._gathering: asyncio.TimerHandle | None = None

    def keep(self, row: IncludedRow, upload: MaskedUpload) -> None:
        """Keep an upload's boxes, which are as its header says."""
        self._kept[row] = upload

    def drop(self, row: IncludedRow) -> None:
        """Let go of an upload's boxes."""
        self._kept.pop(row, None)

    def send(self, member: ClientId, rows: Iterable[IncludedRow]) -> None:
        """Send a member its boxes of these uploads, with others that come at the same time."""
        self._waiting.setdefault(member, {}).update(dict.fromkeys(rows))
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._send_waiting)

    def close(self) -> None:
        """Let go of everything."""
        if self._gathering is not None:
            self._gathering.cancel()
        self._kept.clear()
        self._waiting.clear()

    def _send_waiting(self) -> None:
        self._gathering = None
        waiting, self._waiting = self._waiting, {}
        for member, rows in waiting.items():
            boxes = [self._box(member, self._kept[row]) for row in rows if row in self._kept]
            for start in range(0, len(boxes), MOST_BOXES):
                self._send(member, SaidToClient(Boxes(self._ctx, tuple(boxes[start : start + MOST_BOXES]))))

    def _box(self, member: ClientId, upload: MaskedUpload) -> BoxFor:
        slot, replica = self._seats[member]
        return BoxFor(upload.chain, upload.header, upload.boxes[slot][replica])
