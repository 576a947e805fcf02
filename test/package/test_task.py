import json
from pathlib import Path

import pytest

from fedn_py.package import Task, UnreadableTask, load_task


def test_run_by_hand_a_task_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDN_TASK", raising=False)
    monkeypatch.delenv("FEDN_DATA_PATH", raising=False)
    assert load_task() == Task()


def test_the_task_is_read_from_the_file_and_unknown_fields_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = {"session": "ab", "round": 3, "attempt": 2, "client": "anna", "parameters": {"epochs": 2}, "later": 1}
    (tmp_path / "task.json").write_text(json.dumps(content))
    monkeypatch.setenv("FEDN_TASK", str(tmp_path / "task.json"))
    monkeypatch.setenv("FEDN_DATA_PATH", "/data/site")
    assert load_task() == Task("ab", 3, 2, "anna", {"epochs": 2}, Path("/data/site"))


@pytest.mark.parametrize("text", ["", "[1]", '{"round": "x"}', '{"parameters": 3}', "[" * 100_000])
def test_a_file_that_is_no_task_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    (tmp_path / "task.json").write_text(text)
    monkeypatch.setenv("FEDN_TASK", str(tmp_path / "task.json"))
    with pytest.raises(UnreadableTask, match=r"task\.json"):
        load_task()
