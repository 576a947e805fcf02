"""The checker of histories finds what must not be: each rule has a planted history that breaks it alone."""

from collections.abc import Callable
from typing import Any

import pytest
from chaos.checker import faults_of
from chaos.history import Entry

SESSION = "s"


def a_write(number: int, *, model: str | None = None, version: int = 2, fence: int = 1, **changes: Any) -> Entry:
    """A commit of a round, as the link before MongoDB saw it."""
    return {
        "op": "write",
        "by": "reducer",
        "document": f"rounds/{SESSION}/{number}",
        "session": SESSION,
        "round": number,
        "status": "committed",
        "model": model or f"model-{number}",
        "version": version,
        "fence": fence,
        "start": number * 10.0,
        "end": number * 10.0 + 1,
        "result": "ok",
        **changes,
    }


def a_look(start: float, *numbers: int, by: str = "rest-1", **changes: Any) -> Entry:
    """What an observer saw of the session."""
    committed = [[number, f"model-{number}"] for number in numbers]
    return {
        "op": "look",
        "by": by,
        "session": SESSION,
        "committed": committed,
        "start": start,
        "end": start + 0.5,
        "result": "ok",
        **changes,
    }


def documents(start: float, *numbers: int, fence: int = 1, **changes: Any) -> Entry:
    """What the documents are."""
    seen = {
        f"rounds/{SESSION}/{number}": {
            "session": SESSION,
            "round": number,
            "status": "committed",
            "model": f"model-{number}",
            "base": f"model-{number - 1}",
            "version": 2,
            "fence": fence,
        }
        for number in numbers
    }
    return {
        "op": "documents",
        "by": "store",
        "seen": seen,
        "start": start,
        "end": start + 0.5,
        "result": "ok",
    } | changes


def a_good_history() -> list[Entry]:
    return [
        a_look(1.0),
        a_write(1),
        a_look(12.0, 1),
        documents(13.0, 1),
        a_look(15.0, result="unknown"),
        a_write(2),
        a_look(22.0, 1, 2, by="rest-2"),
        documents(23.0, 1, 2),
    ]


def test_a_history_in_which_all_is_well_has_no_fault() -> None:
    assert faults_of(a_good_history()) == []


def two_models(history: list[Entry]) -> None:
    history.insert(3, a_write(1, model="another", version=3))


def a_commit_unseen(history: list[Entry]) -> None:
    history.append(a_look(24.0, 1))


def a_commit_unseen_by_another(history: list[Entry]) -> None:
    history.append(a_look(24.0, by="rest-2"))


def a_fence_that_falls(history: list[Entry]) -> None:
    history.insert(3, documents(12.5, 1, fence=2))


def a_write_behind_a_newer_reducer(history: list[Entry]) -> None:
    history += [a_write(2, version=3, fence=3), a_write(2, version=4, fence=2)]


def a_version_written_twice(history: list[Entry]) -> None:
    history.append(a_write(2))


def a_gap(history: list[Entry]) -> None:
    history += [a_write(4), documents(50.0, 1, 2, 4)]


def a_fork(history: list[Entry]) -> None:
    history[-1]["seen"][f"rounds/{SESSION}/2"]["base"] = "another"


def no_documents(history: list[Entry]) -> None:
    history[:] = [one for one in history if one["op"] != "documents"]


def a_write_that_nobody_saw(history: list[Entry]) -> None:
    history.remove(a_write(2))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (two_models, "round 1 of session s has 2 models"),
        (a_commit_unseen, "round 2 of session s was seen by rest-2 and not by rest-1 afterwards"),
        (a_commit_unseen_by_another, "round 1 of session s was seen by rest-1 and not by rest-2 afterwards"),
        (a_fence_that_falls, "the fence of rounds/s/1 went from 2 to 1"),
        (a_write_behind_a_newer_reducer, "rounds/s/2 was written under fence 2 behind fence 3"),
        (a_version_written_twice, "version 2 of rounds/s/2 was written twice"),
        (a_gap, "the committed rounds of session s are [1, 2, 4]"),
        (a_fork, "round 2 of session s does not begin with the model of round 1"),
        (no_documents, "nobody saw the documents"),
        (a_write_that_nobody_saw, "round 2 of session s was seen committed, and nobody saw it written"),
    ],
)
def test_a_planted_fault_is_named(spoil: Callable[[list[Entry]], None], named: str) -> None:
    history = a_good_history()
    spoil(history)
    assert any(named in fault for fault in faults_of(history)), faults_of(history)


def test_a_write_that_was_refused_or_may_not_have_been_is_no_model() -> None:
    history = a_good_history()
    history.insert(3, a_write(1, model="another", version=3, result="refused"))
    history.insert(3, a_write(1, model="another", version=3, result="unknown"))
    assert faults_of(history) == []


def test_a_look_that_began_before_a_commit_was_seen_need_not_show_it() -> None:
    history = a_good_history()
    history.append(a_look(11.9, end=30.0, by="rest-2"))
    assert faults_of(history) == []
