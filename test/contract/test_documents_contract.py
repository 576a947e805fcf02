"""What every document store keeps to, in memory, in a file and on a real server."""

import asyncio
import multiprocessing
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pymongo import MongoClient
from racers import Place, insert_and_die, open_place, race

from fedn_py.store.measured import MeasuredDocuments
from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.ports import Documents, NotStorable

SHARED = [pytest.param("mongodb", marks=pytest.mark.services), "sqlite"]
"""Stores that several processes can open, the real server first."""


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param != "mongodb":
        yield (request.param, str(tmp_path / "documents.sqlite"))
        return
    uri, database = request.getfixturevalue("mongodb_uri"), f"test_{uuid.uuid4().hex}"
    yield ("mongodb", uri, database)
    with MongoClient(uri) as client:
        client.drop_database(database)


@pytest.mark.parametrize("place", SHARED, indirect=True)
def test_of_three_processes_that_write_one_version_exactly_one_wins(place: Place) -> None:
    async def prepare() -> None:
        async with opened(place) as documents:
            await documents.insert("rounds", "contested", {}, fence=1, operation="first")

    asyncio.run(prepare())
    n_rounds, names = 50, ("anna", "ben", "cleo")
    context = multiprocessing.get_context("spawn")
    barrier, outcomes = context.Barrier(len(names), timeout=60), context.Queue()
    racers = [context.Process(target=race, args=(place, name, n_rounds, barrier, outcomes)) for name in names]
    for racer in racers:
        racer.start()
    seen = [outcomes.get(timeout=60) for _ in range(n_rounds * len(names))]
    for racer in racers:
        racer.join(60)

    winners = Counter(number for number, _, outcome in seen if outcome == "ok")
    assert winners == dict.fromkeys(range(1, n_rounds + 1), 1)
    assert {outcome for _, _, outcome in seen} == {"ok", "refused"}


@pytest.mark.parametrize("place", SHARED, indirect=True)
def test_what_was_acknowledged_survives_the_death_of_its_writer(place: Place) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=insert_and_die, args=(place, 20))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -9

    async def read() -> int:
        async with opened(place) as documents:
            return await documents.count("events")

    assert asyncio.run(read()) == 20


@pytest.mark.parametrize("place", SHARED, indirect=True)
def test_documents_are_there_when_the_store_is_opened_again(place: Place) -> None:
    async def steps() -> None:
        async with opened(place) as documents:
            await documents.insert("rounds", "r1", {"phase": "update"}, fence=3, operation="o1")
        async with opened(place) as documents:
            found = await documents.get("rounds", "r1")
            assert found is not None
            assert (found.version, found.fence, found.operation, found.content) == (1, 3, "o1", {"phase": "update"})

    asyncio.run(steps())


# ---- the same steps on all of them ---------------------------------------------------------------------------

ALL = [*SHARED, "memory", "measured"]
Steps = Callable[[Documents], Awaitable[None]]
Run = Callable[[Steps], None]


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Documents]:
    documents: Documents = MemoryDocuments() if place[0] in {"memory", "measured"} else await open_place(place)
    if place[0] == "measured":
        documents = MeasuredDocuments(documents, lambda *_: None)
    try:
        yield documents
    finally:
        await documents.close()


@pytest.fixture
def run(place: Place) -> Run:
    def run_on_place(steps: Steps) -> None:
        async def on_opened() -> None:
            async with opened(place) as documents:
                await steps(documents)

        asyncio.run(on_opened())

    return run_on_place


on_all = pytest.mark.parametrize("place", ALL, indirect=True)


@on_all
def test_an_inserted_document_is_read_as_it_was_written(run: Run) -> None:
    content = {
        "text": "größer\u2028\U0001f600\0",
        "integers": [0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)],
        "floats": [0.1, -0.0, 1e308, 5e-324],
        "others": [None, True, False, {}],
        "empty": [],
        "nested": {"val.accuracy": 0.5, "$loss": 1, "100%": {"": 1, "a\0b": 2, "%2E": 3, "%": 4}, "top5/acc": 2},
    }

    async def steps(documents: Documents) -> None:
        assert await documents.insert("rounds", "r1", content, fence=4, operation="o1") == "ok"
        found = await documents.get("rounds", "r1")
        assert found is not None
        assert found.content == content
        assert [type(value) for value in found.content["integers"]] == [int] * 6
        assert found.content["others"][1] is True
        assert (found.key, found.version, found.fence, found.operation) == ("r1", 1, 4, "o1")

    run(steps)


@on_all
def test_lists_may_hold_lists(run: Run, place: Place) -> None:
    if place[0] == "mongodb":
        with MongoClient(place[1]) as client:
            if "ferretdbVersion" in client.server_info():
                pytest.skip("FerretDB takes no list inside a list; MongoDB does")

    async def steps(documents: Documents) -> None:
        await documents.insert("rounds", "k", {"matrix": [[1, 2], [], [[3]]]}, fence=1, operation="o")
        found = await documents.get("rounds", "k")
        assert found is not None
        assert found.content == {"matrix": [[1, 2], [], [[3]]]}

    run(steps)


@on_all
def test_a_key_is_inserted_once_and_keys_of_other_collections_are_others(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        assert await documents.insert("rounds", "k", {"a": 1}, fence=1, operation="o1") == "ok"
        assert await documents.insert("rounds", "k", {"a": 2}, fence=1, operation="o2") == "refused"
        assert await documents.insert("models", "k", {"a": 3}, fence=1, operation="o3") == "ok"
        found = await documents.get("rounds", "k")
        assert found is not None
        assert (found.operation, found.content) == ("o1", {"a": 1})

    run(steps)


@on_all
def test_what_is_not_there_is_none_and_its_update_and_deletion_are_refused(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        assert await documents.get("rounds", "none") is None
        assert await documents.update("rounds", "none", {}, version=1, fence=1, operation="o") == "refused"
        assert await documents.delete("rounds", "none", version=1, fence=1) == "refused"
        assert await documents.get("rounds", "none") is None

    run(steps)


@on_all
def test_an_update_of_the_version_read_raises_it_by_one_and_replaces_all_content(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        await documents.insert("rounds", "k", {"a": 1, "gone": True}, fence=1, operation="o1")
        assert await documents.update("rounds", "k", {"a": 2}, version=1, fence=1, operation="o2") == "ok"
        found = await documents.get("rounds", "k")
        assert found is not None
        assert (found.version, found.operation, found.content) == (2, "o2", {"a": 2})

    run(steps)


@on_all
@pytest.mark.parametrize("version", [0, 1, 3])
def test_an_update_of_any_other_version_is_refused_and_changes_nothing(run: Run, version: int) -> None:
    async def steps(documents: Documents) -> None:
        await documents.insert("rounds", "k", {"a": 1}, fence=1, operation="o1")
        await documents.update("rounds", "k", {"a": 2}, version=1, fence=1, operation="o2")
        before = await documents.get("rounds", "k")
        assert await documents.update("rounds", "k", {}, version=version, fence=9, operation="o3") == "refused"
        assert await documents.delete("rounds", "k", version=version, fence=9) == "refused"
        assert await documents.get("rounds", "k") == before

    run(steps)


@on_all
def test_a_writer_below_the_fence_of_a_document_is_refused_and_one_above_raises_it(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        await documents.insert("rounds", "k", {}, fence=2, operation="o1")
        assert await documents.update("rounds", "k", {}, version=1, fence=1, operation="o2") == "refused"
        assert await documents.delete("rounds", "k", version=1, fence=1) == "refused"
        assert await documents.update("rounds", "k", {}, version=1, fence=5, operation="o3") == "ok"
        assert await documents.update("rounds", "k", {}, version=2, fence=4, operation="o4") == "refused"
        assert await documents.update("rounds", "k", {}, version=2, fence=5, operation="o5") == "ok"
        found = await documents.get("rounds", "k")
        assert found is not None
        assert (found.version, found.fence, found.operation) == (3, 5, "o5")

    run(steps)


@on_all
def test_a_deleted_document_is_gone_and_its_key_free_again(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        await documents.insert("rounds", "k", {"a": 1}, fence=1, operation="o1")
        assert await documents.delete("rounds", "k", version=1, fence=1) == "ok"
        assert await documents.get("rounds", "k") is None
        assert await documents.insert("rounds", "k", {"a": 2}, fence=1, operation="o2") == "ok"

    run(steps)


@on_all
def test_documents_are_found_in_the_order_asked_for_with_limits_and_beyond_a_place(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        for seq in (10, 9, 2, 1, 100):
            await documents.insert("events", f"e{seq:03}", {"seq": seq, "kind": "round"}, fence=1, operation="o")

        async def found(**how: object) -> list[object]:
            return [document.content["seq"] for document in await documents.find("events", **how)]

        assert await found() == [1, 2, 9, 10, 100]
        assert await found(descending=True) == [100, 10, 9, 2, 1]
        assert await found(order_by="seq") == [1, 2, 9, 10, 100]
        assert await found(order_by="seq", descending=True, limit=2) == [100, 10]
        assert await found(order_by="seq", after=2) == [9, 10, 100]
        assert await found(order_by="seq", after=2, limit=1) == [9]
        assert await found(order_by="seq", after=10, descending=True) == [9, 2, 1]
        assert await found(after="e009") == [10, 100]
        assert await found(order_by="seq", after=100) == []
        assert await documents.find("rounds") in ([], ())

    run(steps)


@on_all
def test_ties_are_in_the_order_of_their_keys(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        for key in ("b", "Z", "a", "ä"):
            await documents.insert("rounds", key, {"session": "s"}, fence=1, operation="o")
        rising = [document.key for document in await documents.find("rounds", order_by="session")]
        falling = [document.key for document in await documents.find("rounds", order_by="session", descending=True)]
        assert rising == ["Z", "a", "b", "ä"]
        assert falling == rising[::-1]

    run(steps)


@on_all
def test_only_documents_that_equal_all_fields_are_found_and_counted(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        contents = (
            {"session": "s1", "number": 1, "done": True},
            {"session": "s1", "number": 2, "done": False},
            {"session": "s2", "number": 1, "done": False},
            {"session": "s1"},
            {"session": "1"},
        )
        for number, content in enumerate(contents):
            await documents.insert("rounds", str(number), content, fence=1, operation="o")

        async def keys(**equals: str | int | bool) -> str:
            found = "".join(document.key for document in await documents.find("rounds", equals))
            assert await documents.count("rounds", equals) == len(found)
            return found

        assert await keys() == "01234"
        assert await keys(session="s1") == "013"
        assert await keys(session="s1", number=1) == "0"
        assert await keys(done=False) == "12"
        assert await keys(done=True) == "0"
        assert await keys(number=True) == ""
        assert await keys(done=1) == ""
        assert await keys(session=1) == ""
        assert await keys(absent="x") == ""

    run(steps)


@on_all
def test_a_field_that_is_no_plain_name_cannot_be_asked_for(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        await documents.insert("rounds", "k", {}, fence=1, operation="o")
        with pytest.raises(ValueError, match="no field"):
            await documents.find("rounds", {"a') OR 1=1 --": 1})
        with pytest.raises(ValueError, match="no field"):
            await documents.find("rounds", order_by="$where")

    run(steps)


@on_all
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**63, -(2**63) - 1, "\ud800", "x" * 17_000_000])
def test_what_not_every_store_can_hold_is_refused_by_name(run: Run, value: object) -> None:
    async def steps(documents: Documents) -> None:
        with pytest.raises(NotStorable):
            await documents.insert("rounds", "k", {"a": [value]}, fence=1, operation="o")
        assert await documents.get("rounds", "k") is None

    run(steps)


@on_all
def test_what_a_caller_does_to_its_mapping_afterwards_changes_nothing(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        content = {"list": [1]}
        await documents.insert("rounds", "k", content, fence=1, operation="o")
        content["list"].append(2)
        found = await documents.get("rounds", "k")
        assert found is not None
        assert found.content == {"list": [1]}

    run(steps)


@on_all
def test_of_many_concurrent_writers_in_one_process_one_wins(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        await documents.insert("rounds", "k", {}, fence=1, operation="o")
        writes = (documents.update("rounds", "k", {}, version=1, fence=1, operation=f"w{n}") for n in range(20))
        assert sorted(await asyncio.gather(*writes)) == ["ok"] + ["refused"] * 19

    run(steps)


@on_all
def test_a_large_document_is_kept_whole(run: Run) -> None:
    content = {"included": [{"client": f"{n:064x}", "samples": n} for n in range(20_000)]}

    async def steps(documents: Documents) -> None:
        assert await documents.insert("rounds", "k", content, fence=1, operation="o") == "ok"
        found = await documents.get("rounds", "k")
        assert found is not None
        assert found.content == content

    run(steps)


@on_all
def test_a_store_that_works_passes_its_check_and_the_check_leaves_no_document(run: Run) -> None:
    async def steps(documents: Documents) -> None:
        await documents.check()
        await documents.check()
        assert await documents.count("network") == 0

    run(steps)
