"""The spool: whole or not at all, bounded, one writer, and its own truth."""

import asyncio
import os
import resource
import threading
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc_network import a_spool, digest_of
from structlog.testing import capture_logs

from fedn_py.transport.chunks import DigestMismatch, UploadMismatch, UploadStart, WrongOffset
from fedn_py.transport.held_upload import UploadDropped, UploadIncomplete, UploadTakenOver
from fedn_py.transport.memory_queue import MemoryQueue
from fedn_py.transport.parts import framed, part_reader
from fedn_py.transport.spool import (
    Spool,
    SpoolBroken,
    SpooledUpload,
    SpoolFull,
)
from fedn_py.transport.transfer_server import receive
from fedn_py.wire.v1 import network_pb2

DATA = os.urandom(100_000)
Story = Callable[[Spool], Coroutine[Any, Any, None]]


def start(data: bytes = DATA, *, upload_id: str = "ab" * 8, offset: int = 0) -> UploadStart:
    return UploadStart(upload_id, offset, len(data), digest_of(data))


async def received(spool: Spool, data: bytes = DATA, upload_id: str = "ab" * 8) -> SpooledUpload:
    incoming = await spool.begin("anna", start(data, upload_id=upload_id))
    await incoming.append(data)
    return await incoming.finish()


def run(folder: Path, story: Story, **limits: Any) -> None:
    async def whole() -> None:
        spool = await a_spool(folder, **limits)
        await story(spool)

    asyncio.run(whole())


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_an_upload_comes_back_as_it_was_and_leaves_nothing(tmp_path: Path, memory_bytes: int) -> None:
    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start())
        await incoming.append(DATA[:40_000])
        assert spool.held("anna", "ab" * 8) == 40_000
        await incoming.append(DATA[40_000:])
        upload = await incoming.finish()
        assert (upload.size, upload.sha256) == (len(DATA), digest_of(DATA))
        assert b"".join([chunk async for chunk in upload.chunks()]) == DATA
        assert b"".join(upload.blocks()) == DATA
        assert len(names(tmp_path)) == (0 if memory_bytes else 1)
        await upload.discard()
        assert spool.held("anna", "ab" * 8) == 0
        assert (spool.memory_held, spool.disk_held, spool.uploads) == (0, 0, 0)
        assert names(tmp_path) == []

    run(tmp_path, story, memory_bytes=memory_bytes)


def test_what_does_not_fit_into_memory_goes_to_disk(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        await received(spool, upload_id="01" * 8)
        await received(spool, upload_id="02" * 8)
        assert (spool.memory_held, spool.disk_held) == (len(DATA), len(DATA))

    run(tmp_path, story, memory_bytes=len(DATA) + 1)


def test_memory_that_is_given_back_is_waited_for_in_the_order_of_coming(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        first = await received(spool, upload_id="01" * 8)
        order: list[str] = []

        async def later(upload_id: str) -> None:
            upload = await received(spool, upload_id=upload_id)
            order.append(upload_id)
            await upload.discard()

        waiting = [asyncio.ensure_future(later(f"{number:016x}")) for number in range(2, 6)]
        await asyncio.sleep(0.01)
        assert order == []
        await first.discard()
        await asyncio.gather(*waiting)
        assert order == sorted(order)
        assert len(order) == 4
        assert (spool.uploads, spool.memory_held, names(tmp_path)) == (0, 0, [])

    run(tmp_path, story, memory_bytes=len(DATA), disk_bytes=0, memory_wait_s=5.0)


def test_what_waited_for_memory_in_vain_goes_to_disk(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        await received(spool, upload_id="01" * 8)
        await received(spool, upload_id="02" * 8)
        assert (spool.memory_held, spool.disk_held) == (len(DATA), len(DATA))

    run(tmp_path, story, memory_bytes=len(DATA), memory_wait_s=0.01)


def test_once_one_has_waited_in_vain_those_who_come_soon_after_do_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    wait = MemoryQueue._wait

    async def counted(queue: MemoryQueue, waiting: Any) -> None:
        waits.append(waiting.size)
        await wait(queue, waiting)

    monkeypatch.setattr(MemoryQueue, "_wait", counted)

    async def story(spool: Spool) -> None:
        in_memory = await received(spool, upload_id="01" * 8)
        for number in range(2, 20):
            # What goes to disk and leaves it frees no memory, and makes nobody wait again.
            await (await received(spool, upload_id=f"{number:02}" * 8)).discard()
        assert len(waits) == 1
        await in_memory.discard()
        await received(spool, upload_id="20" * 8)
        assert (spool.memory_held, spool.disk_held) == (len(DATA), 0)
        await received(spool, upload_id="21" * 8)
        assert len(waits) == 2
        assert (spool.memory_held, spool.disk_held) == (len(DATA), len(DATA))

    run(tmp_path, story, memory_bytes=len(DATA), memory_wait_s=0.5)


def test_what_goes_to_disk_and_leaves_it_keeps_nobody_waiting_for_memory(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        first = await received(spool, upload_id="01" * 8)
        on_disk = [await received(spool, upload_id=f"{number:02}" * 8) for number in range(2, 40)]
        await first.discard()
        await received(spool, upload_id="40" * 8)
        waiting = asyncio.ensure_future(received(spool, upload_id="41" * 8))
        while not waiting.done():
            await on_disk.pop().discard()  # five times and more while memory is waited for once
            await asyncio.wait({waiting}, timeout=0.02)
        assert (await waiting).file is not None

    run(tmp_path, story, memory_bytes=len(DATA), memory_wait_s=0.1, most_uploads=64)


def test_what_a_cut_stream_left_in_memory_goes_to_disk_when_another_needs_the_room(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        cut = await spool.begin("anna", start(upload_id="01" * 8))
        await cut.append(DATA[:60_000])
        cut.leave()
        assert (spool.memory_held, spool.disk_held) == (len(DATA), 0)  # as long as nobody needs it
        other = await received(spool, upload_id="02" * 8)
        assert (spool.memory_held, spool.disk_held) == (len(DATA), len(DATA))
        assert other.file is None
        with pytest.raises(WrongOffset, match="60000"):
            await spool.begin("anna", start(upload_id="01" * 8))
        goes_on = await spool.begin("anna", start(upload_id="01" * 8, offset=60_000))
        await goes_on.append(DATA[60_000:])
        assert b"".join((await goes_on.finish()).blocks()) == DATA
        await spool.close()
        assert names(tmp_path) == []

    run(tmp_path, story, memory_bytes=len(DATA), memory_wait_s=5.0)


def test_what_a_stream_still_writes_stays_in_memory(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        older = await spool.begin("anna", start(upload_id="01" * 8))
        newer = await spool.begin("anna", start(upload_id="01" * 8))
        older.leave()  # it was cut off; the newer one goes on
        await received(spool, upload_id="02" * 8)
        assert (spool.memory_held, spool.disk_held) == (len(DATA), len(DATA))
        await newer.append(DATA)
        assert (await newer.finish()).file is None

    run(tmp_path, story, memory_bytes=len(DATA), memory_wait_s=0.01)


def test_what_was_left_in_memory_stays_there_and_goes_on_where_the_disk_takes_nothing(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        cut = await spool.begin("anna", start(upload_id="01" * 8))
        await cut.append(DATA[:60_000])
        cut.leave()
        with files_end_at(10_000):
            waiting = asyncio.ensure_future(received(spool, upload_id="02" * 8))
            await a_failed_move(spool)
            assert (spool.memory_held, spool.disk_held, names(tmp_path)) == (len(DATA), 0, [])
            goes_on = await spool.begin("anna", start(upload_id="01" * 8, offset=60_000))
            await goes_on.append(DATA[60_000:])
            first = await goes_on.finish()
            assert b"".join(first.blocks()) == DATA
            await first.discard()
            assert (await waiting).file is None
        assert names(tmp_path) == []

    async def a_failed_move(spool: Spool) -> None:
        await asyncio.sleep(0)
        assert len(spool._left._moves) == 1
        await spool._left.close()

    run(tmp_path, story, memory_bytes=len(DATA), memory_wait_s=5.0)


def test_a_stream_that_is_cut_while_others_wait_makes_room_for_them(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        cut = await spool.begin("anna", start(upload_id="01" * 8))
        await cut.append(DATA[:60_000])
        waiting = asyncio.ensure_future(received(spool, upload_id="02" * 8))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        cut.leave()
        assert (await waiting).file is None
        assert (spool.memory_held, spool.disk_held) == (len(DATA), len(DATA))

    run(tmp_path, story, memory_bytes=len(DATA), memory_wait_s=5.0)


def test_what_was_left_in_memory_is_not_moved_for_what_does_not_fit_there_anyhow(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        cut = await spool.begin("anna", start(upload_id="01" * 8))
        await cut.append(DATA[:60_000])
        cut.leave()
        await received(spool, DATA + DATA, upload_id="02" * 8)  # the disk has room for this one alone
        assert (spool.memory_held, spool.disk_held) == (len(DATA), 2 * len(DATA))

    run(tmp_path, story, memory_bytes=len(DATA), disk_bytes=2 * len(DATA), memory_wait_s=0.01)


def test_who_gets_memory_when_one_before_it_gives_up_has_not_waited_in_vain(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        await received(spool, upload_id="01" * 8)
        large = asyncio.ensure_future(received(spool, DATA, upload_id="02" * 8))
        small = asyncio.ensure_future(received(spool, DATA[:10], upload_id="03" * 8))
        await asyncio.sleep(0.01)
        large.cancel()
        assert (await small).file is None
        waiting = asyncio.ensure_future(received(spool, DATA[:20], upload_id="04" * 8))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        waiting.cancel()

    run(tmp_path, story, memory_bytes=len(DATA) + 10, memory_wait_s=5.0)


@pytest.mark.parametrize("cut_at", ["the word to go on", "the first chunk"])
def test_a_stream_that_is_cut_lets_its_upload_go(tmp_path: Path, cut_at: str) -> None:
    class Gone(Silent):
        async def send_initial_metadata(self, _: object) -> None:
            self.goes_on.set()
            if cut_at == "the word to go on":
                await asyncio.Event().wait()

    async def story(spool: Spool) -> None:
        context = Gone()
        stream = asyncio.ensure_future(receive(spool, "anna", start(upload_id="01" * 8), context))
        await context.goes_on.wait()
        assert (spool.memory_held, spool.disk_held) == (len(DATA), 0)
        stream.cancel()
        await asyncio.wait({stream})
        assert (await received(spool, upload_id="02" * 8)).file is None
        assert (spool.memory_held, spool.disk_held) == (len(DATA), len(DATA))

    run(tmp_path, story, memory_bytes=len(DATA), memory_wait_s=5.0)


def test_what_finds_room_neither_in_memory_nor_on_disk_waits_for_either_to_be_free(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        in_memory = await received(spool, upload_id="01" * 8)
        on_disk = await received(spool, upload_id="02" * 8)
        assert (spool.memory_held, spool.disk_held) == (len(DATA), len(DATA))
        waiting = [asyncio.ensure_future(received(spool, upload_id=f"{number:02}" * 8)) for number in (3, 4)]
        await asyncio.sleep(0.05)  # several times what is waited for memory alone
        assert not any(one.done() for one in waiting)
        await in_memory.discard()
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await on_disk.discard()
        await asyncio.gather(*waiting)
        assert (spool.memory_held, spool.disk_held) == (len(DATA), len(DATA))
        with pytest.raises(SpoolFull):  # larger than either can ever hold
            await received(spool, DATA + b"x", upload_id="05" * 8)

    run(tmp_path, story, memory_bytes=len(DATA), disk_bytes=len(DATA), memory_wait_s=0.01)


def test_what_finds_no_room_for_long_is_refused_and_a_word_is_in_the_log_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedn_py.transport.memory_queue._LONG_S", 0.03)
    monkeypatch.setattr("fedn_py.transport.memory_queue._LONGEST_S", 0.1)

    async def story(spool: Spool) -> None:
        in_memory = await received(spool, upload_id="01" * 8)
        await received(spool, upload_id="02" * 8)
        with capture_logs() as log:
            for _ in range(2):
                waiting = (received(spool, upload_id=f"{number:02}" * 8) for number in (3, 4))
                refused = await asyncio.gather(*waiting, return_exceptions=True)
                assert [type(one) for one in refused] == [SpoolFull, SpoolFull]
        assert [line["event"] for line in log] == 2 * ["uploads wait for room in the spool"]
        assert "100000 of 100000 bytes of disk" in log[0]["reason"]
        await in_memory.discard()
        await received(spool, upload_id="03" * 8)

    run(tmp_path, story, memory_bytes=len(DATA), disk_bytes=len(DATA), memory_wait_s=0.01)


def test_while_others_come_in_quickly_what_waits_for_memory_is_not_sent_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedn_py.transport.spool._QUICK_BYTES_A_SECOND", 10)

    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start(DATA, upload_id="01" * 8))
        waiting = asyncio.ensure_future(received(spool, upload_id="02" * 8))
        for position in range(0, len(DATA), 5_000):
            await incoming.append(DATA[position : position + 5_000])
            await asyncio.sleep(0.06)  # 20 times: more than twice what is waited for memory alone
            assert not waiting.done()
        await (await incoming.finish()).discard()
        await waiting
        assert (spool.memory_held, spool.disk_held) == (len(DATA), 0)

    run(tmp_path, story, memory_bytes=len(DATA), memory_wait_s=0.5)


def test_a_large_upload_has_more_time_to_be_added_before_others_go_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedn_py.transport.spool._ADDED_BYTES_A_SECOND", len(DATA))

    async def story(spool: Spool) -> None:
        large = await received(spool, upload_id="01" * 8)
        waiting = asyncio.ensure_future(received(spool, upload_id="02" * 8))
        await asyncio.wait({waiting}, timeout=0.3)  # many times what a small one waits
        assert not waiting.done()
        await large.discard()
        assert (await waiting).file is None

    run(tmp_path, story, memory_bytes=10, alone_bytes=len(DATA), memory_wait_s=0.01)


def test_who_gives_up_waiting_for_memory_is_in_nobody_s_way(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        first = await received(spool, upload_id="01" * 8)
        second = asyncio.ensure_future(received(spool, upload_id="02" * 8))
        third = asyncio.ensure_future(received(spool, upload_id="03" * 8))
        await asyncio.sleep(0.01)
        second.cancel()
        await first.discard()
        assert (await third).size == len(DATA)
        assert second.cancelled()
        assert spool.memory_held == len(DATA)

    run(tmp_path, story, memory_bytes=len(DATA), disk_bytes=0, memory_wait_s=5.0)


def test_two_streams_of_one_upload_that_waited_are_one_upload(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        first = await received(spool, upload_id="01" * 8)
        older = asyncio.ensure_future(spool.begin("anna", start(upload_id="02" * 8)))
        newer = asyncio.ensure_future(spool.begin("anna", start(upload_id="02" * 8)))
        await asyncio.sleep(0.01)
        await first.discard()
        outcomes = await asyncio.gather(older, newer)
        assert spool.uploads == 1
        with pytest.raises(UploadTakenOver):
            await outcomes[0].append(DATA)
        await outcomes[1].append(DATA)
        await outcomes[1].finish()

    run(tmp_path, story, memory_bytes=len(DATA), disk_bytes=0, memory_wait_s=5.0)


def test_a_large_upload_is_held_in_memory_while_it_is_the_only_one(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        large = await received(spool, upload_id="01" * 8)
        assert (spool.memory_held, spool.disk_held) == (len(DATA), 0)
        await received(spool, DATA[:10], upload_id="02" * 8)
        assert (spool.memory_held, spool.disk_held) == (len(DATA), 10)
        await large.discard()
        await received(spool, DATA + b"x", upload_id="03" * 8)
        assert (spool.memory_held, spool.disk_held) == (0, len(DATA) + 11)

    run(tmp_path, story, memory_bytes=1_000, alone_bytes=len(DATA))


def test_an_offset_that_is_not_what_is_held_is_told_the_right_one(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        with pytest.raises(WrongOffset) as caught:
            await spool.begin("anna", start(offset=500))
        assert caught.value.held == 0
        incoming = await spool.begin("anna", start())
        await incoming.append(DATA[:1000])
        for offset in (0, 999, 1001):
            with pytest.raises(WrongOffset) as caught:
                await spool.begin("anna", start(offset=offset))
            assert caught.value.held == 1000
        await incoming.append(DATA[1000:])
        await incoming.finish()

    run(tmp_path, story)


def test_an_id_stands_for_the_bytes_it_was_declared_with(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start())
        await incoming.append(DATA[:1000])
        with pytest.raises(UploadMismatch):
            await spool.begin("anna", start(DATA[::-1], offset=1000))
        with pytest.raises(UploadMismatch):
            await spool.begin("anna", start(DATA[:-1], offset=1000))
        assert spool.held("anna", "ab" * 8) == 1000

    run(tmp_path, story)


def test_a_newer_stream_takes_over_and_the_older_adds_nothing(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        older = await spool.begin("anna", start())
        await older.append(DATA[:1000])
        newer = await spool.begin("anna", start(offset=1000))
        with pytest.raises(UploadTakenOver):
            await older.append(DATA[1000:2000])
        await newer.append(DATA[1000:])
        with pytest.raises(UploadTakenOver):
            await older.finish()
        upload = await newer.finish()
        assert b"".join(upload.blocks()) == DATA

    run(tmp_path, story, memory_bytes=0)


def test_other_bytes_than_declared_are_refused_and_freed(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start())
        await incoming.append(DATA[::-1])
        with pytest.raises(DigestMismatch):
            await incoming.finish()
        assert (spool.uploads, names(tmp_path)) == (0, [])

    run(tmp_path, story, memory_bytes=0)


def test_more_bytes_than_declared_are_refused_and_freed(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start())
        await incoming.append(DATA)
        with pytest.raises(UploadMismatch, match="more than its"):
            await incoming.append(b"x")
        assert (spool.uploads, names(tmp_path)) == (0, [])

    run(tmp_path, story, memory_bytes=0)


def test_an_early_end_keeps_what_came(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start())
        await incoming.append(DATA[:1000])
        with pytest.raises(UploadIncomplete, match="1000 of 100000"):
            await incoming.finish()
        assert spool.held("anna", "ab" * 8) == 1000

    run(tmp_path, story)


def test_a_full_spool_refuses_the_new_and_goes_on_with_the_old(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start())
        for limit in ("03" * 8, "04" * 8):
            with pytest.raises(SpoolFull, match="no room for an upload of 100000 bytes"):
                await spool.begin("bert", start(upload_id=limit))
        await incoming.append(DATA)
        upload = await incoming.finish()
        await upload.discard()
        await received(spool, upload_id="05" * 8)

    run(tmp_path, story, memory_bytes=0, disk_bytes=150_000)


def test_the_number_of_uploads_is_bounded(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        await spool.begin("anna", start(upload_id="01" * 8))
        await spool.begin("anna", start(upload_id="02" * 8))
        with pytest.raises(SpoolFull, match="2 of 2 uploads"):
            await spool.begin("anna", start(upload_id="03" * 8))

    run(tmp_path, story, most_uploads=2)


def test_idle_uploads_give_way_when_room_is_needed_but_whole_ones_do_not(tmp_path: Path) -> None:
    now = [0.0]

    async def story(spool: Spool) -> None:
        whole = await received(spool, upload_id="01" * 8)
        idle = await spool.begin("anna", start(upload_id="02" * 8))
        await idle.append(DATA[:10])
        now[0] = 61.0
        await spool.begin("bert", start(upload_id="03" * 8))
        with pytest.raises(UploadDropped):
            await idle.append(DATA[10:])
        assert b"".join(whole.blocks()) == DATA
        with pytest.raises(SpoolFull):
            await spool.begin("carl", start(upload_id="04" * 8))

    run(tmp_path, story, memory_bytes=0, most_uploads=2, idle_s=60.0, clock=lambda: now[0])


def test_a_discarded_upload_s_stream_is_refused(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start())
        await incoming.append(DATA[:1000])
        await spool.discard("anna", "ab" * 8)
        await spool.discard("anna", "ab" * 8)
        with pytest.raises(UploadDropped):
            await incoming.append(DATA[1000:])
        assert names(tmp_path) == []

    run(tmp_path, story, memory_bytes=0)


def test_a_full_disk_refuses_that_upload_frees_it_and_others_go_on(tmp_path: Path) -> None:
    big = os.urandom(1 << 20)

    async def story(spool: Spool) -> None:
        small = await spool.begin("bert", start(upload_id="02" * 8))
        await small.append(DATA[:10])
        incoming = await spool.begin("anna", start(big))
        await incoming.append(big[:100_000])
        with files_end_at(500_000), pytest.raises(SpoolFull, match="the disk of the spool is full"):
            await incoming.append(big[100_000:])
        assert spool.held("anna", "ab" * 8) == 0
        assert len(names(tmp_path)) == 1
        await small.append(DATA[10:])
        assert b"".join((await small.finish()).blocks()) == DATA

    run(tmp_path, story, memory_bytes=0)


def test_what_a_former_life_left_is_removed_at_start(tmp_path: Path) -> None:
    (tmp_path / "0123.part").write_bytes(b"left")
    (tmp_path / "notes.txt").write_bytes(b"somebody's")

    async def story(spool: Spool) -> None:
        assert names(tmp_path) == ["notes.txt"]

    run(tmp_path, story)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolBroken, match="spool folder"):
        asyncio.run(a_spool(tmp_path / "file" / "spool"))


def test_a_stream_that_is_cancelled_in_the_middle_of_a_write_leaves_count_and_bytes_together(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start())
        for size in (1000, 2000, 3000):
            held = spool.held("anna", "ab" * 8)
            task = asyncio.ensure_future(incoming.append(DATA[held : held + size]))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        held = spool.held("anna", "ab" * 8)
        again = await spool.begin("anna", start(offset=held))
        await again.append(DATA[held:])
        assert b"".join((await again.finish()).blocks()) == DATA

    run(tmp_path, story, memory_bytes=0)


def test_what_is_held_in_memory_is_the_message_that_came_and_no_copy_of_it(tmp_path: Path) -> None:
    wires = [framed(DATA).wire, framed(DATA[::-1]).wire]
    parts = [part_reader(network_pb2.UpdatePart)(wire) for wire in wires]

    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start(DATA + DATA[::-1]))
        await incoming.append(*parts)
        blocks = list((await incoming.finish()).blocks())
        assert all(isinstance(block, memoryview) for block in blocks)
        assert all(memoryview(block).obj is wire for block, wire in zip(blocks, wires, strict=True))
        assert b"".join(blocks) == DATA + DATA[::-1]

    run(tmp_path, story)


def test_much_memory_is_given_back_in_a_worker_thread_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedn_py.transport.held_upload._FREED_QUICKLY_BYTES", len(DATA))
    freed: list[tuple[int, int]] = []

    class Piece(bytearray):
        """Bytes that write down where they end, and how many others are there still."""

        def __del__(self) -> None:
            freed.append((threading.get_ident(), len(held)))

    held: list[Any] = []

    async def story(spool: Spool) -> None:
        nonlocal held
        incoming = await spool.begin("anna", start(3 * DATA))
        held = spool._uploads["anna", "ab" * 8].bytes._pieces  # type: ignore[attr-defined]
        await incoming.append(*(Piece(DATA) for _ in range(3)))
        await (await incoming.finish()).discard()
        assert [left for _, left in freed] == [2, 1, 0]
        assert threading.get_ident() not in {thread for thread, _ in freed}

    run(tmp_path, story)


def test_bytes_that_come_one_by_one_take_no_more_memory_than_others(tmp_path: Path) -> None:
    few = DATA[:3_000]

    async def story(spool: Spool) -> None:
        incoming = await spool.begin("anna", start(few))
        tracemalloc.start()
        for position in range(len(few)):
            await incoming.append(memoryview(few)[position : position + 1])
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 4 * len(few)
        assert b"".join((await incoming.finish()).blocks()) == few

    run(tmp_path, story)


class Silent:
    """A stream whose start was read, and that brings nothing yet."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()

    async def send_initial_metadata(self, _: object) -> None:
        self.goes_on.set()

    async def read(self) -> Any:
        return await asyncio.Event().wait()


def test_who_waits_for_a_turn_holds_no_room(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        ids = [f"{number:02}" * 8 for number in range(3)]
        tasks = [asyncio.ensure_future(receive(spool, "anna", start(upload_id=one), Silent())) for one in ids]
        await asyncio.sleep(0.01)
        assert spool.uploads == 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(tmp_path, story, most_receiving=1)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what a full disk looks like to who writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
