"""How fast masking is on this machine: one thread, CPU time, medians.

Rows, each in ns per weight and in MB/s of float32 updates:

- ``mask``: a client encodes, rounds and masks its update for k = 2 slots, out of one vector into another;
- ``expand_add``: a member expands one client's mask and adds it to its slot's sum;
- ``aggregate``: a combiner adds one masked update to its cell's sum;
- ``unmask``: the reducer takes the slots' sums off the cell's sum and checks every word;
- ``decode``: the reducer makes model units of integers.
"""

import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from fedn_py.masking.fixed_point import Encoder, Encoding, Floats, Reals, decoded_mean
from fedn_py.masking.keystream import CHUNK_WORDS, Words, chunk_sizes
from fedn_py.masking.pet import CellOpening, Masker, MaskSum, add_masked

Row = dict[str, float]

_SLOTS = 2
_CLIENTS = 4
_SAMPLES = 700
_WEIGHT_CAP = 1_000
_PIECE = 8 * CHUNK_WORDS  # 1 MiB, as updates come over the network


def measure(params: int, repeats: int = 5) -> dict[str, Row | float]:
    """Return the rows for an update of ``params`` weights, with the machine's memory bandwidth beside them.

    Returns:
        row name to {"ns_per_weight", "mb_per_s"}; "memory_mb_per_s", bytes read plus bytes written by a plain copy;
        "mask_peak_memory_ratio", what masking holds at most beside the update, in sizes of the masked update.
    """
    encoding = Encoding(params, 1.0, _CLIENTS, _WEIGHT_CAP)
    update = np.random.default_rng(0).normal(0, 0.1, params).astype(np.float32)
    masked = np.zeros(encoding.n_words, np.uint32)
    total = np.zeros(encoding.n_words, np.uint32)
    mean = np.empty(params, np.float64)
    slot_sums = [np.zeros(encoding.n_words, np.uint32) for _ in range(_SLOTS)]
    keys = [bytes([slot]) * 32 for slot in range(_SLOTS)]

    rows: dict[str, Row | float] = {
        "mask": _row(params, repeats, lambda: mask(encoding, update, keys, masked)),
        "expand_add": _row(params * _CLIENTS, repeats, lambda: _sum_masks([keys[0]] * _CLIENTS, slot_sums[0])),
    }
    for slot, key in enumerate(keys):
        _sum_masks([key] * _CLIENTS, slot_sums[slot])
    rows["aggregate"] = _row(params, repeats, lambda: _aggregate(total, masked), warm=False)
    total[:] = masked * np.uint32(_CLIENTS)
    rows["unmask"] = _row(params, repeats, lambda: _unmask(encoding, total, slot_sums))
    sums = np.ones(CHUNK_WORDS, np.int64)
    rows["decode"] = _row(params, repeats, lambda: _decode(encoding, sums, mean))
    rows["memory_mb_per_s"] = _memory_bandwidth(repeats)
    rows["mask_peak_memory_ratio"] = _peak_of_masking(encoding, update, keys) / masked.nbytes
    return rows


def mask(encoding: Encoding, update: Reals, keys: list[bytes], out: Words) -> None:
    """Mask a whole update, chunk by chunk."""
    masker = Masker(Encoder(encoding, _SAMPLES, (), bytes(32)), keys)
    start = 0
    for number, size in enumerate(chunk_sizes(encoding.n_words)):
        masker.chunk(number, update[start : start + size], out[start : start + size])
        start += size


def _sum_masks(keys: list[bytes], out: Words) -> None:
    mask_sum, start = MaskSum(keys), 0
    for number, size in enumerate(chunk_sizes(len(out))):
        mask_sum.chunk(number, out[start : start + size])
        start += size


def _aggregate(total: Words, masked: Words) -> None:
    for start in range(0, len(total), _PIECE):
        add_masked(total[start : start + _PIECE], masked[start : start + _PIECE])


def _unmask(encoding: Encoding, total: Words, slot_sums: list[Words]) -> None:
    opening, start = CellOpening(encoding, _CLIENTS), 0
    for number, size in enumerate(chunk_sizes(len(total))):
        end = start + size
        opening.chunk(number, total[start:end], [slot_sum[start:end] for slot_sum in slot_sums])
        start = end
    opening.tail()


def _decode(encoding: Encoding, sums: np.ndarray[tuple[int], np.dtype[np.int64]], mean: Floats) -> None:
    for start in range(0, len(mean), CHUNK_WORDS):
        out = mean[start : start + CHUNK_WORDS]
        decoded_mean(encoding, sums[: len(out)], _CLIENTS * _SAMPLES, out)


def _row(weights: int, repeats: int, work: Callable[[], None], *, warm: bool = True) -> Row:
    if warm:
        work()  # fresh memory is handed out page by page, which is not what is measured
    ns = statistics.median(_cpu_ns(work) for _ in range(repeats)) / weights
    return {"ns_per_weight": round(ns, 3), "mb_per_s": round(4_000 / ns, 1)}


def _cpu_ns(work: Callable[[], None]) -> int:
    start = time.process_time_ns()  # of all threads: nothing hides in another one
    work()
    return max(1, time.process_time_ns() - start)


def _memory_bandwidth(repeats: int) -> float:
    source = np.ones(2**25, np.uint32)
    target = np.zeros_like(source)
    ns = statistics.median(_cpu_ns(lambda: np.copyto(target, source)) for _ in range(repeats))
    return round(2_000 * source.nbytes / ns, 1)


def _peak_of_masking(encoding: Encoding, update: Reals, keys: list[bytes]) -> float:
    tracemalloc.start()
    try:
        mask(encoding, update, keys, np.empty(encoding.n_words, np.uint32))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
