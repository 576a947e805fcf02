"""What processes have used, as the kernel counts it: CPU seconds and peak memory, and the bytes that crossed loopback."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process has used so far.

    Attributes:
        cpu_s: seconds of all its threads, in user code and in the kernel.
        peak_rss_bytes: the most memory it has held at one time; mapped files that were read count.
    """

    cpu_s: float
    peak_rss_bytes: int


def usage_of(pid: int) -> Usage:
    """Return what a living process has used; raises OSError for one that has ended."""
    # The name before it may hold anything, the last bracket ends it.
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    user_ticks, kernel_ticks = int(fields[11]), int(fields[12])
    peak_kib = _status_kib(pid, "VmHWM")
    return Usage((user_ticks + kernel_ticks) / _TICKS_A_SECOND, peak_kib * _KIB)


def loopback_bytes() -> int:
    """Return the bytes that this machine has sent to itself since it started, headers of TCP and IP included."""
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    return 0


def _status_kib(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    return 0
