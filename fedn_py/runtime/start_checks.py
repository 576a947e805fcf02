"""What a process looks at when it starts: not what stops it, which is refused by name elsewhere, but what will.

Each check returns a sentence for whoever runs the process, with what to do, or nothing.
"""

import shutil
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from fedn_py.runtime.logging import logger

LEAST_FREE_BYTES = 2 * 1024**3
MOST_SKEW_S = 60.0

_log = logger("fedn_py.start")


def raised_file_limit(wanted: int) -> Iterator[str]:
    """Let this process open as many files as its hard limit lets it; say so where that is fewer than it may need."""
    try:
        import resource
    except ImportError:  # another system, with other limits
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        most = max(soft, wanted) if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft < wanted:
        yield (
            f"this process may open {soft} files and connections, and may need {wanted}: raise its limit "
            "(LimitNOFILE in a systemd unit, ulimit -Hn in a shell), or let it take fewer clients"
        )


def little_room(*folders: Path, least_bytes: int = LEAST_FREE_BYTES) -> Iterator[str]:
    """Say which of these folders has little room left on its disk."""
    for folder in dict.fromkeys(folders):
        free = shutil.disk_usage(folder).free
        if free < least_bytes:
            yield f"the disk under {folder} has {free / 1024**3:.1f} GiB left: free some, or give it a larger one"


def exposed(*files: Path | None) -> Iterator[str]:
    """Say which of these files, each with a secret in it, others on this host can read."""
    for file in files:
        if file is None or not file.exists():
            continue
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield f"{file} holds a secret and others on this host can read it (mode {mode:04o}): chmod 600 {file}"


def skewed(what: str, its_clock: datetime | None, *, now: datetime | None = None) -> Iterator[str]:
    """Say whether another clock differs so much that people and certificates will be misled."""
    if its_clock is None:
        return
    ahead_s = (its_clock - (now or datetime.now(UTC))).total_seconds()
    if abs(ahead_s) > MOST_SKEW_S:
        side = "ahead of" if ahead_s > 0 else "behind"
        yield f"the clock of {what} is {abs(ahead_s):.0f} s {side} this host's: set both by NTP"


def tell(warnings: Iterable[str]) -> tuple[str, ...]:
    """Log warnings, and return them for whoever else is told."""
    told = tuple(warnings)
    for warning in told:
        _log.warning(warning)
    return told
