"""Waiting for the object store, for the reducer in its place, or for room here: a round waits and is not given up."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from fedn_py.combiner.ports import Upstream
from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.runtime.logging import logger
from fedn_py.runtime.waiting import wait_out
from fedn_py.transport.transfer import Bytes

_PASSES = frozenset(
    {
        "StoreUnavailable",
        "StoreFull",
        "StoreMisconfigured",
        "DiskFull",
        "NoFilesLeft",
        "SpoolFull",
        "PeerUnreachable",
    }
)
"""Here or at the reducer, whose words about its own store come under the name that they had there."""

Outcome = TypeVar("Outcome")

_BASE_S = 0.2
_LONGEST_S = 5.0
_MOST_S = 3_600.0
"""Behind this a cell fails by name; it bounds what is tried for rounds that nobody waits for any more."""

_log = logger("fedn_py.combiner")


class PatientUpstream:
    """Another upstream, asked again while its store is away or full."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def fetch(self, digest: Digest, into: Path) -> None:
        """Copy an object to a file, whole and checked."""
        await until_done(lambda: self._upstream.fetch(digest, into))

    async def store(self, source: Path | Bytes, digest: Digest) -> None:
        """Store a file, or bytes in memory, as an object."""
        await until_done(lambda: self._upstream.store(source, digest))


async def until_done(work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Do ``work``, again and again while what it needs is away, full, or used up; it must be safe to repeat."""
    waited = False

    def waiting(fault: FednError, tries: int) -> None:
        nonlocal waited
        waited = True
        if tries == 1:
            _log.error("the round waits", fault=fault.code, reason=fault.message, what_to_do=fault.remedy)

    outcome = await wait_out(
        work, lambda fault: fault.code in _PASSES, waiting, base_s=_BASE_S, longest_s=_LONGEST_S, most_s=_MOST_S
    )
    if waited:
        _log.info("the round goes on")
    return outcome
