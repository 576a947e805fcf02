"""Runs the real servers for the length of a test run, on free ports of this machine, each in a folder of its own."""

import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.build import build

from fedn_py.execution.processes import not_outliving_this

READY_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0


class NotReady(Exception):
    """A server did not come up; the message holds the end of its log."""


@dataclass(frozen=True)
class S3Server:
    """Where an S3 server listens, and its keys."""

    url: str
    access_key: str
    secret_key: str


class Process:
    """A server on a folder and a port of its own, which may be killed and started again there."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, is_ready: Callable[[], bool]
    ) -> None:
        self._command, self._environment, self._log, self._is_ready = command, environment, log, is_ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers; raises NotReady."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                not_outliving_this(self._command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self._environment},
                process_group=0,
            )
        give_up_at = time.monotonic() + READY_LIMIT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                tail = self._log.read_text(errors="replace")[-2_000:]
                raise NotReady(f"{self._command} did not come up (exit status {self._process.poll()}):\n{tail}")
            time.sleep(0.05)  # nothing tells when a port begins to answer

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to all that it started."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it without a warning."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """End it in good order, or else without a warning."""
        if not self.runs:
            return
        assert self._process is not None
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()


def mongodb_in(folder: Path) -> tuple[Process, str]:
    """Return a MongoDB-wire server, not started yet, and its URI."""
    executable, port = build("mongod"), free_port()
    data = folder / "data"
    data.mkdir()
    if executable.name == "mongod":  # a real one, from PATH
        command = [str(executable), "--dbpath", str(data), "--bind_ip", "127.0.0.1", "--port", str(port)]
    else:
        command = [str(executable), "-folder", str(data), "-listen", f"127.0.0.1:{port}"]
    return Process(command, {}, folder / "log", lambda: _listens(port)), f"mongodb://127.0.0.1:{port}/"


def minio_in(folder: Path) -> tuple[Process, S3Server]:
    """Return MinIO, not started yet, and where it will be."""
    port, keys = free_port(), ("fedn-access", "fedn-secret-of-the-tests")
    command = [str(build("minio")), "server", "--quiet", "--anonymous", "--address", f"127.0.0.1:{port}"]
    command += ["--console-address", f"127.0.0.1:{free_port()}", str(folder / "data")]
    environment = {"MINIO_ROOT_USER": keys[0], "MINIO_ROOT_PASSWORD": keys[1], "MINIO_BROWSER": "off"}
    process = Process(command, environment, folder / "log", lambda: _answers_http(port))
    return process, S3Server(f"http://127.0.0.1:{port}", *keys)


@contextmanager
def running_mongodb(folder: Path) -> Iterator[str]:
    """Run a MongoDB-wire server; give its URI."""
    process, uri = mongodb_in(folder)
    with _running(process):
        yield uri


@contextmanager
def running_minio(folder: Path) -> Iterator[S3Server]:
    """Run MinIO."""
    process, server = minio_in(folder)
    with _running(process):
        yield server


@contextmanager
def running_versitygw(folder: Path) -> Iterator[S3Server]:
    """Run the Versity S3 gateway on a folder."""
    port, keys = free_port(), ("fedn-access", "fedn-secret-of-the-tests")
    (folder / "data").mkdir()
    command = [str(build("versitygw")), "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder / "data")]
    environment = {"ROOT_ACCESS_KEY": keys[0], "ROOT_SECRET_KEY": keys[1]}
    with _running(Process(command, environment, folder / "log", lambda: _answers_http(port))):
        yield S3Server(f"http://127.0.0.1:{port}", *keys)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now.

    It is below those that systems give to outgoing connections, so that it stays free while its server is away.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@contextmanager
def _running(process: Process) -> Iterator[None]:
    process.start()
    try:
        yield
    finally:
        process.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers_http(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
    except urllib.error.HTTPError as error:
        return error.code < 500  # a refusal is an answer
    except OSError:
        return False
    return True
