"""Uploads and downloads over real servers, TLS, and connections that break in the middle."""

import asyncio
import contextlib
import gc
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from awaiting import until
from grpc_network import (
    A_CLIENT,
    ANNA,
    BERT,
    HEARTBEAT_S,
    QUICK,
    CuttingProxy,
    MemoryObjects,
    RecordingCombiner,
    RecordingReducer,
    Size,
    a_header,
    a_spool,
    combiner,
    connected,
    digest_of,
    reducer,
    serving,
)

from fedn_py.errors import PeerFault
from fedn_py.identity import Digest
from fedn_py.protocol.messages import ClientHello, UpdateReceipt
from fedn_py.transport import codec, transfer, transfer_server
from fedn_py.transport.authentication import Caller
from fedn_py.transport.channels import Channel
from fedn_py.transport.chunks import GO_ON, DigestMismatch, UploadStart
from fedn_py.transport.codec_rounds import raw_digest
from fedn_py.transport.combiner_link import CombinerLink
from fedn_py.transport.combiner_server import CombinerService
from fedn_py.transport.go_ons import GoOns
from fedn_py.transport.landing import ObjectTooLarge
from fedn_py.transport.parts import Chunk
from fedn_py.transport.status import PeerUnreachable, RemoteFault, restored
from fedn_py.transport.transfer import Patience, download, upload_object, upload_update
from fedn_py.transport.transfer_server import StoreSink, TransferService
from fedn_py.transport.waiting_line import Reachable, WaitingLine
from fedn_py.wire.v1 import network_pb2, network_pb2_grpc, transfer_pb2, transfer_pb2_grpc

MIB = 1 << 20
IMPATIENT = Patience(attempts=1)


class Unwanted(PeerFault):
    """A combiner of a test does not want it."""


def test_an_update_arrives_whole_and_is_answered(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 17)

    async def story() -> None:
        calls = RecordingCombiner()
        spool = await a_spool(tmp_path / "spool")
        async with combiner(calls, spool) as address, connected(address) as channel:
            assert await upload_update(channel, a_header(data), data) == UpdateReceipt(accepted=True)
        assert calls.updates == [data]
        assert spool.uploads == 0
        assert list((tmp_path / "spool").iterdir()) == []

    asyncio.run(story())


def test_an_upload_that_is_cut_goes_on_and_each_byte_is_received_once(tmp_path: Path) -> None:
    data = os.urandom(8 * MIB)
    file = tmp_path / "update"
    file.write_bytes(data)

    async def story() -> None:
        calls = RecordingCombiner()
        spool = await a_spool(tmp_path / "spool")
        async with combiner(calls, spool) as address:
            proxy = CuttingProxy(address, [3 * MIB, 4 * MIB], upward=True)
            async with proxy as through, connected(through) as channel:
                receipt = await upload_update(channel, a_header(data), file, patience=QUICK)
        assert receipt.accepted
        assert proxy.cut == 2
        assert calls.updates == [data]

    asyncio.run(story())


@pytest.mark.parametrize("cuts", [(), (5,), (2 * MIB,), (MIB, 2 * MIB + 7)])
def test_an_upload_of_which_more_is_held_than_its_sender_knows_goes_on_there(
    tmp_path: Path, cuts: tuple[int, ...]
) -> None:
    data = os.urandom(3 * MIB)
    in_pieces = tuple(memoryview(data)[start:end] for start, end in pairwise((0, *cuts, len(data))))
    source = in_pieces if cuts else data

    async def story() -> None:
        calls = RecordingCombiner()
        spool = await a_spool(tmp_path / "spool")
        begun = await spool.begin(f"client {ANNA}", UploadStart("ab" * 8, 0, len(data), digest_of(data)))
        await begun.append(data[: 2 * MIB])
        async with combiner(calls, spool) as address, connected(address) as channel:
            assert (await upload_update(channel, a_header(data), source, patience=IMPATIENT)).accepted
        assert calls.updates == [data]
        assert spool.received_bytes == len(data)

    asyncio.run(story())


def test_a_download_that_is_cut_goes_on_from_what_is_on_disk(tmp_path: Path) -> None:
    data = os.urandom(16 * MIB)
    objects = MemoryObjects(data)

    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        async with combiner(RecordingCombiner(), spool, objects) as address:
            proxy = CuttingProxy(address, [8 * MIB, 4 * MIB], upward=False)
            async with proxy as through, connected(through) as channel:
                size = await download(channel, digest_of(data), tmp_path / "model", patience=QUICK)
        assert size == len(data)
        assert proxy.cut == 2

    asyncio.run(story())
    assert (tmp_path / "model").read_bytes() == data
    assert objects.offsets[0] == 0
    assert objects.offsets[1] > 0
    assert objects.offsets == sorted(objects.offsets)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_downloads_that_their_clients_give_up_leave_no_word_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytes(64 * MIB)

    async def give_up(channel: Channel) -> None:
        request = transfer_pb2.DownloadRequest(sha256=raw_digest(digest_of(data)))
        call = transfer_pb2_grpc.TransferStub(channel.grpc).Download(request)
        for _ in range(2):
            await call.read()
        call.cancel()

    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        async with combiner(RecordingCombiner(), spool, MemoryObjects(data)) as address:
            # Which comes first at the server, the end of the call or a write that it cuts off, is chance.
            for _ in range(30):
                async with connected(address) as channel:
                    await give_up(channel)

    asyncio.run(story())
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_downloads_under_way_are_bounded_and_the_next_one_begins_when_one_ends(tmp_path: Path) -> None:
    data = bytes(64 * MIB)

    async def story() -> None:
        objects = MemoryObjects(data)
        service = TransferService(
            objects, await a_spool(tmp_path / "spool"), sink=None, roles=frozenset({"client"}), most_sending=1
        )
        async with (
            serving(service) as address,
            connected(address) as channel,
            connected(address, f"client:{BERT}") as other_channel,
        ):
            request = transfer_pb2.DownloadRequest(sha256=raw_digest(digest_of(data)))
            slow = transfer_pb2_grpc.TransferStub(channel.grpc).Download(request)
            await slow.read()
            other = transfer_pb2_grpc.TransferStub(other_channel.grpc).Download(request)
            await other.initial_metadata()  # it is at the server, and waits there
            assert objects.offsets == [0]
            first_part = asyncio.ensure_future(other.read())
            _, waits = await asyncio.wait([first_part], timeout=0.1)
            assert waits
            slow.cancel()
            assert (await first_part).start.size == len(data)
            other.cancel()

    asyncio.run(story())


def test_a_download_of_a_next_process_goes_on_where_the_last_one_was_killed(tmp_path: Path) -> None:
    data = os.urandom(4 * MIB)
    objects = MemoryObjects(data)
    left = tmp_path / f".model.{digest_of(data)[:16]}.part"
    left.write_bytes(data[:1234567])

    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        async with combiner(RecordingCombiner(), spool, objects) as address, connected(address) as channel:
            await download(channel, digest_of(data), tmp_path / "model")

    asyncio.run(story())
    assert objects.offsets == [1234567]
    assert (tmp_path / "model").read_bytes() == data


def test_more_bytes_on_disk_than_the_object_has_are_thrown_away(tmp_path: Path) -> None:
    data = os.urandom(1000)
    (tmp_path / f".model.{digest_of(data)[:16]}.part").write_bytes(os.urandom(2000))

    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        async with (
            combiner(RecordingCombiner(), spool, MemoryObjects(data)) as address,
            connected(address) as channel,
        ):
            await download(channel, digest_of(data), tmp_path / "model", patience=QUICK)

    asyncio.run(story())
    assert (tmp_path / "model").read_bytes() == data


def test_a_download_of_other_bytes_leaves_nothing(tmp_path: Path) -> None:
    named = digest_of(b"what was asked for")
    objects = MemoryObjects()
    objects.objects[named] = b"what the server has"

    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        async with combiner(RecordingCombiner(), spool, objects) as address, connected(address) as channel:
            with pytest.raises(DigestMismatch):
                await download(channel, named, tmp_path / "down" / "model")

    asyncio.run(story())
    assert list((tmp_path / "down").iterdir()) == []


def test_a_missing_object_is_said_in_the_store_s_own_words(tmp_path: Path) -> None:
    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        async with combiner(RecordingCombiner(), spool) as address, connected(address) as channel:
            with pytest.raises(RemoteFault) as caught:
                await download(channel, digest_of(b"never stored"), tmp_path / "model")
            assert caught.value.code == "ObjectGone"

    asyncio.run(story())


def test_a_too_large_object_is_refused_before_its_bytes(tmp_path: Path) -> None:
    data = bytes(5000)

    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        objects = MemoryObjects(data)
        async with combiner(RecordingCombiner(), spool, objects) as address, connected(address) as channel:
            with pytest.raises(ObjectTooLarge):
                await download(channel, digest_of(data), tmp_path / "model", most_bytes=4999)

    asyncio.run(story())


def test_an_upload_whose_bytes_are_not_those_declared_is_refused_and_freed(tmp_path: Path) -> None:
    data = os.urandom(2 * MIB)

    async def story() -> None:
        calls = RecordingCombiner()
        spool = await a_spool(tmp_path / "spool")
        async with combiner(calls, spool) as address, connected(address) as channel:
            with pytest.raises(RemoteFault) as caught:
                await upload_update(channel, a_header(data, sha256="0" * 64), data)
        assert caught.value.code == "DigestMismatch"
        assert calls.updates == []
        assert spool.uploads == 0
        assert list((tmp_path / "spool").iterdir()) == []

    asyncio.run(story())


def test_an_update_that_is_not_wanted_is_refused_before_its_bytes(tmp_path: Path) -> None:
    data = os.urandom(16 * MIB)

    async def story() -> None:
        calls = RecordingCombiner(refusal=Unwanted("the round is over", remedy="Wait for the next one."))
        spool = await a_spool(tmp_path / "spool")
        async with combiner(calls, spool) as address, connected(address) as channel:
            with pytest.raises(RemoteFault) as caught:
                await upload_update(channel, a_header(data), data)
        assert (caught.value.code, caught.value.message) == ("Unwanted", "the round is over")
        assert caught.value.remedy == "Wait for the next one."
        assert spool.uploads == 0

    asyncio.run(story())


def test_a_chunk_above_two_mebibytes_is_refused_by_name(tmp_path: Path) -> None:
    data = bytes(3 * MIB)

    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        async with combiner(RecordingCombiner(), spool) as address, connected(address) as channel:
            call = network_pb2_grpc.CombinerStub(channel.grpc).SendUpdate()
            header = codec.write_update_header(a_header(data))
            await call.write(network_pb2.UpdatePart(start=network_pb2.UpdateStart(header=header)))
            await call.write(network_pb2.UpdatePart(chunk=data[: 2 * MIB]))
            assert spool.memory_held + spool.disk_held <= len(data)
            await call.write(network_pb2.UpdatePart(chunk=data[: 2 * MIB + 1]))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            fault = restored(caught.value, address)
        await spool.close()
        assert fault.code == "ChunkTooLarge"

    asyncio.run(story())


def test_the_answer_to_a_judged_update_is_given_again_when_the_first_was_lost(tmp_path: Path) -> None:
    data = os.urandom(MIB)

    async def story() -> None:
        calls = RecordingCombiner()
        calls.gate.clear()
        spool = await a_spool(tmp_path / "spool")
        async with combiner(calls, spool) as address, connected(address) as channel:
            first = asyncio.ensure_future(upload_update(channel, a_header(data), data))
            assert (await calls.heard.get())[0] == "offered"
            assert (await calls.heard.get())[0] == "judging"
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            again = asyncio.ensure_future(upload_update(channel, a_header(data), data))
            calls.gate.set()
            assert (await again).accepted
            assert (await upload_update(channel, a_header(data), data)).accepted
        assert calls.updates == [data]

    asyncio.run(story())


def test_an_upload_id_is_its_owner_s_alone(tmp_path: Path) -> None:
    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        data = b"x" * 100
        incoming = await spool.begin(f"client {ANNA}", UploadStart("ab" * 8, 0, len(data), digest_of(data)))
        await incoming.append(data[:50])
        calls = RecordingCombiner()
        async with combiner(calls, spool) as address, connected(address, f"client:{BERT}") as channel:
            assert (await upload_update(channel, a_header(data), data)).accepted
        assert spool.held(f"client {ANNA}", "ab" * 8) == 50

    asyncio.run(story())


def test_a_combiner_puts_objects_into_the_reducer_s_store_and_reads_them_back(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)

    async def story() -> None:
        objects = MemoryObjects()
        spool = await a_spool(tmp_path / "spool")
        async with (
            reducer(RecordingReducer(), spool, objects) as address,
            connected(address, "combiner") as channel,
        ):
            await upload_object(channel, "cd" * 8, digest_of(data), data)
            await download(channel, digest_of(data), tmp_path / "sum")
        assert objects.objects == {digest_of(data): data}
        assert spool.uploads == 0

    asyncio.run(story())
    assert (tmp_path / "sum").read_bytes() == data


class SlowObjects(MemoryObjects):
    """Objects that take a file away at once, and store it when told."""

    def __init__(self) -> None:
        super().__init__()
        self.files_taken, self.taken, self.gate = 0, asyncio.Event(), asyncio.Event()

    async def put_file(self, path: Path, digest: Digest) -> Size:
        self.files_taken += 1
        taken = path.rename(path.with_suffix(".taken"))  # noqa: ASYNC240
        self.taken.set()
        await self.gate.wait()
        return await super().put_file(taken, digest)


@pytest.mark.parametrize("is_cut", [False, True])
def test_an_upload_that_comes_again_while_it_is_being_stored_is_neither_received_nor_stored_again(
    tmp_path: Path, is_cut: bool
) -> None:
    data = os.urandom(MIB)

    async def story() -> None:
        objects = SlowObjects()
        spool = await a_spool(tmp_path / "spool", memory_bytes=0)

        def admit(_: Caller, __: UploadStart) -> None:
            if objects.taken.is_set():  # the second stream is here: what it does next, it does before others go on
                asyncio.get_running_loop().call_soon(objects.gate.set)

        async def upload(channel: Channel) -> None:
            await upload_object(channel, "cd" * 8, digest_of(data), data, patience=IMPATIENT)

        service = TransferService(objects, spool, sink=StoreSink(objects), roles=frozenset({"combiner"}), admit=admit)
        async with (
            serving(service) as address,
            connected(address, "combiner") as channel,
            connected(address, "combiner") as other_channel,
        ):
            first = asyncio.ensure_future(upload(channel))
            await objects.taken.wait()
            if is_cut:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
            await upload(other_channel)
            assert is_cut or (await first) is None
        assert objects.files_taken == 1
        assert objects.objects == {digest_of(data): data}
        assert (spool.uploads, spool.received_bytes) == (0, len(data))

    asyncio.run(story())


@pytest.mark.parametrize("is_stored", [True, False])
def test_of_two_streams_of_an_upload_that_waited_for_their_turns_nothing_is_left(
    tmp_path: Path, is_stored: bool
) -> None:
    data = os.urandom(MIB)

    async def story() -> None:
        objects, here = MemoryObjects(), asyncio.Semaphore(0)
        spool = await a_spool(tmp_path / "spool", most_receiving=1)
        service = TransferService(
            objects, spool, sink=StoreSink(objects), roles=frozenset({"combiner"}), admit=lambda *_: here.release()
        )

        async def between(first: "asyncio.Future[None]") -> None:
            """Have the turn behind the first stream's; the second one's comes when the first is stored, or before."""
            async with spool.turns.taken():
                if is_stored:
                    await first

        async with (
            serving(service) as address,
            connected(address, "combiner") as channel,
            connected(address, "combiner") as other_channel,
        ):
            async with spool.turns.taken():
                first = asyncio.ensure_future(upload_object(channel, "cd" * 8, digest_of(data), data))
                await here.acquire()
                held = asyncio.ensure_future(between(first))
                second = asyncio.ensure_future(upload_object(other_channel, "cd" * 8, digest_of(data), data))
                await here.acquire()
            await asyncio.gather(first, held, second)
        assert objects.objects == {digest_of(data): data}
        assert spool.uploads == 0

    asyncio.run(story())


@contextlib.asynccontextmanager
async def attached(channel: Channel, hello: ClientHello) -> AsyncIterator[None]:
    """Have a client attached, so that it hears when it is called."""
    welcomed = asyncio.Event()

    async def listen(link: CombinerLink) -> None:
        async for _ in link.messages():
            welcomed.set()

    async with CombinerLink(channel, hello) as link:
        listening = asyncio.ensure_future(listen(link))
        await welcomed.wait()
        yield
    await asyncio.gather(listening, return_exceptions=True)


@pytest.mark.parametrize("is_attached", [True, False])
def test_an_upload_for_which_there_is_no_place_in_line_comes_when_called_or_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_attached: bool
) -> None:
    monkeypatch.setattr(transfer, "_UNCALLED_S", 1_000.0 if is_attached else 0.01)
    bert, anna = os.urandom(MIB), os.urandom(MIB)
    refused: list[str] = []

    async def story() -> None:
        reachable = Reachable()
        line = WaitingLine(reachable.call, most=1)
        calls, spool = RecordingCombiner(), await a_spool(tmp_path, most_receiving=1, line=line)
        service = CombinerService(calls, spool, heartbeat_s=HEARTBEAT_S, refused=refused.append, reachable=reachable)
        async with (
            AsyncExitStack() as clients,
            serving(service) as address,
            connected(address) as channel,
            connected(address, f"client:{BERT}") as other,
        ):
            if is_attached:
                await clients.enter_async_context(attached(channel, A_CLIENT))
            async with spool.turns.taken("one that is under way"):
                first = asyncio.ensure_future(upload_update(other, a_header(bert), bert, patience=IMPATIENT))
                await until(lambda: line.in_line == 1)
                second = asyncio.ensure_future(upload_update(channel, a_header(anna), anna, patience=IMPATIENT))
                await until(lambda: line.outside == 1)
            assert [receipt.accepted for receipt in await asyncio.gather(first, second)] == [True, True]
            await clients.aclose()
        assert calls.updates == [bert, anna]
        assert (line.in_line, line.outside, refused) == (0, 0, [])

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_download_for_which_there_is_no_place_in_line_comes_when_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_UNCALLED_S", 1_000.0)
    data = os.urandom(MIB)

    async def story() -> None:
        reachable = Reachable()
        line = WaitingLine(reachable.call, most=1)
        spool = await a_spool(tmp_path / "spool")
        service = CombinerService(RecordingCombiner(), spool, heartbeat_s=HEARTBEAT_S, reachable=reachable)
        objects = TransferService(
            MemoryObjects(data), spool, sink=None, roles=frozenset({"client"}), most_sending=1, line=line
        )
        async with (
            serving(service, objects) as address,
            connected(address) as channel,
            connected(address, f"client:{BERT}") as other,
            attached(channel, A_CLIENT),
        ):
            async with objects._turns.taken("one that is under way"):
                first = asyncio.ensure_future(download(other, digest_of(data), tmp_path / "first"))
                await until(lambda: line.in_line == 1)
                second = asyncio.ensure_future(
                    download(channel, digest_of(data), tmp_path / "second", patience=IMPATIENT)
                )
                await until(lambda: line.outside == 1)
            await asyncio.gather(first, second)
        assert (tmp_path / "second").read_bytes() == data

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_call_that_was_refused_leaves_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    """What gRPC keeps with an aborted call goes round in a circle: at a busy server that is some 20 KiB for each."""

    async def story() -> None:
        calls = RecordingCombiner()
        async with combiner(calls, await a_spool(tmp_path)) as address, connected(address) as channel:
            gc.collect()
            gc.disable()
            try:
                calls.refusal = Unwanted("not now")
                with pytest.raises(RemoteFault, match="not now"):
                    await upload_update(channel, a_header(b"x"), b"x", patience=IMPATIENT)
                calls.refusal = None
                assert [one for one in gc.get_objects() if type(one) is Unwanted] == []
            finally:
                gc.enable()

    asyncio.run(story())


def test_a_server_that_stays_away_is_given_up_in_the_end(tmp_path: Path) -> None:
    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        async with combiner(RecordingCombiner(), spool) as address:
            pass
        async with connected(address) as channel:
            with pytest.raises(PeerUnreachable) as caught:
                await upload_update(channel, a_header(b"x"), b"x", patience=QUICK)
            assert caught.value.address == address
            with pytest.raises(PeerUnreachable):
                await download(channel, digest_of(b"x"), tmp_path / "x", patience=QUICK)

    asyncio.run(story())


def test_the_memory_of_a_large_upload_is_bounded(tmp_path: Path) -> None:
    block = os.urandom(MIB)
    file = tmp_path / "update"
    with file.open("wb") as out:
        for _ in range(64):
            out.write(block)
    size, sha256 = 64 * MIB, digest_of(block * 64)

    async def story() -> int:
        calls = RecordingCombiner(keep_bytes=False)
        spool = await a_spool(tmp_path / "spool")
        async with combiner(calls, spool) as address, connected(address) as channel:
            await upload_update(channel, a_header(block, upload_id="ee" * 8), block)
            before = _reset_peak()
            header = a_header(b"", sha256=sha256)
            header = type(header)(
                header.generation, header.upload_id, size, header.sha256, 1, header.metrics, header.release
            )
            assert (await upload_update(channel, header, file)).accepted
            return _peak() - before

    assert asyncio.run(story()) < 40 * MIB


def _reset_peak() -> int:
    """Make the kernel measure this process's peak memory from now on, and return what it uses now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


class Shorter(MemoryObjects):
    """Has less of its objects than it says."""

    async def stat(self, digest: Digest) -> Size:
        return Size((await super().stat(digest)).size + 1)


def test_a_source_that_has_less_than_it_says_ends_the_download_with_a_fault(tmp_path: Path) -> None:
    async def story() -> None:
        transfer = TransferService(
            Shorter(b"model"), await a_spool(tmp_path / "spool"), sink=None, roles=frozenset({"client"})
        )
        async with serving(transfer) as address, connected(address) as channel:
            with pytest.raises(PeerFault, match="ended at 5 of 6 bytes"):
                await download(channel, digest_of(b"model"), tmp_path / "model", patience=IMPATIENT)

    asyncio.run(story())


class PiecesToo(MemoryObjects):
    """Notes the pieces that are read of it."""

    def __init__(self, *objects: bytes) -> None:
        super().__init__(*objects)
        self.pieces: list[int] = []

    async def piece(self, digest: Digest, offset: int, size: int) -> bytes:
        self.pieces.append(size)
        return self.objects[digest][offset : offset + size]


def a_client(number: int) -> str:
    return f"client:{number:032x}"


async def a_start(open_channels: AsyncExitStack, address: str, number: int, data: bytes) -> Any:
    """Offer an update over a connection of its own and send nothing of it."""
    channel = await open_channels.enter_async_context(connected(address, a_client(number)))
    call = network_pb2_grpc.CombinerStub(channel.grpc).SendUpdate()
    header = codec.write_update_header(a_header(data, upload_id=f"{number:016x}"))
    await call.write(network_pb2.UpdatePart(start=network_pb2.UpdateStart(header=header)))
    return call


def test_beside_many_slow_downloads_each_has_little_on_its_way_and_all_end_whole(tmp_path: Path) -> None:
    """Twenty that are not read fill the memory that all may have: the next begins with small pieces."""
    data = os.urandom(12 * MIB + 5)  # more than the windows and the socket buffers take

    async def story() -> None:
        objects = PiecesToo(data)
        transfer = TransferService(
            objects, await a_spool(tmp_path / "spool"), sink=None, roles=frozenset({"client"}), pieces=objects
        )
        async with serving(transfer) as address, AsyncExitStack() as open_channels:
            slow = []
            for number in range(20):
                channel = await open_channels.enter_async_context(connected(address, a_client(number)))
                request = transfer_pb2.DownloadRequest(sha256=raw_digest(digest_of(data)))
                slow.append(transfer_pb2_grpc.TransferStub(channel.grpc).Download(request))
            for call in slow:
                assert (await call.read()).WhichOneof("part") == "start"
            channel = await open_channels.enter_async_context(connected(address))
            assert await download(channel, digest_of(data), tmp_path / "model") == len(data)
            assert (tmp_path / "model").read_bytes() == data
            assert objects.pieces
            assert max(objects.pieces) <= MIB // 2
            received = b""
            while (part := await slow[0].read()) is not grpc.aio.EOF:
                received += part.chunk
            assert received == data

    asyncio.run(story())


def test_few_downloads_send_whole_chunks_that_are_read_once_for_all(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 5)

    async def story() -> None:
        objects = PiecesToo(data)
        transfer = TransferService(
            objects, await a_spool(tmp_path / "spool"), sink=None, roles=frozenset({"client"}), pieces=objects
        )
        async with serving(transfer) as address, AsyncExitStack() as open_channels:
            channels = [
                await open_channels.enter_async_context(connected(address, a_client(number))) for number in range(4)
            ]
            files = [tmp_path / f"model-{number}" for number in range(4)]
            await asyncio.gather(
                *(download(channel, digest_of(data), file) for channel, file in zip(channels, files, strict=True))
            )
            assert all(file.read_bytes() == data for file in files)
        assert objects.pieces == []

    asyncio.run(story())


def test_a_download_that_begins_within_a_chunk_comes_to_where_others_share_theirs(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)

    async def story() -> None:
        objects = PiecesToo(data)
        transfer = TransferService(
            objects, await a_spool(tmp_path / "spool"), sink=None, roles=frozenset({"client"}), pieces=objects
        )
        async with serving(transfer) as address, connected(address) as channel:
            request = transfer_pb2.DownloadRequest(sha256=raw_digest(digest_of(data)), offset=MIB + 5)
            call = transfer_pb2_grpc.TransferStub(channel.grpc).Download(request)
            assert b"".join([part.chunk async for part in call]) == data[MIB + 5 :]
        assert (objects.pieces, objects.offsets) == ([MIB - 5], [2 * MIB])

    asyncio.run(story())


def test_few_uploads_are_told_to_go_on_before_those_that_were_have_begun(tmp_path: Path) -> None:
    data = os.urandom(MIB)

    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        spool.go_ons = GoOns(32, longest_s=1_000.0)  # of 1 MiB, two
        async with combiner(RecordingCombiner(), spool) as address, AsyncExitStack() as open_channels:
            calls = []
            for number in range(3):
                call = await a_start(open_channels, address, number, data)
                calls.append(call)
                if number < 2:
                    await call.initial_metadata()
            third = asyncio.ensure_future(calls[2].initial_metadata())
            await asyncio.sleep(0.2)  # by now it has its turn
            assert not third.done()
            await calls[0].write(network_pb2.UpdatePart(chunk=data[:10]))
            assert GO_ON in dict(tuple(await third))
            for call in calls:
                call.cancel()

    asyncio.run(asyncio.wait_for(story(), 20))


def test_an_upload_comes_in_chunks_as_small_as_its_server_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, sizes = os.urandom(3 * MIB + 17), list[int]()
    store = transfer_server.store_as_they_come

    async def noted(chunks: AsyncIterator[Chunk], then: Callable[..., Awaitable[None]]) -> None:
        async def passed_on() -> AsyncIterator[Chunk]:
            async for chunk in chunks:
                sizes.append(len(chunk))
                yield chunk

        await store(passed_on(), then)

    async def story() -> None:
        calls = RecordingCombiner()
        spool = await a_spool(tmp_path / "spool", most_uploads=32)
        spool.go_ons = GoOns(10_000)
        async with combiner(calls, spool) as address, AsyncExitStack() as open_channels:
            begun = []
            for number in range(20):
                call = await a_start(open_channels, address, number, data)
                begun.append(call)
            for call in begun:
                assert int(dict(tuple(await call.initial_metadata()))[GO_ON]) > 0
            channel = await open_channels.enter_async_context(connected(address))
            monkeypatch.setattr(transfer_server, "store_as_they_come", noted)
            assert (await upload_update(channel, a_header(data), data)).accepted
            for call in begun:
                call.cancel()
        assert calls.updates == [data]
        assert sum(sizes) == len(data)
        assert max(sizes) <= MIB // 4

    asyncio.run(story())
