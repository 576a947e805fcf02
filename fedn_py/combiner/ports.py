"""What a combiner needs of the network above it."""

from pathlib import Path
from typing import Protocol

from fedn_py.identity import Digest
from fedn_py.protocol.cell_progress import CellProgress
from fedn_py.protocol.messages import CommitteeFormed, FromCombiner, WordPassedOn
from fedn_py.transport.transfer import Bytes


class Upstream(Protocol):
    """Where objects come from and partial aggregates go: an object store, or the reducer in its place."""

    async def fetch(self, digest: Digest, into: Path) -> None:
        """Copy an object to a file, whole and checked; raises ObjectMissing, StoreUnavailable, PeerUnreachable."""
        ...

    async def store(self, source: Path | Bytes, digest: Digest) -> None:
        """Store a file, or bytes in memory that do not change meanwhile, as an object, durably, before it returns."""
        ...


class ReducerStream(Protocol):
    """Where the combiner's words to the reducer go; while the reducer is away they are dropped or kept."""

    def report(self, message: FromCombiner) -> None:
        """Send an answer; it is sent again after a reconnection until the next one takes its place."""
        ...

    def mention(self, progress: CellProgress) -> None:
        """Say how far the work is, unless more is known by the time that it is said."""
        ...

    def tell_committee(self, formed: CommitteeFormed) -> None:
        """Say who a masked cell's committee is; it is said again after a reconnection while its cell is the newest."""
        ...

    def pass_on(self, word: WordPassedOn) -> None:
        """Pass on what a client says; while the reducer is away it waits, with a number of others."""
        ...
