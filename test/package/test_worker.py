import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedn_py.package import UnknownEntryPoint, main

SCRIPT = """
import os, sys
from fedn_py.package import main
def train(source, target):
    print("printing on the protocol's channel", flush=True)
    os.system("echo a child prints too")
    open(target, "w").write(os.environ["FEDN_TASK"] + sys.stdin.read())
def crash(): raise ValueError("bad luck")
def leave(code): sys.exit(int(code))
main({"train": train, "crash": crash, "leave": leave})
"""


def serve(*requests: dict[str, object]) -> tuple[list[dict[str, object]], str]:
    lines = "".join(
        json.dumps({"id": str(number), "task": "T", **request}) + "\n" for number, request in enumerate(requests)
    )
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, "serve"], input=lines, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr


def test_prints_of_the_author_and_of_its_children_go_to_the_log_and_not_between_the_answers(tmp_path: Path) -> None:
    answers, log = serve({"entry_point": "train", "arguments": ["in", str(tmp_path / "out")]})
    assert answers == [{"ready": True}, {"id": "0", "ok": True, "error": ""}]
    assert "printing on the protocol's channel" in log
    assert "a child prints too" in log
    assert log.endswith("\x1e0\n")
    assert (tmp_path / "out").read_text() == "T"


def test_an_entry_point_that_raises_ends_its_task_and_not_the_worker() -> None:
    answers, log = serve(
        {"entry_point": "crash", "arguments": []},
        {"entry_point": "leave", "arguments": ["3"]},
        {"entry_point": "leave", "arguments": ["0"]},
        {"entry_point": "predict", "arguments": []},
    )
    assert [answer["ok"] for answer in answers[1:]] == [False, False, True, False]
    assert answers[1]["error"] == "ValueError: bad luck"
    assert answers[2]["error"] == "exited with 3"
    assert "UnknownEntryPoint" in str(answers[4]["error"])
    assert "Traceback" in log


def test_the_command_line_runs_the_entry_point_it_names() -> None:
    calls: list[tuple[str, ...]] = []
    main({"train": lambda *paths: calls.append(paths)}, ["train", "a", "b"])
    assert calls == [("a", "b")]
    with pytest.raises(UnknownEntryPoint, match="predict") as fault:
        main({"train": print}, ["predict"])
    assert "train" in fault.value.remedy
