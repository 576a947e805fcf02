"""The compose file's commands are run here, in the order that it starts them in, with its folders below one of a test.

What a container engine adds is not here: users, volumes, names of hosts. The stores are the embedded ones.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from running_network import ROOT
from servers.running import free_port

from fedn_py.api.network import Network
from fedn_py.api.profile import load_profile

FILES = ROOT / "config" / "docker"
FOLDERS = re.compile(r"(?<![\w.])/(authority|operator-key|network|sites|state|etc/fedn_py)\b")
SHARES = 3
UP_WITHIN_S = 60.0
LOOK_AGAIN_S = 0.2
DIGITS = ROOT / "test" / "digits-sklearn"


class ComposeHere:
    """The services of the compose file as processes of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
        self.ports = {name: free_port() for name in ("web", "grpc", "combiner-1", "combiner-2")}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("authority", "operator-key", "network", "sites", "state/clients", "state/combiner", "bin"):
            (folder / name).mkdir(parents=True)
        for file in (FILES / "bin").iterdir():
            if file.is_file():
                script = folder / "bin" / file.name
                script.write_text(self.here(file.read_text()))
                script.chmod(0o755)
        (folder / "etc/fedn_py").mkdir(parents=True)
        for file in FILES.glob("*.yaml"):
            self._write_settings(file)

    def here(self, text: str) -> str:
        """Return a text of the containers with their folders and ports as they are on this machine."""
        for name, port in (("reducer:8090", "web"), ("reducer:12070", "grpc")):
            text = text.replace(name, f"localhost:{self.ports[port]}")
        for name in ("combiner-1", "combiner-2"):
            text = text.replace(f"{name}:12080", f"localhost:{self.ports[name]}")
        return FOLDERS.sub(rf"{self.folder}/\1", text)

    def _write_settings(self, file: Path) -> None:
        settings = yaml.safe_load(self.here(file.read_text()))
        for store in ("mongodb", "minio"):
            settings.pop(store, None)
        if file.stem == "combiner":
            settings.pop("listen")
        (self.folder / "etc/fedn_py" / file.name).write_text(yaml.safe_dump(settings))

    def environment(self, service: str) -> dict[str, str]:
        """Return what a service's processes see, without the stores."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("FEDN_")}
        given = self.services[service].get("environment", {})
        own = {
            name: self.here(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))
            for name, value in given.items()
            if not name.startswith(("FEDN_MINIO", "FEDN_MONGODB"))
        }
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{plain['PATH']}"
        ports = {
            "reducer": {
                "FEDN_LISTEN_WEB": f"127.0.0.1:{self.ports['web']}",
                "FEDN_LISTEN_GRPC": f"127.0.0.1:{self.ports['grpc']}",
            },
            "combiner-1": {"FEDN_LISTEN": f"127.0.0.1:{self.ports['combiner-1']}"},
            "combiner-2": {
                "FEDN_LISTEN": f"127.0.0.1:{self.ports['combiner-2']}",
                "FEDN_STATE_DIR": f"{self.folder}/state/combiner-of-its-own",  # a volume of its own in containers
            },
        }
        if "FEDN_PY_SHARES" in own:
            own["FEDN_PY_SHARES"] = str(SHARES)
        if "FEDN_PY_PROJECT" in own:
            own["FEDN_PY_PROJECT"] = str(ROOT / "test" / own["FEDN_PY_PROJECT"])  # a wheel has it beside its code
        return {**plain, **own, **ports.get(service, {}), "PATH": path}

    def _command(self, service: str) -> list[str]:
        found = self.services[service]
        words = [*found.get("entrypoint", ["fedn-py"]), *found.get("command", [])]
        return [self.here(word) for word in words]

    def run(self, service: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run a service that ends by itself."""
        return subprocess.run(
            [*self._command(service), *more],
            capture_output=True,
            text=True,
            timeout=UP_WITHIN_S,
            env=self.environment(service),
            check=False,
        )

    def start(self, service: str, name: str) -> None:
        """Start a service that keeps running."""
        with self.log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                self._command(service), stdout=log, stderr=subprocess.STDOUT, env=self.environment(service)
            )

    def log(self, name: str) -> Path:
        """Return the file that a running service's output goes to."""
        return self.folder / f"{name}.log"

    def await_ready(self, service: str, name: str) -> None:
        """Do what the engine does to see whether a service is healthy, until it is."""
        port = self.ports["web" if service == "reducer" else service]
        _, *check = self.services[service]["healthcheck"]["test"]
        words = [re.sub(r"localhost:\d+", f"localhost:{port}", word) for word in check]
        deadline = time.monotonic() + UP_WITHIN_S
        while subprocess.run(words, capture_output=True, env=self.environment(service), check=False).returncode:
            assert self._running[name].poll() is None, self.log(name).read_text()
            assert time.monotonic() < deadline, self.log(name).read_text()
            time.sleep(LOOK_AGAIN_S)

    def operator(self, *words: str) -> Any:
        """Run a command as the operator and return what it prints."""
        done = self.run("operator", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["data"]

    def shown(self, file: str) -> Any:
        """Return what a credential's file says."""
        return self.operator("operator", "show", str(self.folder / file))

    def await_clients(self, count: int) -> None:
        """Wait until so many clients are attached."""
        network = Network.of(load_profile(self.folder / "etc/fedn_py/profile.yaml"))
        deadline = time.monotonic() + UP_WITHIN_S
        while network.status().clients < count:
            dead = [name for name, process in self._running.items() if process.poll() is not None]
            assert not dead, "\n".join(self.log(name).read_text() for name in dead)
            assert time.monotonic() < deadline, "\n".join(self.log(name).read_text() for name in self._running)
            time.sleep(LOOK_AGAIN_S)

    def masked_session(self) -> Any:
        """Run one masked round and return its session."""
        archive, seed = self.folder / "digits.tar.gz", self.folder / "seed.safetensors"
        self.operator("package", "create", str(DIGITS), "--out", str(archive))
        subprocess.run([sys.executable, str(DIGITS / "seed.py"), str(seed)], check=True, capture_output=True)
        terms = ["--masking", "pet", "--clients-required", str(SHARES), "--rounds", "1"]
        return self.operator("session", "start", "--package", str(archive), "--model", str(seed), *terms, "--wait")

    def stop(self) -> None:
        """End what runs."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.wait(timeout=30)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[ComposeHere]:
    compose = ComposeHere(tmp_path / "c")
    yield compose
    compose.stop()


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of the volumes that commands write once."""
    volumes = ("authority", "operator-key", "network", "sites")
    return {str(file): file.read_bytes() for name in volumes for file in (folder / name).rglob("*") if file.is_file()}


def test_each_command_of_the_compose_file_does_its_part_and_does_it_once(here: ComposeHere) -> None:
    for service in ("certificates", "credentials"):
        done = here.run(service)
        assert done.returncode == 0, done.stderr
    here.start("reducer", "reducer")
    here.await_ready("reducer", "reducer")
    made = here.run("tokens")
    assert made.returncode == 0, made.stderr
    once = contents(here.folder)
    for service in ("certificates", "credentials", "tokens"):
        assert here.run(service).returncode == 0
    assert contents(here.folder) == once

    for name in ("combiner-1", "combiner-2"):
        here.start(name, name)
    for name in ("combiner-1", "combiner-2"):
        here.await_ready(name, name)
    for number in range(1, SHARES + 1):
        here.start("client", f"a-client-{number}")
    here.await_clients(SHARES)
    assert here.operator("status")["combiners"] == 2
    assert sorted(one["name"] for one in here.operator("client", "list")) == ["client-1", "client-2", "client-3"]
    one_more = here.run("client")
    assert one_more.returncode == 1
    assert "tokens for 3 clients" in one_more.stderr
    session = here.masked_session()
    assert session["status"] == "finished", session

    key = here.shown("operator-key/operator.key")["operator_key"]
    servers = [here.shown(f"network/masking/{name}.credential") for name in ("reducer", "combiner-1", "combiner-2")]
    assert [(one["role"], one["name"]) for one in servers] == [
        ("reducer", "reducer"),
        ("combiner", "combiner-1"),
        ("combiner", "combiner-2"),
    ]
    sites = [here.shown(f"sites/client-{number}.token") for number in range(1, SHARES + 1)]
    assert [(one["site"], one["uses"]) for one in sites] == [(f"client-{n}", 1) for n in range(1, SHARES + 1)]
    assert len({one["join_id"] for one in sites}) == SHARES
    policy = here.shown("network/masking/policy.signed")
    assert {one["operator_key"] for one in (policy, *servers, *sites)} == {key}
    assert (policy["modes"], policy["metrics"]) == (["pet", "none"], "client")
    assert (policy["g_min"], policy["n_draw_min"]) == (3, 1)
    secret = [file for file in map(Path, once) if file.suffix in {".key", ".credential", ".token"}]
    assert len(secret) == 4 + 1 + 3 + 2 + SHARES
    assert {file.stat().st_mode & 0o777 for file in secret} == {0o600}
