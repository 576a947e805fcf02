"""Lines between processes that live in one: every message is written to bytes and read from them, as on real streams.

Whoever lays an ambush gets the bytes of the messages that it waits for, and the door that they were on their way to.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message
from unruly_store import Trouble

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId
from fedn_py.protocol import messages as m
from fedn_py.protocol.masked.round_messages import Included, OpenSum2
from fedn_py.protocol.masked.signing import Signed
from fedn_py.transport import codec
from fedn_py.wire.v1 import network_pb2 as pb

Result = TypeVar("Result")

Door = Callable[[bytes], Awaitable[Any]]
"""Takes a message's bytes in; raises PeerFault where they are refused before anything is done."""


@dataclass(frozen=True)
class Way:
    """One direction between two roles.

    Attributes:
        to: the role that receives.
    """

    name: str
    to: str
    wire: type[Message]
    write: Callable[[Any], Message]
    read: Callable[[Any], Any]

    def bytes_of(self, message: Any) -> bytes:
        return self.write(message).SerializeToString()

    def value_of(self, wire: bytes) -> Any:
        return self.read(codec.parse(self.wire, wire))


TO_CLIENT = Way("combiner to client", "client", pb.ToClient, codec.write_to_client, codec.read_to_client)
FROM_CLIENT = Way("client to combiner", "combiner", pb.FromClient, codec.write_from_client, codec.read_from_client)
TO_COMBINER = Way("reducer to combiner", "combiner", pb.ToCombiner, codec.write_to_combiner, codec.read_to_combiner)
FROM_COMBINER = Way(
    "combiner to reducer", "reducer", pb.FromCombiner, codec.write_from_combiner, codec.read_from_combiner
)
ASSIGNING = Way("client to reducer", "reducer", pb.AssignRequest, codec.write_assign_request, codec.read_assign_request)
UPLOADING = Way("upload", "combiner", pb.UpdateHeader, codec.write_update_header, codec.read_update_header)


@dataclass(frozen=True)
class Passing:
    """A message on its way.

    Attributes:
        kind: what it is of a masked round; empty for everything else.
        client: who says it or is told it; None where it is nobody's in particular.
    """

    way: Way
    kind: str
    client: ClientId | None
    message: Any
    wire: bytes


@dataclass(eq=False)
class Ambush:
    """Waits for messages.

    Attributes:
        springs: given one that was waited for and its door; passes on what it likes. What it raises ends the line.
        left: how many it still takes.
        until: what shows that it is over.
    """

    wanted: Callable[[Passing], bool]
    springs: Callable[[Passing, Door], Awaitable[None]]
    left: int = 1
    until: Callable[[Passing], bool] = lambda _: False


class LineCut(PeerFault):
    """A connection was cut."""


class Lines:
    """All lines of a network.

    Attributes:
        trouble: by the name of a way or a transfer, what goes wrong with it; its connection goes with it.
        passed: the last messages of masked rounds, as their senders said them.
        committed: the newest round that the reducer has told of. orders: how many it has given.
        cells_failed: why, as combiners told the reducer.
        asked: the sets that it has asked for, as (ctx, H(U)).
        news: set with each message.
    """

    def __init__(self) -> None:
        self._ambushes: list[Ambush] = []
        self.trouble: dict[str, Trouble] = {}
        self.passed: list[Passing] = []
        self.most_kept = 400
        self.committed = 0
        self.orders = 0
        self.cells_failed: list[str] = []
        self.asked: set[tuple[bytes, bytes]] = set()
        self.news = asyncio.Event()

    def lay(self, ambush: Ambush) -> Ambush:
        self._ambushes.append(ambush)
        return ambush

    def lift(self, ambush: Ambush) -> None:
        if ambush in self._ambushes:
            self._ambushes.remove(ambush)

    async def carry(self, way: Way, client: ClientId | None, message: Any, door: Door) -> Any:
        """Carry a message to its door, or into the ambush that waits for it."""
        return await self.over(way.name, self._carry(way, client, message, door))

    async def over(self, name: str, work: Coroutine[Any, Any, Result]) -> Result:
        """Do what goes over a connection of this name, unless that is cut before; it may also be cut just behind it."""
        mischief = self.trouble[name].next_call(writes=True) if name in self.trouble else None
        if mischief in {"fails", "lost, not applied"}:
            work.close()
            raise LineCut("the connection was cut before it was done")
        answer = await work
        if mischief:
            raise LineCut("the connection was cut when it was done")
        return answer

    async def _carry(self, way: Way, client: ClientId | None, message: Any, door: Door) -> Any:
        passing = Passing(way, kind_of(way, message), client, message, way.bytes_of(message))
        if passing.kind:
            self.passed.append(passing)
            del self.passed[: -self.most_kept]
        self._note(way, message)
        self.news.set()
        for ambush in list(self._ambushes):
            if not ambush.left or ambush.until(passing):
                self.lift(ambush)
            elif passing.kind and ambush.wanted(passing):
                ambush.left -= 1
                return await ambush.springs(passing, door)
        return await door(passing.wire)

    def _note(self, way: Way, message: Any) -> None:
        match message:
            case m.RoundCommitted(round_number=number) if way is TO_COMBINER:
                self.committed = number
            case m.CellOrder():
                self.orders += 1
            case m.CellFailed(reason=reason):
                self.cells_failed.append(reason)
            case m.WordForClients(word=Included(opening=signed)):
                opening = OpenSum2.decode(signed.body)
                self.asked.add((opening.ctx, opening.included_hash))


def kind_of(way: Way, message: Any) -> str:
    """Return what a message is of a masked round, as the table of kinds names it."""
    match message:
        case m.TrainTask(masked=body) | m.CellOrder(masked=body) | m.UpdateHeader(masked=body) if body is not None:
            return body.kind
        case m.SaidToClient(word) | m.SaidByClient(word) | m.WordPassedOn(word=word) | m.WordForClients(word=word):
            return _kind_of_word(word)
        case m.PolicyNews():
            return "policy"
        case m.CommitteeFormed(committee=body) | m.CommitteeStored(committee=body):
            return body.kind
        case m.MaskedPartial(closed=body) if body is not None:
            return body.said
        case m.ClientHello(chain=body) | m.AssignRequest(chain=body) if body is not None:
            return body.kind
        case m.CombinerHello(certificate=body) if body is not None:
            return body.said
        case _:
            return ""


def _kind_of_word(word: Any) -> str:
    return word.said if isinstance(word, Signed) else str(word.kind)


class Queue:
    """What waits to be carried on one line, in its order."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Any] = asyncio.Queue()

    def send(self, message: Any) -> None:
        self._waiting.put_nowait(message)

    async def next(self) -> Any:
        return await self._waiting.get()


async def until_one_ends(*work: Any) -> None:
    """Run coroutines until one ends; a fault of a peer is how a line ends, anything else is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for fault in ended:
        if isinstance(fault, Exception) and not isinstance(fault, PeerFault):
            raise fault
