"""What a benchmark of rounds is asked to be, and whether this machine has room for it."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from fedn_py.bench.faults import ImpossibleBench
from fedn_py.bench.usage import available_memory_bytes
from fedn_py.protocol.masked.committee import FEWEST_IN_CELL, seats_needed
from fedn_py.protocol.masked.options import MaskedOptions, faults_of

Masking = Literal["none", "pet"]

WORDS: Mapping[Masking, str] = MappingProxyType({"none": "plain", "pet": "masked"})
"""What tables and curves call it."""

WARM_UP_ROUNDS = 1
LEAN_RECEIVING = 4
"""Updates that a combiner receives at once where models are too large for the disk to hold all of them twice."""

_RECEIVING = 64
_SPOOL_BYTES = 16 * 1024**3
_PROCESS_BYTES = 150_000_000
_TRANSFER_BYTES = 60_000_000
"""Buffers of one client's connection under load, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundBench:
    """What is to be timed.

    Attributes:
        params: float32 weights of the model.
        slots, replicas: of the committees of masked rounds; 0: by the size of each cell.
        rounds: that are counted; one more is done before them.
        client_processes: that the clients are spread over.
        tls: as in production; without it only to compare.
        lean: clients hold no model in memory and share one copy of the global model on disk.
        line_bytes_per_s: what the line of each client to its combiner carries, each way; 0: as much as loopback does.
    """

    clients: int = 10
    params: int = 250_000
    combiners: int = 1
    rounds: int = 5
    masking: Masking = "none"
    slots: int = 2
    replicas: int = 1
    client_processes: int = 2
    tls: bool = True
    lean: bool = False
    line_bytes_per_s: int = 0

    @property
    def model_bytes(self) -> int:
        """Bytes of the weights."""
        return 4 * self.params

    @property
    def crowds(self) -> int:
        """Processes that clients run in: never more than there are clients."""
        return min(self.client_processes, self.clients)

    @property
    def rounds_run(self) -> int:
        """All rounds, those that warm up too."""
        return self.rounds + WARM_UP_ROUNDS

    @property
    def disk_bytes(self) -> int:
        """The most that lies on disk at one time, about."""
        masked = 1 if self.masking == "pet" else 0
        # Of a client: two global models; lean, all share them, and the trained one is on disk instead of in memory.
        each = (1 if self.lean else 2) + masked
        receiving = LEAN_RECEIVING if self.lean else _RECEIVING
        spool = min(self.combiners * min(self.clients, receiving) * self.model_bytes, self.combiners * _SPOOL_BYTES)
        servers = self.rounds_run + 6 + 3 * self.combiners
        return self.model_bytes * (self.clients * each + servers) + spool

    @property
    def memory_bytes(self) -> int:
        """What all processes hold at one time, about."""
        each = min(self.model_bytes, _TRANSFER_BYTES) if self.lean else 2 * self.model_bytes
        servers = 3 * self.model_bytes * (1 + self.combiners)
        return self.clients * each + servers + _PROCESS_BYTES * (1 + self.combiners + self.crowds)


def check(bench: RoundBench, folder: Path) -> None:
    """Look whether a benchmark can be run, its state below an existing folder.

    Raises:
        ImpossibleBench: with everything that stands against it.
    """
    wrong = [*_faults(bench), *_shortages(bench, folder)]
    if wrong:
        raise ImpossibleBench(
            "; ".join(text for text, _ in wrong), remedy=" ".join(dict.fromkeys(remedy for _, remedy in wrong))
        )


def _faults(bench: RoundBench) -> Iterator[tuple[str, str]]:
    if bench.clients < bench.combiners:
        yield (
            f"{bench.combiners} combiners have only {bench.clients} clients",
            "Give each combiner a client at least.",
        )
    if bench.masking == "pet":
        yield from _masking_faults(bench)


def _masking_faults(bench: RoundBench) -> Iterator[tuple[str, str]]:
    wrong = list(faults_of(MaskedOptions(k=bench.slots, r=bench.replicas)))
    yield from ((text, "Take other --slots and --replicas.") for text in wrong)
    smallest_cell = bench.clients // bench.combiners
    needed = FEWEST_IN_CELL
    if bench.slots and bench.replicas and not wrong:
        needed = max(needed, seats_needed(bench.slots, bench.replicas))
    if smallest_cell < needed:
        cells = f"{bench.clients} clients over {bench.combiners} combiners are cells of {smallest_cell}"
        yield (
            f"{cells}, and these masked rounds need {needed} and more in each",
            "Add --clients, take fewer --combiners, or --masking none.",
        )


def _shortages(bench: RoundBench, folder: Path) -> Iterator[tuple[str, str]]:
    leaner = "" if bench.lean else " or add --lean"
    free = shutil.disk_usage(folder).free
    if bench.disk_bytes > free:
        yield (
            f"it takes {bench.disk_bytes / 1e9:.1f} GB of disk, and {folder} has {free / 1e9:.1f} GB free",
            f"Take fewer --clients or --params{leaner}; or --keep a folder on a larger disk.",
        )
    available = available_memory_bytes()
    if bench.memory_bytes > available:
        yield (
            f"it takes {bench.memory_bytes / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are to be had",
            f"Take fewer --clients or --params{leaner}.",
        )
