"""Real processes for system tests: a reducer, combiners and clients as ``fedn-py run`` starts them."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fedn_py.api.faults import ReducerUnreachable, RemoteRefusal
from fedn_py.api.network import Network
from fedn_py.api.profile import load_profile
from fedn_py.execution.archive import unpack
from fedn_py.execution.environment import own_environment
from fedn_py.execution.packing import create_package
from fedn_py.execution.projects import prepare_data
from fedn_py.execution.runner import PackageRunner
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.sandbox.folder import Ports, SandboxFolder, Where
from fedn_py.sandbox.processes import Children

ROOT = Path(__file__).resolve().parents[2]
UNEQUAL = Path(__file__).resolve().parent / "unequal-groups"

Found = TypeVar("Found")


def fedn_py(*arguments: str, timeout_s: float = 120.0, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command line and return what it printed."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FEDN_")}
    return subprocess.run(
        [sys.executable, "-m", "fedn_py", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**plain, **environ},
        check=False,
    )


def sandbox(folder: Path, *arguments: str, timeout_s: float = 240.0, **environ: str) -> dict[str, Any]:
    """Run ``fedn-py sandbox --exit`` and return its summary."""
    summary = folder / "out.json"
    done = fedn_py(
        "sandbox",
        "--dir",
        str(folder / "state"),
        "--port",
        "0",
        "--exit",
        "--summary",
        str(summary),
        *arguments,
        timeout_s=timeout_s,
        **environ,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(summary.read_text())
    return found


class RunningNetwork:
    """Processes on free ports of this machine, with settings that a test may change. End it with ``stop``."""

    up_within_s = 60.0

    def __init__(
        self,
        folder: Path,
        combiners: int = 1,
        where: Where | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        children: Children | None = None,
        first_port: int = 0,
    ) -> None:
        self.folder = SandboxFolder(folder)
        self.where = where or Where()
        self.children = children or Children()
        self.ports: Ports = self.folder.choose_ports(combiners, first_port)
        servers = ["reducer", *(f"combiner-{number + 1}" for number in range(combiners))]
        self.folder.write_certificates(servers)
        self.folder.write_operator(servers)
        self.environ = {n: v for n, v in os.environ.items() if not n.startswith("FEDN_")} | dict(environ or {})
        self.network = self._start_reducer()

    def _start_reducer(self) -> Network:
        self.folder.write_reducer(self.ports, self.where)
        self.start("reducer", "reducer")
        self.folder.write_profile(self.ports)

        return self.awaited("the reducer", self.reached)

    def reached(self) -> Network | None:
        """Return the reducer's REST API once it answers."""
        if not self.folder.admin_token.exists():
            return None
        network = Network.of(load_profile(self.folder.profile))
        try:
            network.status()
        except (ReducerUnreachable, RemoteRefusal):  # refused by one that is not active yet
            return None
        return network

    def start(self, role: str, name: str, /, **changes: Any) -> None:
        """Start a process whose settings are written, with some of them changed."""
        file = self.folder.settings(name)
        settings = {**yaml.safe_load(file.read_text()), **changes}
        file.write_text(yaml.safe_dump({key: value for key, value in settings.items() if value is not None}))
        self.children.start(role, name, file, self.folder.log(name), self.environ)

    def start_combiner(self, number: int, /, **changes: Any) -> str:
        """Start combiner-<number>."""
        name = self.folder.write_combiner(number, self.ports, self.where)
        self.folder.write_token(name, self.network.create_token("combiner", name)[0])
        self.start("combiner", name, **changes)
        return name

    def start_client(self, number: int, data: Path, /, **changes: Any) -> str:
        """Start client-<number> on a part of the data."""
        name = self.folder.write_client(number, self.ports, data, None)
        self.folder.write_token(name, self.network.create_token("client", name)[0])
        self.start("client", name, **changes)
        return name

    def prepared(self, project: Path, clients: int) -> list[Path]:
        """Split a project's data."""
        return asyncio.run(prepare_data(project, clients, self.folder.data, python=own_environment()))

    def made(self, project: Path, into: Path) -> tuple[Path, Path]:
        """Make a project's package and its seed model in a folder, and return their files."""
        archive, seed = into / "package.tar.gz", into / "seed.safetensors"
        create_package(project, archive)
        scratch = self.folder.path / f"upload-{project.name}"
        scratch.mkdir()

        async def make() -> None:
            runner = PackageRunner(
                unpack(archive, scratch / "unpacked"), python=own_environment(), data_path=None, scratch=scratch / "run"
            )
            await runner.startup(seed)
            await runner.close()

        asyncio.run(make())
        shutil.rmtree(scratch)
        return archive, seed

    def uploaded(self, project: Path) -> tuple[str, str]:
        """Upload a project's package and its seed model, and return their digests."""
        with tempfile.TemporaryDirectory(dir=self.folder.path) as folder:
            archive, seed = self.made(project, Path(folder))
            return self.network.upload_package(archive).digest, self.network.upload_seed_model(seed).digest

    def await_combiners(self, count: int) -> None:
        """Wait until so many combiners have joined."""
        self.awaited(f"{count} combiners", lambda: self.network.status().combiners == count or None)

    def await_clients(self, count: int) -> None:
        """Wait until so many clients are attached."""
        self.awaited(f"{count} clients", lambda: self.network.status().clients == count or None)

    def await_event(self, kind: str, containing: str = "") -> str:
        """Wait for an event whose text contains something, and return its text."""

        def seen() -> str | None:
            events = self.network.events(kind=kind, limit=500)
            return next((event.text for event in events if containing in event.text), None)

        return self.awaited(f"an event {kind} with {containing!r}", seen)

    def await_log(self, name: str, containing: str) -> str:
        """Wait until a process has logged something and return its log."""

        def seen() -> str | None:
            text = self.folder.log(name).read_text(errors="replace")
            return text if containing in text else None

        return self.awaited(f"{containing!r} in the log of {name}", seen, check=False)

    def run_session(self, package: str, seed: str, rounds: int, **options: Any) -> SessionView:
        """Start a session and wait for its end."""
        started = self.network.start_session(
            SessionOptions(package=package, seed_model=seed, rounds=rounds, **options)  # type: ignore[arg-type]
        )
        return self.network.wait(started.id, timeout_s=120.0, poll_s=0.1)

    def awaited(self, what: str, look: Callable[[], Found | None], *, check: bool = True) -> Found:
        """Look again and again until something is there."""
        deadline = time.monotonic() + self.up_within_s
        while time.monotonic() < deadline:
            if check:
                self.children.check()
            found = look()
            if found is not None:
                return found
            time.sleep(0.05)
        logs = "\n".join(f"== {log.name}\n{log.read_text()[-2000:]}" for log in self.folder.path.glob("logs/*.log"))
        raise AssertionError(f"no {what} within {self.up_within_s:g} s\n{logs}")

    def stop(self) -> None:
        """End all processes."""
        self.children.stop()
