"""The combiner's words to the reducer, over reconnections."""

import asyncio
from collections import deque

from fedn_py.protocol.cell_progress import CellProgress
from fedn_py.protocol.messages import (
    AttachedClients,
    CellFailed,
    CommitteeFormed,
    FromCombiner,
    MaskedPartial,
    PartialAggregate,
    ToCombiner,
    ValidationReport,
    WordPassedOn,
)
from fedn_py.runtime.logging import logger
from fedn_py.transport.links import Link

PROGRESS_EVERY_S = 0.2

MOST_WORDS = 500
"""Words of clients that wait for the reducer; fewer than a stream's outbox takes at once."""

_log = logger("fedn_py.combiner")


class ReducerVoice:
    """Says things to the reducer while it is connected; implements ``ReducerStream``.

    The last answer is said again on every new stream, as nobody knows whether the old one carried it: the reducer
    takes it once. So is the newest committee, before an answer that belongs to it. Progress is thinned out, the newest
    counts. What clients say waits while the reducer is away, and goes out in its order.
    """

    def __init__(self) -> None:
        self._link: Link[FromCombiner, ToCombiner] | None = None
        self._last_report: FromCombiner | None = None
        self._committee: CommitteeFormed | None = None
        self._words: deque[WordPassedOn] = deque()
        self._attached = AttachedClients(())
        self._progress: CellProgress | None = None
        self._thinning: asyncio.TimerHandle | None = None

    def connected(self, link: Link[FromCombiner, ToCombiner]) -> None:
        """Go on with a new stream: say who is attached, the last answer again, and what has waited."""
        self._link = link
        link.send(self._attached)
        for again in (self._committee, self._last_report):
            if again is not None:
                link.send(again)
        while self._words:
            link.send(self._words.popleft())

    def disconnected(self) -> None:
        """Note that the stream has ended."""
        self._link = None

    def attached(self, clients: AttachedClients) -> None:
        """Say who is attached now."""
        self._attached = clients
        self.beat()

    def beat(self) -> None:
        """Give a sign of life."""
        if self._link is not None:
            self._link.send(self._attached)

    def report(self, message: FromCombiner) -> None:
        """Send an answer; it is sent again after a reconnection until the next one takes its place."""
        self._last_report = message
        if self._committee is not None and _is_newer(message, self._committee):
            self._committee = None
        if self._link is not None:
            self._link.send(message)

    def tell_committee(self, formed: CommitteeFormed) -> None:
        """Say who a cell's committee is; it is said again after a reconnection until a newer order is answered."""
        self._committee = formed
        if self._link is not None:
            self._link.send(formed)

    def pass_on(self, word: WordPassedOn) -> None:
        """Pass on what a client says, now or when the reducer is back; of too much the oldest is dropped."""
        if self._link is not None:
            self._link.send(word)
            return
        if len(self._words) >= MOST_WORDS:
            dropped = self._words.popleft()
            _log.warning("a client's word is dropped: the reducer is away", client=dropped.client)
        self._words.append(word)

    def mention(self, progress: CellProgress) -> None:
        """Send how far the work is, at most a few times a second."""
        self._progress = progress
        if self._thinning is None:
            self._thinning = asyncio.get_running_loop().call_later(PROGRESS_EVERY_S, self._send_progress)

    def _send_progress(self) -> None:
        self._thinning = None
        if self._link is not None and self._progress is not None:
            self._link.send(self._progress.told())


def _is_newer(message: FromCombiner, committee: CommitteeFormed) -> bool:
    reports = PartialAggregate | MaskedPartial | CellFailed | ValidationReport
    return isinstance(message, reports) and message.generation > committee.generation
