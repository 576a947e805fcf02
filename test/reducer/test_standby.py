"""A second reducer on the same stores waits, says for whom, and takes over; one that could not is refused by name."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from awaiting import until
from grpc_network import AUTHORITY, CERTIFICATE
from reducer_network import OperatorFiles
from unruly_store import Mischief, Trouble, UnrulyDocuments

from fedn_py.errors import FednError
from fedn_py.identity import InstanceId
from fedn_py.reducer import assemble as assemble_module
from fedn_py.reducer import lease as lease_module
from fedn_py.reducer import standby as standby_module
from fedn_py.reducer import trail_head as trail_head_module
from fedn_py.reducer.assemble import NotStarted, Reducer, assemble
from fedn_py.reducer.lease import Holder, Lease
from fedn_py.reducer.ledger import Superseded
from fedn_py.reducer.newest_attempt import FILE_NAME, NewestAttempt, NewestAttemptFile
from fedn_py.reducer.service import StoredControl
from fedn_py.reducer.standby import (
    MaskingMissing,
    ObjectsNotShared,
    OtherCredential,
    OtherStateKey,
    Standby,
    check_fits,
)
from fedn_py.runtime.own_loop import OwnLoop
from fedn_py.runtime.secret_files import write_secret
from fedn_py.settings.roles import ReducerSettings
from fedn_py.store.memory import MemoryDocuments, MemoryObjects
from fedn_py.store.opening import Stores
from fedn_py.store.ports import StoreFull, StoreInUse, StoreMisconfigured, StoreUnavailable
from fedn_py.transport.authentication import UnknownToken
from fedn_py.transport.certificates import write_pair
from fedn_py.transport.channels import NOTICED_WITHIN_S, AddressInUse
from fedn_py.transport.reducer_link import LONGEST_REST_S
from fedn_py.transport.streams import HEARTBEATS_MISSED

NORTH = Holder("north", InstanceId("n1"), "north:8090", "key", "credential")


class Shared:
    """Stores that several reducers have open."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.documents, self.objects = MemoryDocuments(), MemoryObjects()
        self.operator = OperatorFiles(folder / "operator")
        write_pair(CERTIFICATE.certificate_pem, CERTIFICATE.key_pem, folder / "r.pem", folder / "r.key")
        (folder / "authority.pem").write_bytes(AUTHORITY.certificate_pem)

        async def open_stores(*_: object) -> Stores:
            return Stores(self.documents, self.objects)

        async def open_documents(_: object) -> MemoryDocuments:
            return self.documents

        monkeypatch.setattr(assemble_module, "open_stores", open_stores)
        monkeypatch.setattr(assemble_module, "open_documents", open_documents)
        monkeypatch.setattr(lease_module, "RENEW_EVERY_S", 0.02)
        monkeypatch.setattr(assemble_module, "LOOK_EVERY_S", 0.0)
        monkeypatch.setattr(standby_module, "LOOK_EVERY_S", 0.01)
        monkeypatch.setattr(standby_module, "FOLLOW_EVERY_S", 0.01)

    def settings(self, name: str, *, masking: bool = False, minio: bool = True) -> ReducerSettings:
        store = {"url": "http://localhost:9", "access_key": "a", "secret_key": "b"}
        masked = {"credential_file": self.operator.credential_file, "policy_file": self.operator.policy_file}
        return ReducerSettings.model_validate(
            {
                "name": name,
                "listen_grpc": "127.0.0.1:0",
                "listen_web": "127.0.0.1:0",
                "state_dir": self.folder / name,
                "mongodb": {"uri": "mongodb://localhost:9"},
                "minio": store if minio else None,
                "masking": masked if masking else None,
                "certificate": {
                    "certificate_file": self.folder / "r.pem",
                    "key_file": self.folder / "r.key",
                    "authority_file": self.folder / "authority.pem",
                },
            }
        )

    @asynccontextmanager
    async def running(self, settings: ReducerSettings) -> AsyncIterator[Reducer]:
        reducer = assemble(settings)
        await reducer.start()
        try:
            yield reducer
        finally:
            await reducer.stop()

    @asynccontextmanager
    async def waiting(self, settings: ReducerSettings) -> AsyncIterator[tuple[Reducer, "asyncio.Task[None]"]]:
        reducer = assemble(settings)
        await reducer.open()
        becoming = asyncio.create_task(reducer.become_active())
        try:
            yield reducer, becoming
        finally:
            becoming.cancel()
            await asyncio.gather(becoming, return_exceptions=True)
            await reducer.stop()

    def fences(self) -> int:
        """Return the fence that the lease has."""
        return self.documents._collections["network"]["lease"].fence

    async def superseded(self) -> None:
        """Have another reducer take the lease without waiting for anybody."""
        await Lease(self.documents, replace(NORTH, instance=InstanceId("other"))).take_at_once()


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shared:
    return Shared(tmp_path, monkeypatch)


def test_a_second_reducer_waits_and_says_for_whom(shared: Shared) -> None:
    async def story() -> None:
        async with shared.running(shared.settings("north")), shared.waiting(shared.settings("south")) as (south, task):
            await until(lambda: "is active" in south.waits_for)
            assert south.waits_for.startswith("standby: north (")
            with pytest.raises(NotStarted):
                _ = south.control
            with pytest.raises(NotStarted):
                _ = south.grpc_port
            assert not (shared.folder / "south" / "admin.token").exists()
            assert not task.done()

    asyncio.run(story())


def test_a_standby_takes_over_with_a_higher_fence_when_the_active_one_has_stopped(shared: Shared) -> None:
    async def story() -> None:
        north = assemble(shared.settings("north"))
        await north.start()
        async with shared.waiting(shared.settings("south")) as (south, task):
            await until(lambda: "is active" in south.waits_for)
            await north.stop()
            await task
            assert south.grpc_port
            document = await shared.documents.get("network", "lease")
            assert document is not None
            assert document.fence == 2

    asyncio.run(story())


def test_which_reducer_is_active_shows_in_the_metrics_of_each_and_both_know_the_tokens(shared: Shared) -> None:
    async def story() -> None:
        north = assemble(shared.settings("north"))
        await north.start()
        bearer = (shared.folder / "north" / "admin.token").read_text().strip()
        async with shared.waiting(shared.settings("south")) as (south, task):
            await until(lambda: "is active" in south.waits_for)
            assert [one.registry.get_sample_value("fedn_reducer_active") for one in (north, south)] == [1, 0]
            assert (await north.known(bearer)).role == (await south.known(bearer)).role == "admin"
            with pytest.raises(UnknownToken):
                await south.known(f"fedn1.{'0' * 16}.{'x' * 43}")
            await north.stop()
            await task
            assert [one.registry.get_sample_value("fedn_reducer_active") for one in (north, south)] == [0, 1]

    asyncio.run(story())


def test_a_takeover_is_told_in_the_event_log(shared: Shared) -> None:
    async def story() -> None:
        north = assemble(shared.settings("north"))
        await north.start()
        async with shared.waiting(shared.settings("south")) as (south, task):
            await until(lambda: "is active" in south.waits_for)
            await north.stop()
            await task
            await south.hand_over()  # which writes down what was told
            (told,) = (await south.control.events(kind="reducer.took_over")).items
            assert "south has taken over from north" in told.text

    asyncio.run(story())


def test_an_active_reducer_ends_by_name_when_another_one_has_taken_over(shared: Shared) -> None:
    async def story() -> None:
        async with shared.running(shared.settings("north")) as north:
            work = asyncio.create_task(north.run())
            await shared.superseded()
            with pytest.raises(Superseded, match="newer reducer") as caught:
                await work
            assert "standby" in caught.value.remedy

    asyncio.run(story())


def test_a_reducer_that_fails_while_it_takes_over_gives_the_lease_back(shared: Shared) -> None:
    async def story() -> None:
        blocked = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = blocked.sockets[0].getsockname()[1]
        async with blocked:
            with pytest.raises(AddressInUse):
                await assemble(shared.settings("south").model_copy(update={"listen_grpc": f"127.0.0.1:{port}"})).start()
        seen = await Lease(shared.documents, NORTH).look()
        assert (seen.fence, seen.free) == (1, True)

    asyncio.run(story())


def test_two_reducers_with_one_state_folder_are_kept_apart(shared: Shared) -> None:
    async def story() -> None:
        async with shared.running(shared.settings("north")):
            with pytest.raises(StoreInUse, match="north is in use"):
                await assemble(shared.settings("north")).open()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("mischief", "fault"),
    [
        ("fails", StoreUnavailable),
        ("fails", StoreFull),
        ("lost, applied", StoreUnavailable),
        ("lost, not applied", StoreUnavailable),
    ],
)
def test_a_takeover_that_loses_its_stores_in_the_middle_is_begun_anew(
    shared: Shared, mischief: Mischief, fault: type[FednError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its calls in turn, until one goes untouched."""
    trouble = Trouble(lambda: fault("the store does not take it", remedy="Look at it."))
    unruly = UnrulyDocuments(shared.documents, trouble)

    async def open_stores(*_: object) -> Stores:
        return Stores(unruly, shared.objects)

    monkeypatch.setattr(assemble_module, "open_stores", open_stores)

    async def taken_over(call: int) -> bool:
        """Have this call go wrong; returns whether there was one."""
        south = assemble(shared.settings(f"south-{call}", masking=True))
        await south.open()
        trouble.begin(call, mischief)
        try:
            await south.become_active()
            assert south.grpc_port
            return trouble.struck
        finally:
            trouble.begin(0, mischief)
            await south.stop()

    async def story() -> None:
        call = 1
        while await taken_over(call):
            call += 1
        assert call > 10

    asyncio.run(story())


@pytest.mark.parametrize("fault", [StoreFull, StoreMisconfigured])
def test_a_standby_whose_store_takes_no_writes_says_so_and_waits(
    fault: type[FednError], monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, trouble = MemoryDocuments(), Trouble()
    trouble.away = lambda: fault("the store takes no writes", remedy="Look at it.")
    monkeypatch.setattr(standby_module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(documents, "insert", UnrulyDocuments(documents, trouble).insert)

    async def follow(fence: int) -> None:
        raise AssertionError(fence)  # nobody else is alive

    async def story() -> None:
        own_loop = OwnLoop("lease")
        try:
            standby = Standby(Lease(documents, NORTH), own_loop, NORTH, follow, shares_objects=True)
            held = asyncio.create_task(standby.until_held())
            await until(lambda: held.done() or standby.reason == "standby: the store takes no writes")
            assert not held.done()
            monkeypatch.undo()
            assert await held == 1
        finally:
            await own_loop.close()

    asyncio.run(story())


def test_a_standby_whose_own_disk_is_full_says_so_and_follows_and_takes_over_when_it_has_room(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True

    def write(path: Path, text: str) -> None:
        if full and path.parent.name == "south":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_secret(path, text)

    monkeypatch.setattr(trail_head_module, "write_secret", write)

    async def story() -> None:
        nonlocal full
        north = assemble(shared.settings("north"))
        await north.start()
        async with shared.waiting(shared.settings("south")) as (south, task):
            await until(lambda: task.done() or "the disk is full" in south.waits_for)
            full = False
            await until(lambda: task.done() or "is active" in south.waits_for)
            full = True
            await north.stop()
            await until(lambda: task.done() or shared.fences() >= 3)  # taken, given back and taken again
            assert not task.done()
            assert "the disk is full" in south.waits_for
            full = False
            await task
            assert south.grpc_port

    asyncio.run(story())


def test_combiners_that_a_new_holder_expects_have_the_time_to_notice_that_the_one_before_hangs(shared: Shared) -> None:
    async def story() -> None:
        async with shared.running(shared.settings("north")) as north:
            assert isinstance(north.control, StoredControl)
            grace_s = north.control._parts.roster._limits.expected_grace_s
            silence_s = HEARTBEATS_MISSED * shared.settings("north").heartbeat_s
            assert grace_s > max(silence_s, NOTICED_WITHIN_S) + LONGEST_REST_S >= 35.0

    asyncio.run(story())


def test_a_standby_takes_a_fence_above_all_it_has_seen_when_the_stores_were_set_back(shared: Shared) -> None:
    async def story() -> None:
        for _ in range(4):
            lease = Lease(shared.documents, NORTH)
            await lease.take_at_once()
            await lease.release()
        north, south = shared.settings("north"), shared.settings("south")
        async with shared.running(north), shared.waiting(south) as (waiting, _):  # for one with fence 5
            await until(lambda: "is active" in waiting.waits_for)
        shared.documents = MemoryDocuments()
        async with shared.running(south):
            assert shared.fences() == 6

    asyncio.run(story())


# ---- who could not take over


@pytest.mark.parametrize(
    ("changed", "shares_objects", "refusal"),
    [
        ({}, True, None),
        ({"state_key": "another"}, True, OtherStateKey),
        ({"credential": "another"}, True, OtherCredential),
        ({"state_key": "", "credential": ""}, True, MaskingMissing),
        ({}, False, ObjectsNotShared),
    ],
)
def test_a_reducer_that_could_not_take_over_is_refused_by_name(
    changed: dict[str, str], shares_objects: bool, refusal: type[Exception] | None
) -> None:
    me = replace(NORTH, name="south", **changed)  # type: ignore[arg-type]
    if refusal is None:
        check_fits(me, NORTH, shares_objects=shares_objects)
        return
    with pytest.raises(refusal, match="north"):
        check_fits(me, NORTH, shares_objects=shares_objects)


def test_masking_may_be_set_up_on_a_standby_first() -> None:
    check_fits(NORTH, replace(NORTH, state_key="", credential=""), shares_objects=True)


def test_a_standby_without_the_state_key_of_the_active_reducer_ends_at_its_start(shared: Shared) -> None:
    async def story() -> None:
        async with shared.running(shared.settings("north", masking=True)):
            with pytest.raises(OtherStateKey, match=r"north .* is active with another state key"):
                await assemble(shared.settings("south", masking=True)).start()
            (shared.folder / "south" / "state.key").write_bytes((shared.folder / "north" / "state.key").read_bytes())
            async with shared.waiting(shared.settings("south", masking=True)) as (south, task):
                await until(lambda: "is active" in south.waits_for or task.done())
                assert not task.done()

    asyncio.run(story())


def test_a_standby_names_the_newest_attempt_as_long_as_another_reducer_vouches_for_it(shared: Shared) -> None:
    async def story() -> None:
        state_key = shared.folder / "shared.key"
        async with shared.running(with_key(shared.settings("north", masking=True), state_key)):
            file = NewestAttemptFile(shared.folder / "south" / FILE_NAME)
            assert file.read() is None
            async with shared.waiting(with_key(shared.settings("south", masking=True), state_key)):
                await until(lambda: file.read() is not None)
                assert file.read() == NewestAttempt()

    asyncio.run(story())


def with_key(settings: ReducerSettings, file: Path) -> ReducerSettings:
    assert settings.masking is not None
    return settings.model_copy(update={"masking": settings.masking.model_copy(update={"state_key_file": file})})
