"""Two reducers on the same stores, as real processes: one active, one standing by; the first is lost and comes back.

One story, as its processes take longer to start than anything in it takes. The other ways to lose a reducer, killed and
asked to end, are trials of ``make chaos``: chaos/standby_trials.py.
"""

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
import yaml
from running_network import RunningNetwork
from servers.running import S3Server

from fedn_py.api.network import Network
from fedn_py.api.profile import Profile, load_profile
from fedn_py.reducer.lease import TTL_S
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionOptions
from fedn_py.sandbox.folder import Where

CLIENTS, ROUNDS = 3, 3

MODEL = '''
import time
from pathlib import Path

import numpy as np
from fedn_py.package import load_model, load_task, main, save_metrics, save_model


def startup(out_model):
    save_model(out_model, {"mean": np.zeros(4, np.float32)})


def train(in_model, out_model):
    """Train once the test lets the round go on: it wants to lose a reducer in its middle."""
    task = load_task()
    Path(task.parameters["gate"] + "." + task.client).touch()
    while int(Path(task.parameters["gate"]).read_text() or 0) < task.round:
        time.sleep(0.05)
    model = load_model(in_model)
    model["mean"] = model["mean"] + np.float32(1)
    save_model(out_model, model)
    save_metrics(out_model, num_samples=10)


def validate(model, out_json):
    save_metrics(out_json, num_samples=10, level=float(load_model(model)["mean"][0]))


if __name__ == "__main__":
    main({"startup": startup, "train": train, "validate": validate})
'''
PACKAGE = """name: patient
version: 1.0.0
entry_points:
  startup: {command: python model.py startup}
  train: {command: python model.py train}
  validate: {command: python model.py validate}
worker: {command: python model.py serve}
"""
PREPARE = """import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--clients", type=int, required=True)
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--split", default="iid")
chosen = parser.parse_args()
for number in range(1, chosen.clients + 1):
    (chosen.out / f"client-{number}").mkdir(parents=True)
"""


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def all_cores_busy() -> Iterator[None]:
    """Keep two cores at work with something else."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


class Pair:
    """A network of two reducers, "reducer" and "standby", which have all but their state folders in common."""

    def __init__(self, network: RunningNetwork, mongodb_uri: str) -> None:
        self.network = network
        self.mongodb: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongodb_uri)
        folder = network.folder
        settings = yaml.safe_load(folder.settings("reducer").read_text())
        self.gate = folder.path / "gate"
        self.gate.write_text("0")
        self.web = {"reducer": network.ports.web, "standby": a_free_port()}
        grpc = {"reducer": network.ports.grpc, "standby": a_free_port()}
        self.addresses = [f"localhost:{port}" for port in grpc.values()]
        settings["name"] = "standby"
        settings["listen_web"], settings["listen_grpc"] = (
            f"127.0.0.1:{self.web['standby']}",
            f"127.0.0.1:{grpc['standby']}",
        )
        settings["state_dir"] = str(folder.state("standby"))
        settings["masking"]["state_key_file"] = str(folder.state("reducer") / "state.key")
        folder.settings("standby").write_text(yaml.safe_dump(settings))

    def api(self, name: str) -> Network:
        """The REST API of one of the two; a token of one is good at both."""
        profile = load_profile(self.network.folder.profile)
        return Network.of(Profile(f"https://localhost:{self.web[name]}", profile.token, profile.authority_file))

    def probe(self, name: str, path: str) -> tuple[int, str]:
        """Ask one of the two without a token; 0 where it does not answer."""
        context = ssl.create_default_context(cafile=str(self.network.folder.authority_file))
        try:
            with urllib.request.urlopen(
                f"https://localhost:{self.web[name]}{path}", context=context, timeout=5
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    def start(self, name: str) -> None:
        self.network.start("reducer", name)

    def taken(self, name: str) -> "subprocess.Popen[bytes]":
        """A process that the test ends by itself."""
        return self.network.children._children.pop(name).process

    def await_standby(self, name: str, active: str) -> None:
        """Wait until one of the two waits for the other."""

        def waits() -> bool | None:
            status, text = self.probe(name, "/readyz")
            return (status == 503 and f"standby: {active} (" in text and "is active" in text) or None

        self.network.awaited(f"{name} standing by", waits)

    def await_active(self, name: str) -> None:
        self.network.awaited(f"{name} active", lambda: self.probe(name, "/readyz")[0] == 200 or None)
        self.network.network = self.api(name)

    def lease(self) -> dict[str, Any]:
        found = self.mongodb["fedn_py"]["network"].find_one({"_id": "lease"})
        assert found is not None
        return found

    def rounds(self, session: str) -> list[RoundView]:
        return self.network.network.rounds(session)

    def open_gate(self, number: int) -> None:
        """Let the trainings of this round, and of those before it, go on."""
        scratch = self.gate.with_suffix(".new")
        scratch.write_text(str(number))
        scratch.replace(self.gate)

    def await_training(self, session: str, number: int) -> None:
        """Wait until a round has begun, all before it being done; it goes on when its gate is opened."""

        def begun() -> bool | None:
            seen = [(one.number, one.status) for one in self.rounds(session)]
            return seen == [*((before, "done") for before in range(1, number)), (number, "running")] or None

        self.network.awaited(f"round {number} under way", begun)

    def lost(self, name: str, how: Callable[["subprocess.Popen[bytes]"], object]) -> "subprocess.Popen[bytes]":
        """Lose the active reducer, and wait until the other one has taken over from it."""
        other = "standby" if name == "reducer" else "reducer"
        fence, process, began = self.lease()["fence"], self.taken(name), time.monotonic()
        how(process)
        self.network.awaited("a takeover", lambda: self.lease()["fence"] > fence or None)
        taken = time.monotonic() - began
        self.await_active(other)
        sys.stdout.write(
            f"{name} lost: lease taken after {taken:.1f} s, ready after {time.monotonic() - began:.1f} s\n"
        )
        return process


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in (("model.py", MODEL), ("fedn.yaml", PACKAGE), ("prepare.py", PREPARE)):
        (folder / name).write_text(text)
    return folder


@pytest.mark.services
@pytest.mark.timeout(500)  # it starts seven processes; on a busy machine each takes its time
def test_a_masked_session_survives_a_reducer_that_stands_still_and_wakes_up_behind_the_one_that_took_over(
    start_network: Callable[..., RunningNetwork], project: Path, mongodb_uri: str, minio_server: S3Server
) -> None:
    keys = {"FEDN_MINIO_ACCESS_KEY": minio_server.access_key, "FEDN_MINIO_SECRET_KEY": minio_server.secret_key}
    network = start_network(1, Where(mongodb=mongodb_uri, minio=minio_server.url), **keys)
    pair = Pair(network, mongodb_uri)

    pair.start("standby")
    pair.await_standby("standby", "reducer")
    status, text = pair.probe("standby", "/api/v1/status")
    assert (status, json.loads(text)["code"]) == (503, "NotActive")
    assert pair.probe("standby", "/healthz")[0] == 200
    network.start_combiner(1, reducer=pair.addresses)
    for number, data in enumerate(network.prepared(project, CLIENTS), 1):
        network.start_client(number, data, reducer=pair.addresses)
    package, seed = network.uploaded(project)
    network.await_clients(CLIENTS)

    # Whatever else the machine does: nobody takes the lease of one that lives.
    with all_cores_busy():
        time.sleep(TTL_S + 2)
        assert pair.lease()["fence"] == 1
        pair.await_standby("standby", "reducer")

    options = SessionOptions(
        package=package,
        seed_model=seed,
        rounds=ROUNDS,
        masking="pet",
        parameters={"gate": str(pair.gate)},
        validate=False,
        clients_required=CLIENTS,
        clients_wanted=CLIENTS,
        max_attempts=1_000,
    )
    session = network.network.start_session(options).id
    pair.open_gate(1)
    pair.await_training(session, 2)

    # Paused for longer than its lease; woken up, it finds a higher fence in whatever it writes, and ends by name.
    paused = pair.lost("reducer", lambda process: process.send_signal(signal.SIGSTOP))
    pair.open_gate(2)
    pair.await_training(session, 3)
    paused.send_signal(signal.SIGCONT)
    assert paused.wait(90) == 1
    assert "Superseded" in network.folder.log("reducer").read_text(errors="replace")
    pair.open_gate(ROUNDS)

    ended = network.network.wait(session, timeout_s=120.0, poll_s=0.1)
    assert ended.status == "finished", ended
    done = pair.rounds(session)
    assert [one.number for one in done] == list(range(1, ROUNDS + 1))
    assert {one.status for one in done} == {"done"}
    assert [one.samples for one in done] == [10 * CLIENTS] * ROUNDS
    models = network.network.models(session)
    assert len({model.digest for model in models}) == ROUNDS
    events = network.network.events(limit=1_000)
    assert [event.kind for event in events].count("reducer.took_over") == 1
    assert not [event.text for event in events if "privacy hold" in event.text or event.kind == "stores.restored"]
    assert [event.seq for event in events] == sorted({event.seq for event in events})

    # All others are stopped while a client trains: each says goodbye and ends well.
    pair.open_gate(0)
    training = pair.gate.with_name("gate.client-1")
    training.unlink()
    network.network.start_session(options)
    network.awaited("client-1 training", lambda: training.exists() or None)
    leaving = pair.taken("client-1")
    leaving.terminate()
    assert leaving.wait(10) == 0
    network.await_event("client.detached", "client-1")
    combiner = pair.taken("combiner-1")
    combiner.terminate()
    assert combiner.wait(10) == 0
    network.await_event("combiner.left", "combiner-1")
    standby = pair.taken("standby")
    standby.terminate()
    assert standby.wait(10) == 0
    assert pair.lease()["content"]["record"]["released"] is True
