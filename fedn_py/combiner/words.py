"""Words of masked rounds that only pass here: from clients to the reducer, and from the reducer to clients.

A client has few things to say in a round. One that says many is listened to more slowly, so that the others are heard:
its stream is not read in the meantime, and nothing of it is lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from fedn_py.combiner.answer_streams import AnswerStreams
from fedn_py.combiner.ports import ReducerStream
from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId
from fedn_py.protocol.masked.registry import Registered
from fedn_py.protocol.masked.round_messages import Answer
from fedn_py.protocol.masked.signing import Signed, read_signed
from fedn_py.protocol.masked.words import StreamWanted, WordFromClient
from fedn_py.protocol.messages import SaidToClient, ToClient, WordForClients, WordPassedOn
from fedn_py.runtime.logging import logger

AT_ONCE = 64
"""Words that a client may say at once."""

EACH_S = 0.25
"""What every further one takes, in seconds."""

_MOST_KNOWN = 20_000

_log = logger("fedn_py.combiner")


class Words:
    """Passes words on, and notes what they say of answers' streams.

    Args:
        send: puts a message into a client's outbox; drops it when the client is not attached.
        clock: seconds, monotonic.
        pause: waits for so many seconds.
    """

    def __init__(
        self,
        reducer: ReducerStream,
        send: Callable[[ClientId, ToClient], None],
        streams: AnswerStreams,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._reducer = reducer
        self._send = send
        self._streams = streams
        self._clock, self._pause = clock, pause
        self._paid_until: dict[ClientId, float] = {}

    async def from_client(self, client: ClientId, registered: Registered | None, word: WordFromClient) -> None:
        """Pass on what a client says to the reducer."""
        if isinstance(word, Signed) and word.said == Answer.kind and registered is not None:
            self._note(client, registered, word)
        self._reducer.pass_on(WordPassedOn(client, word))
        await self._pause_after(client)

    def for_clients(self, message: WordForClients, attached: Iterable[ClientId]) -> None:
        """Pass on what the reducer says."""
        for client in message.clients or tuple(attached):
            if isinstance(message.word, StreamWanted):
                self._streams.asked(client, message.word.ctx)
            self._send(client, SaidToClient(message.word))

    def _note(self, client: ClientId, registered: Registered, word: Signed) -> None:
        try:
            answer = read_signed(word, Answer, signer=registered.client_key)
        except PeerFault as fault:
            _log.info("answer not understood", client=client, reason=f"{fault.code}: {fault.message}")
            return
        self._streams.announced(client, answer.ctx, answer.stream_bytes)

    async def _pause_after(self, client: ClientId) -> None:
        now = self._clock()
        paid_until = max(self._paid_until.get(client, now), now) + EACH_S
        if len(self._paid_until) >= _MOST_KNOWN:
            self._paid_until = {one: until for one, until in self._paid_until.items() if until > now}
        self._paid_until[client] = paid_until
        ahead = paid_until - now - AT_ONCE * EACH_S
        if ahead > 0:
            await self._pause(ahead)
