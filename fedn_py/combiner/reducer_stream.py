"""The combiner's words to the reducer, over reconnections."""

import asyncio

from fedn_py.protocol.messages import AttachedClients, FromCombiner, RoundProgress, ToCombiner
from fedn_py.transport.links import Link

PROGRESS_EVERY_S = 0.2


class ReducerVoice:
    """Says things to the reducer while it is connected; implements ``ReducerStream``.

    The last answer is said again on every new stream, as nobody knows whether the old one carried it: the reducer
    takes it once. Progress is thinned out, the newest counts.
    """

    def __init__(self) -> None:
        self._link: Link[FromCombiner, ToCombiner] | None = None
        self._last_report: FromCombiner | None = None
        self._attached = AttachedClients(())
        self._progress: RoundProgress | None = None
        self._thinning: asyncio.TimerHandle | None = None

    def connected(self, link: Link[FromCombiner, ToCombiner]) -> None:
        """Go on with a new stream: say who is attached, and the last answer again."""
        self._link = link
        link.send(self._attached)
        if self._last_report is not None:
            link.send(self._last_report)

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
        if self._link is not None:
            self._link.send(message)

    def mention(self, message: FromCombiner) -> None:
        """Send how far the work is, at most a few times a second."""
        if not isinstance(message, RoundProgress):
            return
        self._progress = message
        if self._thinning is None:
            self._thinning = asyncio.get_running_loop().call_later(PROGRESS_EVERY_S, self._send_progress)

    def _send_progress(self) -> None:
        self._thinning = None
        if self._link is not None and self._progress is not None:
            self._link.send(self._progress)
