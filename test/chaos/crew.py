"""The processes of a network under chaos: started by the launcher, killed, stopped, and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from chaos.points import NAMES

from fedn_py.execution.processes import not_outliving_this
from fedn_py.sandbox.processes import Child, Children

WAIT_S = 240.0
_LOOK_EVERY_S = 0.02


class NotReached(AssertionError):
    """A process did not come to a point, or to its end."""


class Crew(Children):
    """Children that may end at any time.

    Args:
        folder: for what the launcher and we tell each other.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        folder.mkdir()
        self._lives: dict[str, tuple[str, Path, Path, Mapping[str, str]]] = {}

    def start(self, role: str, name: str, settings: Path, log: Path, environ: Mapping[str, str]) -> None:
        """Start a process by the launcher."""
        self._lives[name] = (role, settings, log, environ)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "chaos.launch", "run", role, "-c", str(settings)]
        here = {
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in Path(__file__).resolve().parents[1:3]),
            "CHAOS_FOLDER": str(self._folder),
            "CHAOS_NAME": name,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        with log.open("ab") as output:
            process = subprocess.Popen(
                not_outliving_this(command, signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environ, **here},
                start_new_session=True,
            )
        self._children[name] = Child(role, name, process, log)

    def check(self) -> None:
        """Bear that some have ended."""

    def stop(self) -> None:
        """End all, those that stand still too."""
        for child in self._children.values():
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGCONT)
        super().stop()

    # ---- what is done to them

    def names(self, role: str) -> list[str]:
        """Return the processes of a role."""
        return [child.name for child in self._children.values() if child.role == role]

    def pid(self, name: str) -> int:
        """Return a process's id."""
        return self._children[name].process.pid

    def lives(self, name: str) -> bool:
        """Tell whether a process has not ended."""
        return self._children[name].process.poll() is None

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal."""
        self._children[name].process.send_signal(number)

    def kill(self, name: str) -> None:
        """Kill a process."""
        self.send(name, signal.SIGKILL)
        self.ended(name)

    def ended(self, name: str) -> int:
        """Wait for a process's end and return its exit code."""
        try:
            return self._children[name].process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise NotReached(f"{name} did not end") from None

    def restart(self, name: str) -> None:
        """Start a process that has ended again, with the settings that it had."""
        assert not self.lives(name)
        role, settings, log, environ = self._lives[name]
        self.start(role, name, settings, log, environ)

    # ---- points

    def arm(
        self, *names: str, point: str, match: str = "", nth: int = 1, number: signal.Signals = signal.SIGKILL
    ) -> None:
        """Have the first of some processes that passes a point get a signal.

        Args:
            match: only passings whose name contains this.
            nth: the how manieth of them.
        """
        assert point in NAMES, point
        wanted = {"point": point, "match": match, "nth": nth, "signal": int(number), "token": "token"}
        (self._folder / "token").touch()
        for name in names:
            self._hit(name).unlink(missing_ok=True)
            partial = self._folder / f"{name}.partial"
            partial.write_text(json.dumps(wanted))
            partial.replace(self._folder / f"{name}.armed")

    def disarm(self) -> None:
        """Have nobody pass an armed point."""
        for file in self._folder.glob("*.armed"):
            file.unlink(missing_ok=True)

    def was_hit(self, name: str) -> bool:
        """Tell whether a process has come to its point."""
        return self._hit(name).exists()

    def await_hit(self, *names: str) -> str:
        """Wait until one of these processes has come to its point, and return its name."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for name in names:
                if self.was_hit(name):
                    return name
            time.sleep(_LOOK_EVERY_S)
        raise NotReached(f"{', '.join(names)} did not come to the point")

    def _hit(self, name: str) -> Path:
        return self._folder / f"{name}.hit"

    # ---- what they hold

    def held(self, name: str) -> dict[str, int]:
        """Ask a process how many descriptors, threads and tasks it has."""
        file = self._folder / f"{name}.held"
        file.unlink(missing_ok=True)
        self.send(name, signal.SIGUSR2)
        deadline = time.monotonic() + WAIT_S
        while not file.exists():
            if time.monotonic() > deadline or not self.lives(name):
                raise NotReached(f"{name} does not say what it holds")
            time.sleep(_LOOK_EVERY_S)
        said: dict[str, int] = json.loads(file.read_text())
        return said


def exists(pid: int) -> bool:
    """Tell whether a process is there and not merely waiting to be reaped."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
