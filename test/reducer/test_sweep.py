"""The sweep: what nothing names goes, once it is old; nothing that is named, or about to be, ever does."""

import asyncio
import base64
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from artifacts import chunked
from awaiting import until
from fuzz.quiet_loop import run
from fuzz.whole_network import WholeNetwork
from masked_network import a_masked_combiner
from masked_world import CLIENTS, POLICY
from reducer_network import ANNA, BERT, Network, OperatorFiles, Stored, a_network
from unruly_store import Trouble, UnrulyObjects

from fedn_py.errors import FednError
from fedn_py.identity import CombinerName, Digest, InstanceId, SessionId
from fedn_py.protocol.reducer_terms import SessionTerms
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.lease import LEASE_KEY
from fedn_py.reducer.ledger import Ledger, Superseded
from fedn_py.reducer.records import EventRecord, SeedModelRecord, SessionRecord
from fedn_py.reducer.sweep import Sweep, hashes_in
from fedn_py.reducer.swept_objects import SweptObjects
from fedn_py.store.memory import MemoryDocuments, MemoryObjects
from fedn_py.store.ports import ObjectMissing, ObjectStat, StoreUnavailable

HOUR_S, GRACE_S = 3_600.0, 86_400.0


class AgingObjects(MemoryObjects):
    """Objects by a clock of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.put_at = 0.0, dict[Digest, float]()

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
        stat = await super().put(chunks, expected=expected)
        self.put_at[stat.digest] = self.now
        return stat

    async def stat(self, digest: Digest) -> ObjectStat:
        size = (await super().stat(digest)).size
        return ObjectStat(digest, size, self.now - self.put_at[digest])


@dataclass
class Shelves:
    """Stores, and a sweep that goes over them."""

    documents: MemoryDocuments = field(default_factory=MemoryDocuments)
    stored: AgingObjects = field(default_factory=AgingObjects)
    trouble: Trouble = field(default_factory=Trouble)
    in_use: set[Digest] = field(default_factory=set)
    ends: list[FednError | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.documents, 5)
        self.events = EventLog(self.ledger, 0)
        self.objects = SweptObjects(UnrulyObjects(self.stored, self.trouble), GRACE_S, lambda: self.stored.now)
        self.sweep = Sweep(
            self.documents,
            self.objects,
            self.events,
            fence=5,
            every_s=0.001,
            in_use=lambda: self.in_use,
            on_end=self.ends.append,
        )

    async def put(self, content: bytes) -> Digest:
        """Store something behind this reducer's back."""
        return (await self.stored.put(chunked(content))).digest

    def days_pass(self, days: float = 2.0) -> None:
        self.stored.now += days * 24 * HOUR_S

    async def swept(self) -> set[Digest]:
        return {stat.digest for stat in await self.sweep.once()}

    async def told(self) -> list[EventRecord]:
        await self.events.flush()
        return list(await self.ledger.find("events", EventRecord, order_by="seq"))


def on_shelves(story: Callable[[Shelves], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await story(Shelves())

    asyncio.run(main())


def a_seed(digest: Digest) -> SeedModelRecord:
    return SeedModelRecord(digest, 4, 1, 1, "layout", 0.0)


def test_what_is_old_and_unnamed_goes_and_is_told_of() -> None:
    async def story(shelves: Shelves) -> None:
        orphan, named = await shelves.put(b"orphan"), await shelves.put(b"named")
        await shelves.ledger.add("models", named, a_seed(named))
        shelves.days_pass()
        young = await shelves.put(b"young")
        assert await shelves.swept() == {orphan}
        assert shelves.stored.contents.keys() == {named, young}
        (event,) = await shelves.told()
        assert event.kind == "objects.swept"
        assert event.text == f"1 objects that nothing names were removed, 6 bytes: {orphan[:12]}"
        assert await shelves.swept() == set()
        assert len(await shelves.told()) == 1

    on_shelves(story)


@pytest.mark.parametrize(
    ("collection", "content"),
    [("packages", {}), ("models", {}), ("rounds", {"model": "itself"})],
)
def test_packages_seed_models_and_rounds_models_stay_for_ever(collection: Any, content: dict[str, str]) -> None:
    async def story(shelves: Shelves) -> None:
        digest = await shelves.put(b"x")
        indexed = dict.fromkeys(content, str(digest))
        key = f"{'5e' * 16}/000001" if collection == "rounds" else digest
        await shelves.documents.insert(collection, key, indexed, fence=1, operation="op")
        for _ in range(2):
            shelves.days_pass()
            assert await shelves.swept() == set()

    on_shelves(story)


@pytest.mark.parametrize("status", ["running", "paused", "stopped"])
@pytest.mark.parametrize("written", ["in hex", "in base64"])
def test_what_the_round_at_hand_names_anywhere_stays_while_its_session_is_under_way(status: Any, written: str) -> None:
    async def story(shelves: Shelves) -> None:
        digest, session = await shelves.put(b"a masked sum"), SessionId("5e" * 16)
        terms = SessionTerms(session, 1, 3, Digest("0" * 64), Digest("1" * 64))
        record = SessionRecord("it", terms, status, "", 0.0)
        await shelves.ledger.add("sessions", session, record, number=1, status=status)
        name = digest if written == "in hex" else base64.b64encode(bytes.fromhex(digest)).decode()
        content = {"session": session, "number": 1, "record": {"document": {"attempts": [{"key": 1, "value": name}]}}}
        await shelves.documents.insert("rounds", f"{session}/000001", content, fence=1, operation="op")
        shelves.days_pass()
        assert await shelves.swept() == ({digest} if status == "stopped" else set())

    on_shelves(story)


def test_what_only_looks_like_a_name_does_no_harm() -> None:
    content: Any = {"a": ["=" * 44, "x" * 64, 7, None, {"b": "A" * 43 + "="}]}
    assert list(hashes_in(content)) == [Digest("x" * 64), Digest("00" * 32)]


# ---- between storing and naming


def test_what_was_stored_through_the_reducer_stays_for_the_grace_though_its_bytes_were_there_before() -> None:
    async def story(shelves: Shelves) -> None:
        await shelves.put(b"old bytes")
        shelves.days_pass()
        stat = await shelves.objects.put(chunked(b"old bytes"))
        shelves.stored.put_at[stat.digest] = 0.0  # as a store that keeps the age of bytes that come again
        assert await shelves.swept() == set()
        shelves.days_pass()
        assert await shelves.swept() == {stat.digest}

    on_shelves(story)


def test_a_sweep_that_strikes_while_the_same_bytes_are_stored_is_noticed() -> None:
    async def story(shelves: Shelves) -> None:
        digest = await shelves.put(b"bytes")
        shelves.days_pass()
        deleting, go_on = asyncio.Event(), asyncio.Event()
        delete = shelves.stored.delete

        async def slowly(digest: Digest) -> None:
            deleting.set()
            await go_on.wait()
            await delete(digest)

        shelves.stored.delete = slowly  # type: ignore[method-assign]
        sweeping = asyncio.create_task(shelves.swept())
        await deleting.wait()
        storing = asyncio.create_task(shelves.objects.put(chunked(b"bytes")))
        await asyncio.sleep(0.01)
        go_on.set()
        assert await sweeping == {digest}
        with pytest.raises(StoreUnavailable, match="swept while it was stored"):
            await storing
        assert (await shelves.objects.put(chunked(b"bytes"))).digest in shelves.stored.contents
        assert await shelves.swept() == set()

    on_shelves(story)


def test_what_is_named_while_the_sweep_looks_stays() -> None:
    async def story(shelves: Shelves) -> None:
        digest = await shelves.put(b"bytes")
        shelves.days_pass()
        find = shelves.documents.find

        async def found_and_then_named(*args: Any, **kwargs: Any) -> Any:
            answer = await find(*args, **kwargs)
            shelves.documents.find = find  # type: ignore[method-assign]
            await shelves.ledger.add("models", digest, a_seed(digest))
            return answer

        shelves.documents.find = found_and_then_named  # type: ignore[method-assign]
        assert await shelves.swept() == set()

    on_shelves(story)


def test_what_another_process_stores_again_while_the_sweep_looks_stays() -> None:
    async def story(shelves: Shelves) -> None:
        await shelves.put(b"bytes")
        shelves.days_pass()
        find = shelves.documents.find

        async def found_and_then_stored(*args: Any, **kwargs: Any) -> Any:
            answer = await find(*args, **kwargs)
            await shelves.put(b"bytes")  # as a combiner does, past this reducer
            return answer

        shelves.documents.find = found_and_then_stored  # type: ignore[method-assign]
        assert await shelves.swept() == set()

    on_shelves(story)


# ---- what the reducer has in use


def test_what_is_in_use_stays_for_as_long_as_that_takes() -> None:
    async def story(shelves: Shelves) -> None:
        digest = await shelves.put(b"bytes")
        shelves.in_use.add(digest)
        shelves.days_pass()
        assert await shelves.swept() == set()
        shelves.in_use.remove(digest)
        assert await shelves.swept() == {digest}

    on_shelves(story)


@pytest.mark.parametrize("comes", ["into use", "to be named, and out of use"])
def test_what_comes_into_or_out_of_use_while_the_sweep_looks_stays(comes: str) -> None:
    async def story(shelves: Shelves) -> None:
        digest = await shelves.put(b"bytes")
        shelves.days_pass()
        if comes != "into use":
            shelves.in_use.add(digest)
        find, looks = shelves.documents.find, iter(range(10))

        async def found_and_then_changed(collection: Any, *args: Any, **kwargs: Any) -> Any:
            answer = await find(collection, *args, **kwargs)
            if collection == "rounds" and next(looks) == 1:  # the second look, right before it would be removed
                if comes == "into use":
                    shelves.in_use.add(digest)
                else:
                    await shelves.ledger.add("models", digest, a_seed(digest))
                    shelves.in_use.remove(digest)
            return answer

        shelves.documents.find = found_and_then_changed  # type: ignore[method-assign]
        assert await shelves.swept() == set()

    on_shelves(story)


def a_sweep_of(network: Network, stored: AgingObjects) -> Sweep:
    """Return a sweep to which nothing was stored lately."""
    objects = SweptObjects(stored, GRACE_S, lambda: stored.now)
    documents, in_use = network.stored.documents, network.shell.in_use
    return Sweep(documents, objects, network.events, fence=network.fence, every_s=1.0, in_use=in_use)


def test_the_sums_that_came_for_the_attempt_at_hand_stay_however_long_it_takes(tmp_path: Path) -> None:
    async def story() -> None:
        stored = AgingObjects()
        async with a_network(tmp_path, Stored(objects=stored)) as network:
            north = await network.combiner(samples={ANNA: 10}, silent=True)
            south = {"name": CombinerName("south"), "instance": InstanceId("south-1")}
            late = await network.combiner(samples={BERT: 30}, silent=True, **south)
            await network.start_session(clients_wanted=2, validate=False)
            await until(lambda: north.orders and late.orders)
            await north.answer(north.orders.pop())
            await network.settled()
            stored.now += 2 * GRACE_S
            assert await a_sweep_of(network, stored).once() == []
            await late.answer(late.orders.pop())
            await network.at_rest()
            (record,) = await network.stored.rounds()
            assert (record.failures, len(record.included)) == ((), 2)
            assert network.shell.in_use() == set()

    asyncio.run(story())


async def a_session(network: Network, masking: str) -> None:
    """Begin a round with combiners that answer."""
    if masking == "none":
        await network.combiner()
        await network.start_session(validate=False)
    else:
        await a_masked_combiner(network)
        await network.start_session(masking=masking, clients_wanted=5, validate=False)


def before_the_commit(network: Network, happens: Callable[[Mapping[str, Any]], None]) -> None:
    """Have something happen whenever a commit is about to be written."""
    update = network.stored.documents.update

    async def updated(collection: Any, key: str, content: Mapping[str, Any], **how: Any) -> Any:
        if content.get("status") == "committed":
            happens(content)
        return await update(collection, key, content, **how)

    network.stored.documents.update = updated  # type: ignore[method-assign]


@pytest.mark.parametrize("masking", ["none", "pet"])
def test_a_model_stays_for_as_long_as_its_commit_cannot_be_written(tmp_path: Path, masking: str) -> None:
    async def story() -> None:
        stored, away = AgingObjects(), True

        def fails(_: Mapping[str, Any]) -> None:
            if away:
                raise StoreUnavailable("no primary", remedy="Wait for it.")

        async with a_network(tmp_path, Stored(objects=stored), operator=OperatorFiles(tmp_path / "files")) as network:
            before_the_commit(network, fails)
            await a_session(network, masking)
            await until(lambda: network.shell.patience.waiting_for)
            stored.now += 2 * GRACE_S
            assert await a_sweep_of(network, stored).once() == []
            away = False
            await network.at_rest()
            (record,) = await network.stored.rounds()
            assert record.model in stored.contents
            await until(lambda: network.shell.in_use() == set())

    asyncio.run(story())


@pytest.mark.parametrize("masking", ["none", "pet"])
def test_a_model_that_goes_while_it_is_named_is_stored_again_before_anybody_is_told(
    tmp_path: Path, masking: str
) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored, operator=OperatorFiles(tmp_path / "files")) as network:
            gone: list[Digest] = []

            def goes(content: Mapping[str, Any]) -> None:
                if not gone:
                    gone.append(content["model"])
                    del stored.objects.contents[content["model"]]

            before_the_commit(network, goes)
            await a_session(network, masking)
            await network.at_rest()
            (record,) = await stored.rounds()
            assert gone == [record.model]
            assert record.model in stored.objects.contents
            assert (await network.kinds()).count("round.committed") == 1

    asyncio.run(story())


@pytest.mark.parametrize("masking", ["none", "pet"])
def test_nobody_is_told_of_a_model_that_is_gone_for_good(tmp_path: Path, masking: str) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored, operator=OperatorFiles(tmp_path / "files")) as network:
            before_the_commit(network, lambda _: stored.objects.contents.clear())
            await a_session(network, masking)
            with pytest.raises(ObjectMissing):
                await network.at_rest()
            (record,) = await stored.rounds()
            assert (record.status, record.failures) == ("committed", ())
            assert "round.committed" not in await network.kinds()

    asyncio.run(story())


# ---- faults


def test_a_reducer_that_another_one_took_over_from_removes_nothing_and_ends() -> None:
    async def story(shelves: Shelves) -> None:
        await shelves.put(b"orphan")
        shelves.days_pass()
        await shelves.documents.insert("network", LEASE_KEY, {}, fence=6, operation="op")
        with pytest.raises(Superseded):
            await shelves.sweep.run()
        assert len(shelves.stored.contents) == 1

    on_shelves(story)


def test_a_store_that_fails_breaks_a_sweep_off_which_is_told_and_the_next_one_goes_on() -> None:
    async def story(shelves: Shelves) -> None:
        for number in range(3):
            await shelves.put(b"%d" % number)
        shelves.days_pass()
        shelves.trouble.begin(5, "fails")
        running = asyncio.create_task(shelves.sweep.run())
        while shelves.stored.contents:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        running.cancel()
        kinds = [event.kind for event in await shelves.told()]
        assert sorted(kinds) == ["objects.swept", "objects.swept", "sweep.failed"]
        broken_off, finished = shelves.ends[:2]
        assert isinstance(broken_off, StoreUnavailable)
        assert finished is None

    on_shelves(story)


# ---- with rounds going on


@asynccontextmanager
async def a_swept_network(log: list[Any]) -> AsyncIterator[tuple[WholeNetwork, AgingObjects, Sweep]]:
    with tempfile.TemporaryDirectory() as folder:
        network, stored = WholeNetwork(Path(folder), CLIENTS[:4], POLICY, log), AgingObjects()
        reducer = network.reducer
        reducer.stored.objects = stored
        objects = SweptObjects(stored, GRACE_S, lambda: stored.now)
        reducer.objects = objects  # type: ignore[assignment]
        await network.open()
        try:
            documents, fence = reducer.stored.documents, reducer.ledger.fence
            in_use = reducer.shell.in_use
            sweep = Sweep(documents, objects, reducer.events, fence=fence, every_s=1.0, in_use=in_use)
            yield network, stored, sweep
        finally:
            await network.close()


def test_masked_rounds_go_on_though_it_is_swept_at_each_message() -> None:
    async def story(log: list[Any]) -> None:
        async with a_swept_network(log) as (network, stored, sweep):
            orphans = {(await stored.put(chunked(b"%d" % number))).digest for number in range(3)}

            async def sweeping() -> None:
                while True:
                    await network.next_message()
                    stored.now += HOUR_S
                    await sweep.once()

            running = asyncio.create_task(sweeping())
            await network.start_session()
            records = [await network.next_round() for _ in range(3)]
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert stored.now > 2 * GRACE_S  # so that whatever is there now was kept on purpose
            assert not any(record.failures for record in records)
            assert {record.model for record in records} <= stored.contents.keys()
            assert not orphans & stored.contents.keys()

    with structlog.testing.capture_logs() as log:
        run(story(log))
