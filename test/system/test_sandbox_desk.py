"""A sandbox that waits for people at its web pages: what they ask of it there is done."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from running_network import UNEQUAL

from fedn_py.api.network import Network
from fedn_py.api.profile import load_profile
from fedn_py.execution.packing import create_package
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.reducer.shown_sessions import SessionOptions
from fedn_py.web.sandbox_desk import SocketDesk


def test_the_pages_make_a_seed_kill_a_client_in_a_masked_session_start_it_again_and_see_what_left_it(
    tmp_path: Path,
) -> None:
    state = tmp_path / "b"
    command = [sys.executable, "-m", "fedn_py", "sandbox", "--dir", str(state), "--clients", "3", "--combiners", "1"]
    command += ["--port", "0", "--no-session", "--project", str(UNEQUAL)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        while "Ctrl-C" not in process.stdout.readline():
            assert process.poll() is None
        settings = yaml.safe_load((state / "config" / "reducer.yaml").read_text())
        _train_by(
            SocketDesk(Path(settings["sandbox_socket"])), Network.of(load_profile(state / "profile.yaml")), tmp_path
        )
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def _train_by(desk: SocketDesk, network: Network, scratch: Path) -> None:
    archive = scratch / "package.tar.gz"
    create_package(UNEQUAL, archive)
    package = network.upload_package(archive)
    seed = asyncio.run(desk.make_seed(package.digest))
    assert network.model(seed.digest).size == seed.size

    asyncio.run(desk.kill("client-2"))
    options = SessionOptions(
        package=package.digest,
        seed_model=seed.digest,
        rounds=2,
        clients_required=3,
        masking="pet",
        masked=MaskedOptions(),
    )
    session = network.start_session(options)
    asyncio.run(desk.start_again("client-2"))
    assert network.wait(session.id, timeout_s=120, poll_s=0.2).status == "finished"

    left = asyncio.run(desk.masked_update("client-2"))
    assert (left.client, left.session, left.round) == ("client-2", session.id, 2)
    assert len(left.opened) < left.n_words  # the weight and the metrics have words of their own
    assert all(np.isfinite(left.opened))
    # As good as random: no word says how small the update is.
    assert len(set(left.words)) == len(left.words)
