"""Points are where the table says: a function that is renamed or takes other arguments takes its point along."""

import asyncio
import importlib
import inspect
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chaos import launch
from chaos.launch import Armed, put_around
from chaos.points import POINTS, Point
from chaos.run import TRIALS

ARGUMENTS = {
    "MongoDocuments.update": {"collection", "key", "content"},
    "MongoDocuments.insert": {"collection", "key", "content"},
    "ReducerVoice.report": {"message"},
    "Words.from_client": {"word"},
}
"""What the points read of a call."""


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_point_is_at_a_function_of_the_product(point: Point) -> None:
    module, _, path = point.place.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert ARGUMENTS.get(path, set()) <= set(inspect.signature(found).parameters)


def test_every_trial_that_names_a_point_names_one_of_the_table() -> None:
    named = {trial.play.keywords.get("point") for trial in TRIALS if hasattr(trial.play, "keywords")}
    assert named - {None} <= {point.name for point in POINTS}


class Written:
    """Stands for a function of the product in each of the forms that they have."""

    def plain(self, key: str) -> str:
        return key

    async def waited_for(self, key: str) -> str:
        return key

    async def in_pieces(self, key: str) -> AsyncIterator[str]:
        yield key
        yield key


async def _call(form: str) -> None:
    written: Any = Written()
    match form:
        case "plain":
            written.plain("b")
        case "waited_for":
            await written.waited_for("b")
        case "in_pieces":
            assert [piece async for piece in written.in_pieces("b")] == ["b", "b"]


@pytest.mark.parametrize("form", ["plain", "waited_for", "in_pieces"])
def test_an_armed_process_gets_its_signal_at_the_nth_passing_and_once(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(launch, "os", SimpleNamespace(getpid=lambda: 1, kill=lambda _, number: sent.append(number)))
    monkeypatch.setattr(Written, form, getattr(Written, form))  # put back afterwards
    place = f"{__name__}:Written.{form}"
    monkeypatch.setitem(importlib.import_module("sys").modules, __name__, SimpleNamespace(Written=Written))
    put_around(Point("here", "reducer", place, "before"), Armed(tmp_path, "reducer"))
    asyncio.run(_call(form))
    assert sent == []
    wanted = {"point": "here", "match": "", "nth": 2, "signal": int(signal.SIGKILL), "token": "token"}
    (tmp_path / "token").touch()
    (tmp_path / "reducer.armed").write_text(json.dumps(wanted))
    for _ in range(4):
        asyncio.run(_call(form))
    assert sent == [signal.SIGKILL]
    assert (tmp_path / "reducer.hit").exists()


def test_the_same_thing_done_again_is_not_passed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(launch, "os", SimpleNamespace(getpid=lambda: 1, kill=lambda _, number: sent.append(number)))
    point, armed = Point("here", "reducer", "nowhere:nothing", "before"), Armed(tmp_path, "reducer")
    wanted = {"point": "here", "match": "/000002", "nth": 1, "signal": int(signal.SIGKILL), "token": "token"}
    (tmp_path / "token").touch()
    armed.passes(point, "s/000001")
    armed.passes(point, "s/000002")
    (tmp_path / "reducer.armed").write_text(json.dumps(wanted))
    armed.passes(point, "s/000002")
    armed.passes(point, "s/000003")
    assert sent == []
    armed.passes(point, "another/000002")
    assert sent == [signal.SIGKILL]
