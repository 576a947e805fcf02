"""What processes have used, as the kernel counts it: CPU seconds, memory, and the bytes that crossed loopback.

The kernel's own peak of a process (``VmHWM``) counts pages of files that it has mapped and read, which the kernel
takes back when it needs them. What a process holds for itself is its anonymous memory, of which there is no peak: it
is looked at many times a second.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_KIB = 1024
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process has used so far.

    Attributes:
        cpu_s: seconds of all its threads, in user code and in the kernel.
        peak_rss_bytes: the most memory it has held at one time since ``forget_peak``, or since it started where the
            system does not let us forget; mapped files that were read count.
        rss_bytes: what it holds now.
        anonymous_bytes: of that, what is not of files.
    """

    cpu_s: float
    peak_rss_bytes: int
    rss_bytes: int
    anonymous_bytes: int


def usage_of(pid: int) -> Usage:
    """Return what a living process has used; raises OSError for one that has ended."""
    # The name before it may hold anything, the last bracket ends it.
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    user_ticks, kernel_ticks = int(fields[11]), int(fields[12])
    memory = {key: kib * _KIB for key, kib in _status_kib(pid, ("VmHWM", "VmRSS", "RssAnon")).items()}
    cpu_s = (user_ticks + kernel_ticks) / _TICKS_A_SECOND
    return Usage(cpu_s, memory["VmHWM"], memory["VmRSS"], memory["RssAnon"])


def cpu_s(processes: Mapping[int, Usage]) -> float:
    """Return the CPU time of all of them."""
    return sum(usage.cpu_s for usage in processes.values())


def most_grown(before: Mapping[int, Usage], after: Mapping[int, Usage]) -> int:
    """Return the id of the process whose peak is furthest above what it held before."""
    return max(after, key=lambda pid: after[pid].peak_rss_bytes - before[pid].rss_bytes)


def forget_peak(pid: int) -> None:
    """Have the kernel count a process's peak memory from now on; only its owner may, and of some only root."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def loopback_bytes() -> int:
    """Return the bytes that this machine has sent to itself since it started, headers of TCP and IP included."""
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    return 0


def available_memory_bytes() -> int:
    """Return how much memory programs can still have without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * _KIB
    return 0


class MemoryWatch:
    """Looks at the anonymous memory of processes 20 times a second; a context manager.

    Args:
        processes: role and process id of those that are there now.
    """

    def __init__(self, processes: Callable[[], Iterable[tuple[str, int]]]) -> None:
        self._processes = processes
        self._peaks: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory watch", daemon=True)

    @property
    def peaks(self) -> Mapping[int, int]:
        """Process id to the most bytes that it was seen to hold."""
        return dict(self._peaks)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for _, pid in self._processes():
                with suppress(OSError):
                    held = _status_kib(pid, ("RssAnon",))["RssAnon"] * _KIB
                    self._peaks[pid] = max(self._peaks.get(pid, 0), held)
            if self._over.wait(_LOOK_EVERY_S):
                return


def _status_kib(pid: int, keys: tuple[str, ...]) -> dict[str, int]:
    found = dict.fromkeys(keys, 0)
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key in found:
            found[key] = int(value.split()[0])
    return found
