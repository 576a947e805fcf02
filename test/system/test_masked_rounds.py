"""Rounds on real processes: masked and plain, exactly the mean that they say they are, as accurate as central training.

One story, as its processes take longer to start than anything in it takes.
"""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from oracle import largest_relative_difference, masked_error, masked_mean, saved_updates, weighted_mean
from running_network import ROOT
from safetensors.numpy import load_file

from fedn_py.api.network import Network
from fedn_py.api.profile import load_profile
from fedn_py.identity import Digest
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionOptions

DIGITS = ROOT / "test" / "digits-sklearn"
CLIENTS, ROUNDS = 8, 5
EVERYBODY = sorted(f"client-{number}" for number in range(1, CLIENTS + 1))


@contextmanager
def trained(state: Path, kept: Path, told: Path) -> Iterator[dict[str, Any]]:
    """Run a sandbox that has trained its session and goes on running; gives its summary."""
    command = [sys.executable, "-m", "fedn_py", "sandbox", "--dir", str(state), "--port", "0", "--masking", "pet"]
    command += ["--clients", str(CLIENTS), "--combiners", "2", "--rounds", str(ROUNDS), "--project", str(DIGITS)]
    command += ["--keep-updates", str(kept), "--summary", str(told)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C ends" in line:
                break
        assert process.poll() is None, "".join(said)
        yield json.loads(told.read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def stored_models(state: Path) -> dict[str, Path]:
    """Return the reducer's objects by their digests."""
    return {file.name: file for file in (state / "state/reducer/objects").rglob("*") if file.is_file()}


def assert_each_model_is_the_mean_of_its_clients(summary: dict[str, Any], state: Path, kept: Path) -> None:
    stored = stored_models(state)
    base = load_file(stored[summary["seed_model"]])
    for done in summary["rounds"]:
        updates = saved_updates(kept, done["number"], done["clients"])
        assert done["samples"] == sum(samples for _, samples in updates)
        model, mean = load_file(stored[done["model"]]), masked_mean(base, updates)
        bound = masked_error(len(updates), done["samples"])
        for name, values in base.items():
            exact = values.astype(np.float64) + mean[name]
            # The model itself is float32; that rounding is not masking's.
            allowed = bound + np.finfo(np.float32).eps * np.abs(exact).max()
            assert np.abs(model[name] - exact).max() <= allowed
            assert np.abs(mean[name]).max() > 100 * bound  # else the test could not tell
        base = model


def assert_rest_says_the_same(network: Network, summary: dict[str, Any]) -> None:
    done = {one.number: one.model for one in network.rounds(summary["session"])}
    assert {one["number"]: one["model"] for one in summary["rounds"]} == done
    assert sorted(client.name for client in network.clients()) == EVERYBODY
    assert all(client.connected for client in network.clients())
    kinds = {event.kind for event in network.events(limit=500)}
    assert {"session.started", "round.committed", "round.validated", "session.finished"} <= kinds


def plain_rounds(network: Network, seed_model: Digest) -> list[RoundView]:
    """Have the same clients train from the same seed model without masks, and return the rounds in order."""
    (package,) = network.packages()
    options = SessionOptions(
        package=package.digest, seed_model=seed_model, rounds=ROUNDS, clients_required=CLIENTS, masking="none"
    )
    ended = network.wait(network.start_session(options).id, timeout_s=120.0, poll_s=0.1)
    assert ended.status == "finished", ended
    return sorted(network.rounds(ended.id), key=lambda one: one.number)


def central_accuracy(data: Path) -> float:
    """Train the same model on the union of the data with the project's own script."""
    done = subprocess.run(
        [sys.executable, "central.py", "--data", str(data)], cwd=DIGITS, capture_output=True, text=True, check=True
    )
    found = re.search(r"accuracy[^0-9]*([0-9.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


def test_five_rounds_on_eight_clients_are_the_mean_of_all_and_as_accurate_masked_as_plain_and_as_central(
    tmp_path: Path,
) -> None:
    state, kept = tmp_path / "state", tmp_path / "kept"
    with trained(state, kept, tmp_path / "out.json") as summary:
        assert [one["number"] for one in summary["rounds"]] == [1, 2, 3, 4, 5]
        for one in summary["rounds"]:
            assert one["clients"] == EVERYBODY
            assert one["combiners"] == ["combiner-1", "combiner-2"]
            assert one["samples"] > 1_000
            assert one["seconds"] > 0
            assert len(one["model"]) == 64
        assert summary["final_model"] == summary["rounds"][-1]["model"]
        assert_each_model_is_the_mean_of_its_clients(summary, state, kept)

        network = Network.of(load_profile(state / "profile.yaml"))
        assert_rest_says_the_same(network, summary)

        plain = plain_rounds(network, summary["seed_model"])

    stored = stored_models(state)
    base = load_file(stored[summary["seed_model"]])
    for done in plain:
        assert sorted(client.name for client in done.clients) == EVERYBODY
        assert sorted(done.combiners) == ["combiner-1", "combiner-2"]
        model = load_file(stored[str(done.model)])
        mean = weighted_mean(base, saved_updates(kept, done.number, EVERYBODY, session=2))
        assert largest_relative_difference(model, mean) < 1e-6
        base = model
    masked_accuracy, plain_accuracy = summary["rounds"][-1]["metrics"]["accuracy"], plain[-1].metrics["accuracy"]
    assert masked_accuracy > plain_accuracy - 0.01
    (data,) = (state / "data").iterdir()
    assert plain_accuracy > central_accuracy(data) - 0.03
