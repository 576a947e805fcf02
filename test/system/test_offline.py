"""Once installed, a sandbox needs no network: it trains on a machine that has nothing but its own loopback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from running_network import ROOT

ALONE = ["unshare", "--net", "--"]


@pytest.fixture
def alone() -> list[str]:
    """Return how to run a command on a network of its own, where only the loopback is up."""
    try:
        tried = subprocess.run([*ALONE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    except FileNotFoundError:
        tried = None
    if tried is None or tried.returncode:
        pytest.skip("needs the right to make a network of its own: root on Linux, with unshare and ip")
    return [*ALONE, "sh", "-c", 'ip link set lo up && exec "$@"', "alone"]


def test_a_sandbox_trains_where_no_network_is(alone: list[str], tmp_path: Path) -> None:
    reached = 'import socket; socket.create_connection(("192.0.2.1", 443), timeout=5)'
    nowhere = subprocess.run([*alone, sys.executable, "-c", reached], capture_output=True, text=True, check=False)
    assert "unreachable" in nowhere.stderr

    command = [*alone, sys.executable, "-m", "fedn_py", "sandbox", "--dir", str(tmp_path / "state"), "--exit"]
    command += ["--clients", "3", "--combiners", "1", "--rounds", "1", "--project", str(ROOT / "test/digits-sklearn")]
    command += ["--summary", str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    (only,) = json.loads((tmp_path / "out.json").read_text())["rounds"]
    assert only["metrics"]["accuracy"] > 0.85
