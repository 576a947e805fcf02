"""Words of masked rounds that only pass here: from clients to the reducer, and from the reducer to clients.

A client has few things to say in a round; one that floods is cut short, so that the others are heard.
"""

from collections.abc import Callable, Iterable

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

EACH_S = 1.0
"""After so many seconds it may say another one."""

_log = logger("fedn_py.combiner")


class Words:
    """Passes words on, and notes what they say of answers' streams.

    Args:
        send: puts a message into a client's outbox; drops it when the client is not attached.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        reducer: ReducerStream,
        send: Callable[[ClientId, ToClient], None],
        streams: AnswerStreams,
        clock: Callable[[], float],
    ) -> None:
        self._reducer = reducer
        self._send = send
        self._streams = streams
        self._clock = clock
        self._spent: dict[ClientId, float] = {}

    def from_client(self, client: ClientId, registered: Registered | None, word: WordFromClient) -> None:
        """Pass on what a client says to the reducer."""
        if not self._may_speak(client):
            return
        if isinstance(word, Signed) and word.said == Answer.kind and registered is not None:
            self._note(client, registered, word)
        self._reducer.pass_on(WordPassedOn(client, word))

    def for_clients(self, message: WordForClients, attached: Iterable[ClientId]) -> None:
        """Pass on what the reducer says."""
        for client in message.clients or tuple(attached):
            if isinstance(message.word, StreamWanted):
                self._streams.asked(client, message.word.ctx)
            self._send(client, SaidToClient(message.word))

    def forget(self, client: ClientId) -> None:
        """Let go of what is known of a client that has left for good."""
        self._spent.pop(client, None)

    def _note(self, client: ClientId, registered: Registered, word: Signed) -> None:
        try:
            answer = read_signed(word, Answer, signer=registered.client_key)
        except PeerFault as fault:
            _log.info("answer not understood", client=client, reason=f"{fault.code}: {fault.message}")
            return
        self._streams.announced(client, answer.ctx, answer.stream_bytes)

    def _may_speak(self, client: ClientId) -> bool:
        """Count a word; the time at which all words so far are paid for may lie AT_ONCE words ahead."""
        now = self._clock()
        paid = max(self._spent.get(client, now), now) + EACH_S
        if paid > now + AT_ONCE * EACH_S:
            _log.info("a client says more than a round asks for", client=client)
            return False
        self._spent[client] = paid
        return True
