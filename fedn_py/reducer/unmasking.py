"""From closed masked cells to the next global model: opened in memory, added, decoded, stored.

Masked sums and sealed streams are read where the store has them, or copied to scratch files, one cell's at a time.
**An opened sum is never written anywhere**: a cell's is in memory until it is added, and so is the total until the
model is made.

Memory: 12 bytes a parameter (a cell's sums as int32, the total as int64), whatever the number of cells, and a few
MiB; of a single cell 4, as its sums are the total. A cell cannot be taken out of the total again, so a total holds
what one call of ``open_cells`` opened, and a model is made of exactly that: where other cells make the model, they are
opened again, which gives the same sums.
"""

import asyncio
import math
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fedn_py.aggregation.weighted_sum import TooLittleMemory
from fedn_py.errors import OwnFault
from fedn_py.identity import Digest
from fedn_py.masking.fixed_point import Encoding, Floats, Integers, OpenedTail, decoded_mean, decoded_metrics
from fedn_py.model.pieces import PIECE
from fedn_py.model.vector import apply_mean
from fedn_py.protocol.masked.options import GIVEN
from fedn_py.reducer.cell_opening import CellFiles, CellOutcome, CellToOpen, CellTrials, Sums
from fedn_py.reducer.merging import AtHand, all_or_none, folder_in, store_drawn
from fedn_py.runtime.model_files import mapped_model
from fedn_py.runtime.scratch import disk_faults
from fedn_py.store.ports import ObjectCorrupt, ObjectMissing, Objects, ObjectStat
from fedn_py.transport.completion import in_thread

__all__ = ["CellOutcome", "CellToOpen", "MaskedModel", "OpenedCells", "OtherCellsOpened", "masked_model", "open_cells"]

Result = TypeVar("Result")

_ROUNDED_AWAY = 1e-3
"""Of a share of the weight: what rounding under the masks may take from it or add to it."""


class OtherCellsOpened(OwnFault):
    """The total at hand is not that of the cells that a model is to be made of."""

    def __init__(self, opened: int, asked: int) -> None:
        super().__init__(
            f"the opened total is of {opened} cells, and not of the {asked} that the model is to be made of",
            remedy="Open exactly these cells again.",
        )


class OpenedCells:
    """What came of opening cells, and the total of those that passed.

    Attributes:
        outcomes: by ctx, of each cell that was asked for.

    Args:
        cells: how many are to be opened.
    """

    def __init__(self, encoding: Encoding, cells: int) -> None:
        self.encoding = encoding
        self.outcomes: dict[bytes, CellOutcome] = {}
        size = encoding.n_parameters
        self._total: Integers = np.empty(0, np.int32)
        if cells > 1:
            try:
                self._total = np.zeros(size, np.int64)
            except MemoryError as fault:
                raise TooLittleMemory(size * 8) from fault
        self._weight = 0
        self._clients = 0
        self._metrics = (0,) * len(encoding.metric_bounds)

    @property
    def passed(self) -> frozenset[bytes]:
        """Return the ctx of the cells that are in the total."""
        return frozenset(ctx for ctx, outcome in self.outcomes.items() if outcome.fault is None)

    @property
    def samples(self) -> int:
        """Return the sum of the weights, in samples."""
        return self._weight * self.encoding.weight_unit

    def add(self, sums: Sums, tail: OpenedTail, clients: int) -> None:
        """Add a cell of so many clients that passed all checks; the sums of a single cell are kept, not copied."""
        if len(self._total):
            np.add(self._total, sums, self._total)
        else:
            self._total = sums
        self._clients += clients
        self._weight += tail.weight
        self._metrics = tuple(one + other for one, other in zip(self._metrics, tail.metrics, strict=True))

    def mean(self) -> Iterator[Floats]:
        """Yield the weighted mean in model units, in pieces."""
        for start in range(0, len(self._total), PIECE):
            yield decoded_mean(self.encoding, self._total[start : start + PIECE], self._weight)

    def metrics(self, names: Sequence[str]) -> dict[str, float]:
        """Return the means of the metrics over those clients that gave them; without those that nobody gave.

        Args:
            names: of the plan's metrics, in order: each name is followed by its "has name".
        """
        means = self._decoded(names)
        bounds = dict(zip(names, self.encoding.metric_bounds, strict=True))
        shown = {}
        for name, mean in means.items():
            given = means.get(GIVEN + name, 0.0)
            if given > 0:
                # Both are rounded: where few gave it, their quotient may be a little beyond what a value can be.
                shown[name] = min(max(mean / given, -bounds[name]), bounds[name])
        return shown

    def givers(self, names: Sequence[str]) -> dict[str, int]:
        """Return how many clients gave each metric, at the least.

        They are not counted but weighed: all gave it where the whole weight is of those who did; otherwise they are as
        many as that weight takes, at ``weight_cap`` for each.
        """
        decoded = self._decoded(names)
        shares = {name: decoded.get(GIVEN + name, 0.0) for name in names if not name.startswith(GIVEN)}
        return {name: self._fewest(share) for name, share in shares.items() if share > 0}

    def _fewest(self, share: float) -> int:
        if share > 1 - _ROUNDED_AWAY:
            return self._clients
        return math.ceil((share - _ROUNDED_AWAY) * self._weight / self.encoding.weight_cap)

    def _decoded(self, names: Sequence[str]) -> dict[str, float]:
        return dict(zip(names, decoded_metrics(self.encoding, self._metrics, self._weight), strict=True))


@dataclass(frozen=True, slots=True)
class MaskedModel:
    """The next global model of a masked round.

    Attributes:
        samples: over all clients: the sum of their weights, which came out from under the masks.
        metrics: means over the clients that gave them, weighted like the updates.
        givers: how many clients gave each of them, at the least.
    """

    stat: ObjectStat
    samples: int
    metrics: Mapping[str, float]
    givers: Mapping[str, int] = field(default_factory=dict)


async def open_cells(
    objects: Objects, cells: Sequence[CellToOpen], encoding: Encoding, rsk: bytes, scratch: Path
) -> OpenedCells:
    """Open each of these cells and add up those that pass; safe to repeat.

    What is wrong with a cell is in its outcome; what stops here is what can be waited for, or mended.

    Args:
        rsk: the attempt's secret key.
        scratch: folder for the files at hand; needs room for one cell's masked sum and sealed streams.

    Raises:
        StoreUnavailable: of the store.
        DiskFull, DiskFailed: of the scratch folder.
        TooLittleMemory: for the sums.
    """
    opened = OpenedCells(encoding, len(cells))
    try:
        sums: Sums = np.empty(encoding.n_parameters, np.int32)
    except MemoryError as fault:
        raise TooLittleMemory(encoding.n_parameters * 4) from fault
    for cell in cells:
        async with folder_in(scratch, "opening masked sums") as folder:
            try:
                files, partial = await _fetched(objects, cell, folder)
                outcome, tail = await _checked(partial, in_thread(_tried, cell, encoding, rsk, files, sums))
            except (ObjectMissing, ObjectCorrupt) as fault:
                opened.outcomes[cell.ctx] = CellOutcome(fault)
                continue
        if tail is not None:
            await in_thread(opened.add, sums, tail, cell.n)
        opened.outcomes[cell.ctx] = outcome
    return opened


async def _fetched(objects: Objects, cell: CellToOpen, folder: Path) -> tuple[CellFiles, AtHand]:
    """Have a cell's masked sum and sealed streams in files; a stream that is gone or damaged is not among them.

    Returns:
        the files, and the masked sum, which is to be checked.
    """
    partial, sealed = AtHand(objects), AtHand(objects)
    path = folder / "partial"
    streams = {member: folder / f"stream-{number}" for number, member in enumerate(cell.streams)}

    async def stream(member: bytes) -> None:
        try:
            await sealed.have(cell.streams[member], streams[member])
        except (ObjectMissing, ObjectCorrupt):  # no fault of the member's: as if it had not come yet
            del streams[member]

    await all_or_none([partial.have(cell.partial, path), *map(stream, cell.streams)])
    return CellFiles(path, streams, sealed.is_whole), partial


async def _checked(partial: AtHand, opening: Coroutine[Any, Any, Result]) -> Result:
    """Open a cell while its masked sum is checked; raises ObjectCorrupt where that fails, whatever was opened."""
    checked, opened = asyncio.ensure_future(partial.check()), asyncio.ensure_future(opening)
    try:
        await checked
        return await opened
    finally:
        checked.cancel()
        opened.cancel()
        await asyncio.gather(checked, opened, return_exceptions=True)


def _tried(
    cell: CellToOpen, encoding: Encoding, rsk: bytes, files: CellFiles, sums: Sums
) -> tuple[CellOutcome, OpenedTail | None]:
    with disk_faults("opening masked sums"):
        return CellTrials(cell, encoding, rsk, files, sums).outcome()


async def masked_model(  # noqa: PLR0917 - what a round is made of, each of another type
    objects: Objects,
    base: Digest,
    opened: OpenedCells,
    ctxs: Sequence[bytes],
    encoding: Encoding,
    metric_names: Sequence[str],
    scratch: Path,
) -> MaskedModel:
    """Store (base + mean of the opened cells) as a model.

    Args:
        ctxs: the cells that the model is made of; exactly those that passed.
        metric_names: of the plan, in order.
        scratch: folder for the base model at hand.

    Raises:
        OtherCellsOpened: the total is of other cells.
        StoreUnavailable, ObjectMissing, ObjectCorrupt: of the store.
        DiskFull, DiskFailed: of the scratch folder.
        WrongLength, NotFinite: the mean does not make a model.
    """
    if not ctxs or set(ctxs) != opened.passed or encoding != opened.encoding:
        raise OtherCellsOpened(len(opened.passed), len(set(ctxs)))
    async with folder_in(scratch, "making a model of masked sums") as folder:
        path, at_hand = folder / "base", AtHand(objects)
        await at_hand.have(base, path)
        stat = await store_drawn(objects, lambda: _updated(path, opened), at_hand)
    return MaskedModel(stat, opened.samples, opened.metrics(metric_names), opened.givers(metric_names))


def _updated(base: Path, opened: OpenedCells) -> Iterator[bytes]:
    with mapped_model(base) as (model, layout):
        yield from apply_mean(model, layout, opened.mean())
