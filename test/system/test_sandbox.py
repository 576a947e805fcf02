"""``fedn-py sandbox`` as a person runs it: from nothing to a trained model, stopped and gone on with."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from running_network import UNEQUAL, fedn_py

from fedn_py.api.network import Network
from fedn_py.api.profile import load_profile


def test_ctrl_c_ends_every_process_and_the_same_command_goes_on_with_the_session(tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [sys.executable, "-m", "fedn_py", "sandbox", "--dir", str(state), "--clients", "3", "--combiners", "1"]
    command += ["--port", "0", "--rounds", "100000", "--project", str(UNEQUAL)]

    def run_until_a_round_is_done() -> str:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if re.search(r"round \d+/100000: 3 clients", line):
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "All processes have ended" in rest
        return "".join(seen) + rest

    run_until_a_round_is_done()
    assert processes_of(state) == []
    again = run_until_a_round_is_done()
    assert processes_of(state) == []

    assert re.search(r"session-1 goes on after [1-9]\d* rounds", again)
    rounds = [int(number) for number in re.findall(r"round (\d+)/100000: 3 clients", again)]
    assert rounds
    assert min(rounds) > 1


def processes_of(state: Path) -> list[str]:
    """Return the command lines of processes that were started for a sandbox's folder."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{state}/config" in line:
            lines.append(line)
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


def test_the_summary_of_a_sandbox_is_what_rest_says(tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [sys.executable, "-m", "fedn_py", "sandbox", "--dir", str(state), "--clients", "2", "--combiners", "1"]
    command += ["--port", "0", "--rounds", "1", "--project", str(UNEQUAL), "--summary", str(tmp_path / "out.json")]
    command += ["--masking", "none"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert any("Ctrl-C" in line for line in process.stdout)
        network = Network.of(load_profile(state / "profile.yaml"))
        summary = json.loads((tmp_path / "out.json").read_text())
        (done,) = network.rounds(summary["session"])
        assert summary["rounds"][0]["model"] == done.model
        assert [client.name for client in network.clients()] == ["client-1", "client-2"]
        assert all(client.connected for client in network.clients())
        kinds = {event.kind for event in network.events(limit=500)}
        assert {"session.started", "round.committed", "round.validated", "session.finished"} <= kinds
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_killed_client_is_told_and_the_session_goes_on_without_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [sys.executable, "-m", "fedn_py", "sandbox", "--dir", str(state), "--clients", "4", "--combiners", "1"]
    command += ["--port", "0", "--rounds", "100000", "--project", str(UNEQUAL)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None

    def read_until(pattern: str) -> str:
        return next(line for line in process.stdout or () if re.search(pattern, line))

    try:
        read_until(r"round \d+/100000: 4 clients")
        pid = next(
            int(entry.parent.name)
            for entry in Path("/proc").glob("[0-9]*/cmdline")
            if f"{state}/config/client-2.yaml" in entry.read_bytes().decode(errors="replace")
        )
        os.kill(pid, signal.SIGKILL)
        assert "exit code -9" in read_until("client-2 ended")
        read_until(r"round \d+/100000: 3 clients")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_session_under_way_is_not_gone_on_with_by_another_project(tmp_path: Path) -> None:
    project = tmp_path / "mine"
    shutil.copytree(UNEQUAL, project)
    state = tmp_path / "state"
    command = [sys.executable, "-m", "fedn_py", "sandbox", "--dir", str(state), "--clients", "2", "--combiners", "1"]
    command += ["--port", "0", "--rounds", "100000", "--project", str(project), "--masking", "none"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("2 clients," in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    with (project / "model.py").open("a") as file:
        file.write("# edited\n")
    again = ["sandbox", "--dir", str(state), "--port", "0", "--clients", "2", "--combiners", "1"]
    again += ["--rounds", "1", "--exit", "--masking", "none"]

    refused = fedn_py(*again, "--project", str(project))
    assert refused.returncode == 1
    assert "--new-session" in refused.stderr

    done = fedn_py(*again, "--project", str(project), "--new-session", "--summary", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "out.json").read_text())
    assert [one["number"] for one in summary["rounds"]] == [1]
    # The edited project has had its data made anew.
    assert len(list((state / "data").iterdir())) == 2
