"""A site that takes part from a process of its own, beside one that runs a compute package; and how clients end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from running_network import ROOT, UNEQUAL, RunningNetwork

DIGITS = ROOT / "test" / "digits-sklearn"


@contextmanager
def participating(network: RunningNetwork, number: int, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the project's own participant with the settings of a client."""
    name = network.folder.write_client(number, network.ports, data, None)
    network.folder.write_token(name, network.network.create_token("client", name)[0])
    command = [sys.executable, "participant.py", str(network.folder.settings(name)), str(data)]
    log = network.folder.log(name)
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=DIGITS, stdout=output, stderr=subprocess.STDOUT, env=network.environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_participant_trains_beside_a_client_with_a_package_and_ends_when_asked(
    start_network: Callable[..., RunningNetwork],
) -> None:
    network = start_network()
    network.start_combiner(1)
    network.await_combiners(1)
    parts = network.prepared(DIGITS, 2)
    network.start_client(1, parts[0])
    with participating(network, 2, parts[1]) as participant:
        network.await_clients(2)
        package, seed = network.uploaded(DIGITS)

        ended = network.run_session(package, seed, rounds=2, clients_required=2)

        assert ended.status == "finished"
        for done in network.network.rounds(ended.id):
            assert sorted(client.name for client in done.clients) == ["client-1", "client-2"]
            assert done.metrics["accuracy"] > 0.5
            assert set(done.metrics_by_client) == {"client-1", "client-2"}
        assert participant.poll() is None
        participant.send_signal(signal.SIGTERM)
        assert participant.wait(10) == 0
    assert "Traceback" not in network.folder.log("client-2").read_text()
    network.children.check()


def test_a_stopped_client_and_its_package_s_worker_are_cut_off_with_the_network(
    start_network: Callable[..., RunningNetwork],
) -> None:
    network = start_network()
    network.start_combiner(1)
    network.await_combiners(1)
    (data,) = network.prepared(UNEQUAL, 1)
    network.start_client(1, data)
    network.await_clients(1)
    package, seed = network.uploaded(UNEQUAL)
    assert network.run_session(package, seed, rounds=1).status == "finished"
    workers = network.awaited("a worker", lambda: processes_with(network.folder.state("client-1")) or None)
    client = next(iter(processes_with(network.folder.settings("client-1"))))

    os.kill(client, signal.SIGSTOP)  # it will hear nothing
    network.stop()

    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and processes_with(network.folder.path):
        time.sleep(0.02)
    assert processes_with(network.folder.path) == set()
    assert not [pid for pid in workers if Path(f"/proc/{pid}/cwd").exists()]


def processes_with(folder: Path) -> set[int]:
    """Return the processes that name a path in their command, or work below it."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line or folder in cwd_of(process).parents:
            found.add(int(process.name))
    return found - {os.getpid()}


def cwd_of(process: Path) -> Path:
    """Return where a process works; nowhere where that is not shown: daemons keep themselves private."""
    try:
        return (process / "cwd").readlink()
    except OSError:
        return Path()
