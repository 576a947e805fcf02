"""``fedn-py sandbox`` as a person runs it: from nothing to a trained model, stopped and gone on with."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from running_network import UNEQUAL, fedn_py


@contextmanager
def until_ctrl_c(command: Sequence[str]) -> Iterator[Callable[[str], str]]:
    """Run a sandbox and end it as Ctrl-C does; gives what waits for a line of it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said: list[str] = []

    def read_until(pattern: str) -> str:
        for line in process.stdout or ():
            said.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError("".join(said))

    try:
        yield read_until
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "All processes have ended" in rest


def test_a_session_goes_on_after_ctrl_c_and_without_a_killed_client_but_not_with_another_project(
    tmp_path: Path,
) -> None:
    project, state = tmp_path / "mine", tmp_path / "state"
    shutil.copytree(UNEQUAL, project)
    options = ["sandbox", "--dir", str(state), "--port", "0", "--clients", "3", "--combiners", "1"]
    # Not masked: a member of a committee that is killed once its cell is closed is waited for, for a minute.
    options += ["--project", str(project), "--masking", "none"]
    command = [sys.executable, "-m", "fedn_py", *options, "--rounds", "100000"]

    with until_ctrl_c(command) as read_until:
        read_until(r"round \d+/100000: 3 clients")
    assert processes_of(state) == {}

    with until_ctrl_c(command) as read_until:
        read_until(r"session-1 goes on after [1-9]\d* rounds")
        first = re.search(r"round (\d+)/", read_until(r"round \d+/100000: 3 clients"))
        assert first is not None
        assert int(first[1]) > 1
        (killed,) = (pid for pid, line in processes_of(state).items() if "config/client-2.yaml" in line)
        os.kill(killed, signal.SIGKILL)
        assert "exit code -9" in read_until("client-2 ended")
        read_until(r"round \d+/100000: 2 clients")
    assert processes_of(state) == {}

    with (project / "model.py").open("a") as file:
        file.write("# edited\n")
    refused = fedn_py(*options, "--rounds", "1", "--exit")
    assert refused.returncode == 1
    assert "--new-session" in refused.stderr

    summary = tmp_path / "out.json"
    done = fedn_py(*options, "--rounds", "1", "--exit", "--new-session", "--summary", str(summary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one["number"] for one in json.loads(summary.read_text())["rounds"]] == [1]
    # The edited project has had its data made anew.
    assert len(list((state / "data").iterdir())) == 2


def processes_of(state: Path) -> dict[int, str]:
    """Return the command lines of processes that were started for a sandbox's folder."""
    lines = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{state}/config" in line:
            lines[int(entry.parent.name)] = line
    return lines


def test_a_sandbox_whose_package_fails_says_why_and_exits_with_1(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "fedn.yaml").write_text(
        "name: broken\nversion: 1.0.0\nentry_points:\n"
        "  startup: {command: python model.py startup}\n"
        "  train: {command: python no.py}\n  validate: {command: python no.py}\n"
    )
    for name in ("model.py", "prepare.py"):
        (project / name).write_text((UNEQUAL / name).read_text())
    (project / "no.py").write_text("print('the data of this site is not readable')\nraise SystemExit(3)\n")

    done = fedn_py(
        "sandbox",
        "--port",
        "0",
        "--dir",
        str(tmp_path / "state"),
        "--clients",
        "2",
        "--combiners",
        "1",
        "--rounds",
        "1",
        "--masking",
        "none",
        "--project",
        str(project),
        "--exit",
    )

    assert done.returncode == 1
    assert "TooFewUpdates" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
