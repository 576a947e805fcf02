"""The combiner's gRPC service: it decodes, calls, encodes, and decides nothing."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import grpc

from fedn_py.errors import FednError
from fedn_py.identity import ClientId
from fedn_py.protocol.messages import (
    ClientHello,
    FromClient,
    Heartbeat,
    SaidToClient,
    ToClient,
    TurnCame,
    UpdateHeader,
    UpdateReceipt,
)
from fedn_py.transport import codec, reading
from fedn_py.transport.attendance import Attendance, first_message, present
from fedn_py.transport.authentication import Caller, Role, current_caller
from fedn_py.transport.chunks import UploadStart, WrongOffset
from fedn_py.transport.held_upload import UploadDropped, UploadIncomplete, UploadTakenOver
from fedn_py.transport.judgements import Judgements
from fedn_py.transport.parts import part_reader
from fedn_py.transport.spool import Spool, SpooledUpload
from fedn_py.transport.status import refusals
from fedn_py.transport.streams import HEARTBEATS_MISSED, Outbox, PeerTooSlow, bounded, converse, open_for_answers
from fedn_py.transport.transfer_server import STALL_S, TransferPlaces, add_handlers, owner_of, read_start, receive
from fedn_py.transport.waiting_line import NotYourTurn, Reachable
from fedn_py.wire.v1 import network_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]

_GOES_ON = (NotYourTurn, PeerTooSlow, UploadDropped, UploadIncomplete, UploadTakenOver, WrongOffset)
"""Ends of a stream, not of its update: the client goes on where it stopped, or has done so already."""


_ALWAYS_THE_SAME: dict[type[ToClient], bytes] = {
    type(message): codec.write_to_client(message).SerializeToString() for message in (Heartbeat(), TurnCame())
}


class CombinerCalls(Protocol):
    """What the combiner does with what reaches it. A FednError that is raised is the peer's answer."""

    async def client_attached(self, hello: ClientHello, caller: Caller, outbox: Outbox[ToClient]) -> None:
        """Take in a client, or raise why not; ClientWelcome is the first thing to put into its outbox."""
        ...

    async def client_said(self, client: ClientId, message: FromClient) -> None:
        """Take a message of an attached client; never a hello."""
        ...

    async def client_left(self, client: ClientId) -> None:
        """Learn that the stream of an attached client is over."""
        ...

    async def update_offered(self, header: UpdateHeader, caller: Caller) -> UpdateReceipt | None:
        """Return what becomes of an update that is not wanted, or raise why, before a byte of it is taken."""
        ...

    async def update_arrived(self, header: UpdateHeader, caller: Caller, update: SpooledUpload) -> UpdateReceipt:
        """Judge a whole update and discard its bytes when done with them."""
        ...


class CombinerService:
    """Serves Combiner.

    Args:
        heartbeat_s: how often clients are told to be heard from, and are written to; one that misses three has left.
        spool: where updates wait until they are whole.
        reachable: told of clients, while they are attached, that they can be called there.
        refused: told why an update was refused before it came to be judged; its code comes first.
    """

    def __init__(
        self,
        calls: CombinerCalls,
        spool: Spool,
        *,
        heartbeat_s: float,
        places: TransferPlaces | None = None,
        stall_s: float = STALL_S,
        refused: Callable[[str], None] = lambda _: None,
        reachable: Reachable | None = None,
    ) -> None:
        self._calls, self._spool, self._refused = calls, spool, refused
        self._heartbeat_s, self._stall_s = heartbeat_s, stall_s
        self._places = places or TransferPlaces()
        self._attendance: Attendance[ToClient] = Attendance()
        self._judgements = Judgements()
        self._reachable = reachable or Reachable()
        self._last_sent: tuple[object, bytes] = (None, b"")

    @property
    def roles(self) -> Mapping[str, frozenset[Role]]:
        """Who may call what."""
        return {
            "/fedn_py.wire.v1.Combiner/Attach": frozenset({"client"}),
            "/fedn_py.wire.v1.Combiner/SendUpdate": frozenset({"client"}),
        }

    def register(self, server: grpc.aio.Server) -> None:
        """Add the handlers."""
        handlers = {
            "Attach": grpc.stream_stream_rpc_method_handler(
                self.Attach, pb.FromClient.FromString, response_serializer=None
            ),
            "SendUpdate": grpc.stream_unary_rpc_method_handler(
                self.SendUpdate, part_reader(pb.UpdatePart), response_serializer=pb.UpdateReceipt.SerializeToString
            ),
        }
        add_handlers(server, "fedn_py.wire.v1.Combiner", handlers)

    async def close(self) -> None:
        """End all streams, when what waits for their peers is sent."""
        await self._attendance.close("the combiner stops")

    def held(self, owner: str, upload_id: str) -> int:
        """Return how many bytes of an upload are here or were here and are judged: TransferService's ``status``."""
        return self._judgements.size_of(owner, upload_id) or self._spool.held(owner, upload_id)

    async def Attach(self, _requests: Any, context: Context) -> None:  # noqa: N802 - gRPC's name
        """Serve a client's stream."""
        async with refusals(context):
            caller = current_caller()
            hello = codec.read_from_client(await first_message(context.read))
            if not isinstance(hello, ClientHello):
                raise reading.malformed("the first message of a client", f"is a {type(hello).__name__}, no hello")
            outbox: Outbox[ToClient] = Outbox(f"client {hello.name}")
            async with self._attendance.of((caller.role, caller.name, hello.client), outbox):
                arrive = self._calls.client_attached(hello, caller, outbox)
                async with present(arrive, lambda: self._calls.client_left(hello.client), outbox):
                    with self._reachable.by(owner_of(caller), lambda: _call_up(outbox)):
                        await self._attend(hello, outbox, context)

    async def SendUpdate(self, _requests: Any, context: Context) -> pb.UpdateReceipt | None:  # noqa: N802 - gRPC's name
        """Take an update and answer with what became of it."""
        async with refusals(context):
            caller = current_caller()
            with self._places.taken(caller):
                return codec.write_update_receipt(await self._take(caller, context))

    async def _attend(self, hello: ClientHello, outbox: Outbox[ToClient], context: Context) -> None:
        async def said(message: FromClient) -> None:
            if isinstance(message, ClientHello):
                raise reading.malformed("a message after the first", "is a hello")
            if not isinstance(message, Heartbeat):
                await self._calls.client_said(hello.client, message)

        await open_for_answers(context)
        await converse(
            peer=f"client {hello.name}",
            read=context.read,
            write=context.write,
            decode=codec.read_from_client,
            encode=self._encoded,
            outbox=outbox,
            said=said,
            silence_s=HEARTBEATS_MISSED * self._heartbeat_s,
            idle_s=self._heartbeat_s,
            idle_message=Heartbeat(),
        )

    def _encoded(self, message: ToClient) -> bytes:
        """Put a message into bytes; one that goes to all clients, one after the other, once for all."""
        if isinstance(message, Heartbeat | TurnCame):
            return _ALWAYS_THE_SAME[type(message)]
        said = message.word if isinstance(message, SaidToClient) else message
        if said is not self._last_sent[0]:
            self._last_sent = (said, bounded(codec.write_to_client(message)).SerializeToString())
        return self._last_sent[1]

    async def _take(self, caller: Caller, context: Context) -> UpdateReceipt:
        first = await read_start(context, self._stall_s, "an update")
        header = codec.read_update_header(first.start.header)
        offset = reading.count(first.start.offset, "start.offset")
        owner = owner_of(caller)
        known = await self._judgements.known(owner, header)
        if known is not None:
            return known
        start = UploadStart(header.upload_id, offset, header.size, header.sha256)
        try:
            unwanted = await self._calls.update_offered(header, caller)
            if unwanted is not None:
                if not unwanted.accepted:
                    self._refused(unwanted.reason)
                return unwanted
            update = await receive(self._spool, owner, start, context, self._stall_s)
            return await self._judgements.judge(
                owner, header, lambda: self._calls.update_arrived(header, caller, update)
            )
        except _GOES_ON:
            raise
        except FednError as fault:
            self._refused(f"{fault.code}: {fault.message}")
            raise


def _call_up(outbox: Outbox[ToClient]) -> bool:
    outbox.send(TurnCame())
    return not outbox.closed
