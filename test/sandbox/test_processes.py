"""The sandbox's processes: real ones, of which none is left."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_network import AUTHORITY

from fedn_py.sandbox.processes import Child, Children, NotUp, ProcessEnded, tail

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
# As a client starts a package's worker, which starts what it likes.
worker = subprocess.Popen(
    [sys.executable, "-c", "import subprocess, time; p = subprocess.Popen(['sleep', '300']); "
     "print(p.pid, flush=True); time.sleep(300)"],
    start_new_session=True, stdout=subprocess.PIPE, text=True,
)
print(worker.pid, worker.stdout.readline().strip(), flush=True)
time.sleep(300)
"""


@pytest.fixture
def children() -> Iterator[Children]:
    started = Children()
    yield started
    started.stop()


def settings(folder: Path, **changes: str) -> Path:
    (folder / "authority.pem").write_bytes(AUTHORITY.certificate_pem)
    (folder / "token").write_text("fedn1.token\n")
    (folder / "client.yaml").write_text(
        "name: anna\nreducer: localhost:1\nauthority_file: authority.pem\ntoken_file: token\nstate_dir: state\n"
        + "".join(f"{key}: {value}\n" for key, value in changes.items())
    )
    return folder / "client.yaml"


def plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FEDN_")}


def check_on(children: Children) -> None:
    while True:
        children.check()
        time.sleep(0.02)


def awaited(file: Path, text: str) -> str:
    while text not in (found := file.read_text() if file.exists() else ""):
        time.sleep(0.02)
    return found


def living(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_runs_as_its_own_would_and_ends_when_asked(children: Children, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "anna.log"
    children.start("client", "anna", settings(tmp_path), log, plain_environment())
    awaited(log, "client started")
    children.check()
    children.stop()
    assert "Traceback" not in log.read_text()
    children.check()  # nobody is left to have ended


def test_what_does_not_come_in_time_is_named_with_the_place_of_the_logs(children: Children, tmp_path: Path) -> None:
    children.start_command("client", "anna", ["sleep", "300"], tmp_path / "logs" / "anna.log", plain_environment())
    assert children.awaited("anna", lambda: "here", within_s=10.0, every_s=0.01) == "here"
    with pytest.raises(NotUp, match=r"anna did not come up within 0\.05 s") as caught:
        children.awaited("anna", lambda: None, within_s=0.05, every_s=0.01)
    assert str(tmp_path / "logs") in caught.value.remedy


def test_a_process_that_dies_at_its_start_shows_the_end_of_its_log(children: Children, tmp_path: Path) -> None:
    log = tmp_path / "anna.log"
    log.write_text("an older line\n" * 50)
    file = settings(tmp_path, no_such_key="1", nor_this="2")
    children.start("client", "anna", file, log, plain_environment())
    awaited(log, "nor_this")
    with pytest.raises(ProcessEnded) as ended:
        check_on(children)
    assert "anna ended with exit code 2" in ended.value.message
    assert "no_such_key" in ended.value.message
    assert len(ended.value.message.splitlines()) <= 16
    assert str(log) in ended.value.message


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux: /proc tells who started whom")
def test_a_stubborn_process_and_all_that_it_started_are_cut_off(tmp_path: Path) -> None:
    children, log = Children(), tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=output, start_new_session=True)
    children._children["stubborn"] = Child("client", "stubborn", process, log)
    pids = [int(pid) for pid in awaited(log, "\n").split()]
    assert len(pids) == 2
    assert all(living(pid) for pid in pids)
    children.stop()
    assert process.poll() is not None
    deadline = time.monotonic() + 1
    while any(living(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in pids if living(pid)]


def test_the_tail_of_a_log_is_its_last_lines_and_of_a_missing_one_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == ""
    log.write_bytes(b"\n".join(f"line {number}".encode() for number in range(40)) + b"\n\xff\n")
    lines = tail(log).splitlines()
    assert len(lines) == 15
    assert lines[-2].strip() == "line 39"


def ended_child(role: str, tmp_path: Path) -> Children:
    children = Children()
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    process.wait()
    children._children["one"] = Child(role, "one", process, tmp_path / "log")
    return children


def test_a_lost_client_or_combiner_is_told_once_and_the_rest_goes_on(tmp_path: Path) -> None:
    for role in ("client", "combiner"):
        children = ended_child(role, tmp_path)
        (told,) = children.newly_lost()
        assert "one ended with exit code 7" in told
        assert children.newly_lost() == []


def test_nothing_goes_on_without_the_reducer(tmp_path: Path) -> None:
    with pytest.raises(ProcessEnded):
        ended_child("reducer", tmp_path).newly_lost()
