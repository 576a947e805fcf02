"""Clients that hold no model in memory, and among them one copy of the global model on disk: for the largest models.

They download, train and send as all clients do. But the trained model is written piece by piece, by one client after
the other, so that updates come no faster than a combiner adds them; and what a client has downloaded, and found to be
what its digest says, gives way to a hard link to the copy that all share.
"""

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from fedn_py.bench.constants import constant_of, samples_of
from fedn_py.client.ports import Fetch, Learned, LearningTask
from fedn_py.transport.completion import in_thread

_PIECE_WEIGHTS = 1024 * 1024


class LeanLearner:
    """Trains by adding a constant to a file of float32 weights; implements ``Learner``.

    Args:
        turn: of this process, to ask for the turn of all processes.
        shared: folder of the global models that all clients link to.
    """

    def __init__(self, number: int, clients: int, turn: asyncio.Semaphore, shared: Path) -> None:
        self._constant, self._samples = np.float32(constant_of(number, clients)), samples_of(number, clients)
        self._turn, self._shared = turn, shared

    async def train(self, base: Path, out_model: Path, task: LearningTask, fetch: Fetch) -> Learned:  # noqa: ARG002
        """Add the constant to every weight."""
        await in_thread(share, base, self._shared)
        async with self._turn:
            await in_thread(self._train_alone, base, out_model)
        return Learned(self._samples, {})

    def _train_alone(self, base: Path, out_model: Path) -> None:
        with self._shared.with_name(f"{self._shared.name}.turn").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            add_to_all(base, out_model, self._constant)

    async def validate(self, model: Path, task: LearningTask, fetch: Fetch) -> Learned:  # noqa: ARG002
        """Measure nothing."""
        return Learned(self._samples, {})

    async def close(self) -> None:
        """Nothing runs on."""


def share(model: Path, shared: Path) -> None:
    """Make of a model's file a link to the shared copy, or the copy of it where there is none."""
    copy = shared / model.name
    if copy.exists() and copy.samefile(model):
        return
    try:
        os.link(model, copy)
    except FileExistsError:
        link = model.with_name(f".{model.name}.link")
        with suppress(FileNotFoundError):  # a newer model has come for another client: this one keeps its own copy
            os.link(copy, link)
            link.replace(model)
        return
    for older in set(shared.iterdir()) - {copy}:
        older.unlink(missing_ok=True)


def add_to_all(base: Path, out_model: Path, constant: np.float32) -> None:
    """Write a model of float32 tensors anew, with a constant added to every weight."""
    with base.open("rb") as source, out_model.open("wb") as target:
        size = source.read(8)  # of the header, which says nothing of the values
        target.write(size + source.read(int.from_bytes(size, "little")))
        while (piece := np.fromfile(source, "<f4", _PIECE_WEIGHTS)).size:
            piece += constant
            piece.tofile(target)
