"""Clients that add a constant, another one each, chosen so that the right global model is known to the last bit.

The seed model is random, so that nothing on the way can be left out, compressed or taken for something seen before.
With N clients, client i of them adds ``(1 + 2 i - (N - 1)) * STEP`` to each weight, and has ``1 + min(i, N-1-i) % 3``
samples. Weights are the same at both ends and the constants lie evenly around ``STEP``, so the weighted mean of all N
updates is exactly ``STEP``: each round moves every weight by it. Leave one client out, or average the combiners as
equals where they are not, and it does not.

All values are whole numbers of 2**-20 below 16: float32 holds them, and everything on the way adds them, exactly.
Masked words do too, where the encoding's scale is a power of two; ``exact_terms`` chooses it so.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from fedn_py.client import Participant
from fedn_py.client.participant import Model, ParticipantTask, Trained
from fedn_py.masking.fixed_point import Encoding
from fedn_py.package import save_model
from fedn_py.protocol.masked.options import MaskedOptions

STEP = 2.0**-10
_GRID = 2.0**-20
_HALF_RANGE = 2**20
_WEIGHT_CAP = 4
_TENSOR_WEIGHTS = 4_000_000
"""A large model has several tensors, as real ones do."""


def constant_of(number: int, clients: int) -> float:
    """Return what client ``number`` (from 0) of so many adds to each weight."""
    return (1 + 2 * number - (clients - 1)) * STEP


def samples_of(number: int, clients: int) -> int:
    """Return how many samples it says it has: 1, 2 or 3."""
    return 1 + min(number, clients - 1 - number) % 3


class AddsConstant(Participant):
    """Trains by adding a constant."""

    def __init__(self, number: int, clients: int) -> None:
        self._constant, self._samples = np.float32(constant_of(number, clients)), samples_of(number, clients)

    def train(self, model: Model, task: ParticipantTask) -> Trained:  # noqa: ARG002 - it has no parameters
        """Add the constant to every weight."""
        for values in model.values():
            np.add(values, self._constant, out=values)
        return model, self._samples, {}


def write_seed(file: Path, params: int, seed: int = 0) -> None:
    """Write a random seed model of so many float32 weights."""
    save_model(file, dict(_tensors(params, np.random.default_rng(seed))))


def _tensors(params: int, random: np.random.Generator) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    for number, start in enumerate(range(0, params, _TENSOR_WEIGHTS)):
        count = min(_TENSOR_WEIGHTS, params - start)
        whole = random.integers(-_HALF_RANGE, _HALF_RANGE, count, dtype=np.int32)
        yield f"layer-{number:04d}", whole.astype(np.float32) * np.float32(_GRID)


def largest_error(seed: Path, final: Path, rounds: int) -> float:
    """Return how far a weight of the final model is from what it must be after so many rounds: 0.0 where all are.

    Infinite where the model has other tensors, or values that are no numbers. One tensor at a time is in memory.
    """
    moved = np.float32(rounds * STEP)
    with safe_open(seed, framework="numpy") as before, safe_open(final, framework="numpy") as after:
        names = list(before.keys())
        if set(names) != set(after.keys()):
            return math.inf
        return max(_error(before.get_tensor(name) + moved, after.get_tensor(name)) for name in names)


def _error(right: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> float:
    if (found.shape, found.dtype) != (right.shape, right.dtype):
        return math.inf
    error = float(np.abs(found - right).max())
    return error if math.isfinite(error) else math.inf


def exact_terms(clients: int, slots: int = 0, replicas: int = 0) -> MaskedOptions:
    """Return terms of masked rounds under which rounding takes nothing away: a scale that is a power of two.

    Args:
        slots, replicas: of each committee; 0: by the size of its cell.
    """
    n_max = max(clients, 3)
    largest = Encoding(1, 1.0, n_max, _WEIGHT_CAP).largest
    reach = constant_of(clients - 1, clients) + STEP
    bits = math.floor(math.log2(largest / reach))
    return MaskedOptions(clip=largest / 2.0**bits, n_max=n_max, weight_cap=_WEIGHT_CAP, k=slots, r=replicas)
