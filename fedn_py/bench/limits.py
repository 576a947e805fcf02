"""What this machine can do at best, measured by parts of its own: what a round's time is to be compared with.

Two processes on loopback, as two of the network's are; gRPC with the options that ours uses, in chunks of the size that
ours sends, without a line of ours between socket and socket.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedn_py.bench.echo import DOWN, UP, EchoPlan, open_echo_channel
from fedn_py.execution.processes import not_outliving_this
from fedn_py.transport.certificates import issue_server_certificate, make_authority
from fedn_py.transport.chunks import CHUNK_BYTES

_MIB = 1024 * 1024
_CONNECTIONS = 4
"""At once, with one stream each: with fewer the two processes wait for each other, with more none goes faster."""

Limits = dict[str, float]


def measure_limits(megabytes: int = 256, repeats: int = 3) -> Limits:
    """Return the machine's limits; takes some seconds.

    Args:
        megabytes: MiB that each transfer moves.
        repeats: of each; medians are returned.

    Returns:
        ``memory_mb_per_s`` (bytes read plus bytes written by a plain copy), ``sha256_mb_per_s``,
        ``blake2b_mb_per_s``, ``tcp_mb_per_s``, ``fsync_ms``; ``grpc_up_mb_per_s``, ``grpc_down_mb_per_s`` (TLS) and
        ``grpc_plain_up_mb_per_s``, ``grpc_plain_down_mb_per_s``. A MB is 10**6 bytes.
    """

    def median(measure: Callable[[], float]) -> float:
        return round(statistics.median(measure() for _ in range(repeats)), 1)

    limits = {
        "memory_mb_per_s": median(_memory),
        "sha256_mb_per_s": median(lambda: _hash("sha256", megabytes)),
        "blake2b_mb_per_s": median(lambda: _hash("blake2b", megabytes)),
        "tcp_mb_per_s": median(lambda: _tcp(megabytes)),
        "fsync_ms": round(_fsync_ms(), 3),
    }
    for name, tls in (("grpc", True), ("grpc_plain", False)):
        with _echo(tls=tls) as plan:
            up, down = zip(*(asyncio.run(_transfers(plan, megabytes)) for _ in range(repeats)), strict=True)
        limits[f"{name}_up_mb_per_s"] = round(statistics.median(up), 1)
        limits[f"{name}_down_mb_per_s"] = round(statistics.median(down), 1)
    return limits


def better_of(before: Limits, after: Limits) -> Limits:
    """Return the better of two measurements of each limit: a limit is what the machine can do at best."""
    return {name: (min if name.endswith("_ms") else max)(value, after[name]) for name, value in before.items()}


def transport_limit_s(limits: Limits, model_bytes: int, clients: int, *, tls: bool) -> float:
    """Return the seconds that gRPC alone needs to bring every client the model, and every update back."""
    name = "grpc" if tls else "grpc_plain"
    megabytes = clients * model_bytes / 1e6
    return megabytes / limits[f"{name}_down_mb_per_s"] + megabytes / limits[f"{name}_up_mb_per_s"]


def _memory() -> float:
    source = np.ones(64 * _MIB, np.uint8)
    target = np.zeros_like(source)
    return 2 * source.nbytes / 1e6 / _seconds(lambda: np.copyto(target, source))


def _hash(name: str, megabytes: int) -> float:
    block = os.urandom(_MIB)

    def work() -> None:
        state = hashlib.new(name)
        for _ in range(megabytes):
            state.update(block)

    return megabytes * _MIB / 1e6 / _seconds(work)


def _fsync_ms(times: int = 50) -> float:
    """Return the median time that the disk takes to keep 4 KiB, where temporary files are."""
    taken = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(times):
            file.write(bytes(4096))
            taken.append(_seconds(lambda: os.fsync(file.fileno())))
    return 1_000 * statistics.median(taken)


def _tcp(megabytes: int) -> float:
    """Move bytes between two threads, which the kernel copies without the interpreter's lock."""
    block, size = bytes(_MIB), megabytes * _MIB
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def send() -> None:
            with socket.create_connection(listening.getsockname()) as peer:
                for _ in range(megabytes):
                    peer.sendall(block)

        thread = threading.Thread(target=send)
        thread.start()
        connection, _ = listening.accept()

        def receive() -> None:
            buffer, left = bytearray(_MIB), size
            while left:
                left -= connection.recv_into(buffer)

        with connection:
            seconds = _seconds(receive)
        thread.join()
    return size / 1e6 / seconds


@contextlib.contextmanager
def _echo(*, tls: bool) -> Iterator[EchoPlan]:
    """Run the other process."""
    with tempfile.TemporaryDirectory() as folder:
        authority = make_authority("fedn_py bench")
        certificate = issue_server_certificate(authority, "echo", ("localhost", "127.0.0.1"))
        plan = EchoPlan(
            free_ports(1)[0], tls, authority.certificate_pem, certificate.certificate_pem, certificate.key_pem
        )
        file = Path(folder) / "echo.json"
        plan.write(file)
        command = not_outliving_this([sys.executable, "-m", "fedn_py.bench.echo", str(file)])
        # Ctrl-C is for this process, which ends that one.
        process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own program
        try:
            yield plan
        finally:
            process.kill()
            process.wait()


async def _transfers(plan: EchoPlan, megabytes: int) -> tuple[float, float]:
    """Return MB/s up and down."""
    chunks = megabytes * _MIB // CHUNK_BYTES // _CONNECTIONS
    size = chunks * CHUNK_BYTES * _CONNECTIONS / 1e6
    block = os.urandom(CHUNK_BYTES)

    async def send(channel: Any) -> None:
        call = channel.stream_unary(UP)()
        for _ in range(chunks):
            await call.write(block)
        await call.done_writing()
        await call

    async def receive(channel: Any) -> None:
        async for _ in channel.unary_stream(DOWN)(str(chunks).encode()):
            pass

    async with contextlib.AsyncExitStack() as opened:
        # Any: bytes go as they are, without the serializers that the stubs ask for.
        channels: list[Any] = [await opened.enter_async_context(open_echo_channel(plan)) for _ in range(_CONNECTIONS)]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        rates = []
        for transfer in (send, receive):
            began = time.perf_counter()
            await asyncio.gather(*(transfer(channel) for channel in channels))
            rates.append(size / (time.perf_counter() - began))
    return rates[0], rates[1]


def free_ports(number: int) -> list[int]:
    """Return so many ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(number)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
