"""Runs the real servers for the length of a test run, on free ports of this machine, each in a folder of its own."""

import os
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


@contextmanager
def running_mongodb(folder: Path) -> Iterator[str]:
    """Run a MongoDB-wire server; give its URI."""
    executable, port = build("mongod"), free_port()
    data = folder / "data"
    data.mkdir()
    if executable.name == "mongod":  # a real one, from PATH
        command = [str(executable), "--dbpath", str(data), "--bind_ip", "127.0.0.1", "--port", str(port)]
    else:
        command = [str(executable), "-folder", str(data), "-listen", f"127.0.0.1:{port}"]
    with _running(command, {}, folder / "log", lambda: _listens(port)):
        yield f"mongodb://127.0.0.1:{port}/"


@contextmanager
def running_minio(folder: Path) -> Iterator[S3Server]:
    """Run MinIO."""
    port, keys = free_port(), ("fedn-access", "fedn-secret-of-the-tests")
    command = [str(build("minio")), "server", "--quiet", "--anonymous", "--address", f"127.0.0.1:{port}"]
    command += ["--console-address", f"127.0.0.1:{free_port()}", str(folder / "data")]
    environment = {"MINIO_ROOT_USER": keys[0], "MINIO_ROOT_PASSWORD": keys[1], "MINIO_BROWSER": "off"}
    with _running(command, environment, folder / "log", lambda: _answers_http(port)):
        yield S3Server(f"http://127.0.0.1:{port}", *keys)


@contextmanager
def running_versitygw(folder: Path) -> Iterator[S3Server]:
    """Run the Versity S3 gateway on a folder."""
    port, keys = free_port(), ("fedn-access", "fedn-secret-of-the-tests")
    (folder / "data").mkdir()
    command = [str(build("versitygw")), "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder / "data")]
    environment = {"ROOT_ACCESS_KEY": keys[0], "ROOT_SECRET_KEY": keys[1]}
    with _running(command, environment, folder / "log", lambda: _answers_http(port)):
        yield S3Server(f"http://127.0.0.1:{port}", *keys)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, is_ready: Callable[[], bool]
) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            not_outliving_this(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            process_group=0,
        )
    try:
        _await_ready(process, log, is_ready)
        yield
    finally:
        _stop(process)


def _await_ready(process: subprocess.Popen[bytes], log: Path, is_ready: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + READY_LIMIT_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > give_up_at:
            tail = log.read_text(errors="replace")[-2_000:]
            raise NotReady(f"{process.args} did not come up (exit status {process.poll()}):\n{tail}")
        time.sleep(0.05)  # nothing tells when a port begins to answer


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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
