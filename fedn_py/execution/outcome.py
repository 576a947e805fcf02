"""Checking what an entry point wrote before anything else believes it.

Output files are opened without following links and checked whole: a model must have the tensors of the one it was
trained from, every value finite; metrics must be a small JSON object of finite numbers. Every fault carries the log.
"""

import json
import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fedn_py.aggregation.admission import MAX_SAMPLES
from fedn_py.aggregation.metrics import InvalidMetrics, check_metrics
from fedn_py.errors import PeerFault
from fedn_py.execution.entry_points import EntryPointFault
from fedn_py.model.dtypes import all_finite, floats_of
from fedn_py.model.layout import ModelLayout, head_size, parse_layout
from fedn_py.model.matching import match_arrays
from fedn_py.model.pieces import PIECE
from fedn_py.model.vector import NotFinite, difference

MAX_RESULTS_BYTES = 1_048_576
_SAMPLES = "num_samples"


class EmptyOutput(EntryPointFault):
    """An entry point ended well and wrote nothing where its output belongs."""


class MalformedOutput(EntryPointFault):
    """An entry point wrote something else than what it was asked for."""


class BaseModelChanged(EntryPointFault):
    """An entry point wrote into the model it was given to read."""


@dataclass(frozen=True, slots=True)
class Results:
    """What an entry point measured.

    Attributes:
        samples: over how many samples, at least 1.
        metrics: finite numbers by name.
    """

    samples: int
    metrics: dict[str, float]


def check_trained_model(model: Path, base: Path, *, log: str = "") -> ModelLayout:
    """Check a model that ``train`` wrote against the one it was given; return its layout.

    Raises:
        EmptyOutput, MalformedOutput: with the log.
    """
    with _opened("train", model, log) as new, _opened("train", base, log) as old:
        try:
            layout = _layout(new)
            for _ in difference(new, old, layout, _layout(old)):
                pass  # drawing the pieces is what checks the values
        except PeerFault as fault:
            raise _malformed("train", fault, log) from fault
    return layout


def check_trained_tensors(tensors: Mapping[str, npt.NDArray[Any]], base: Path) -> None:
    """Check a model that a participant returned, in memory, against the one it was given.

    Raises:
        MalformedOutput: without a log.
    """
    with _opened("train", base, "") as old:
        try:
            layout = _layout(old)
            match_arrays(tensors, layout)
            for tensor in layout.float_tensors:
                values = tensors[tensor.name].reshape(-1)
                for start in range(0, len(values), PIECE):
                    piece = values[start : start + PIECE]
                    if not all_finite(piece if piece.dtype.kind == "f" else floats_of(piece)):
                        raise NotFinite(f"tensor {tensor.name!r}")
        except PeerFault as fault:
            raise _malformed("train", fault, "") from fault


def check_seed_model(model: Path, *, log: str = "") -> ModelLayout:
    """Check a model that ``startup`` wrote: sound, with something to train, every value finite; return its layout.

    Raises:
        EmptyOutput, MalformedOutput: with the log.
    """
    with _opened("startup", model, log) as new:
        try:
            layout = _layout(new)
            layout.check_trainable()
            for _ in difference(new, new, layout, layout):  # anything but a finite number differs from itself
                pass
        except PeerFault as fault:
            raise _malformed("startup", fault, log) from fault
    return layout


def read_results(entry_point: str, file: Path, *, log: str = "") -> Results:
    """Read the JSON file that ``train`` and ``validate`` write.

    Raises:
        EmptyOutput, MalformedOutput: with the log.
    """
    with _opened(entry_point, file, log) as content:
        if len(content) > MAX_RESULTS_BYTES:
            raise _wrong(entry_point, file, f"has {len(content):,} bytes, more than {MAX_RESULTS_BYTES:,}", log)
        text = content[:]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise _wrong(entry_point, file, "is no JSON", log) from fault
    if not isinstance(found, dict):
        raise _wrong(entry_point, file, "is no JSON object", log)
    return Results(_samples(entry_point, file, found, log), _metrics(entry_point, file, found, log))


def _samples(entry_point: str, file: Path, found: dict[str, object], log: str) -> int:
    samples = found.get(_SAMPLES)
    if type(samples) is not int or not 1 <= samples <= MAX_SAMPLES:
        why = f"has num_samples {str(samples)[:40]!r}, which must be a whole number from 1 to {MAX_SAMPLES:,}"
        raise _wrong(entry_point, file, why, log)
    return samples


def _metrics(entry_point: str, file: Path, found: dict[str, object], log: str) -> dict[str, float]:
    try:
        return check_metrics({name: value for name, value in found.items() if name != _SAMPLES})
    except InvalidMetrics as fault:
        raise _wrong(entry_point, file, f"holds metrics that cannot be averaged: {fault.message}", log) from fault


@contextmanager
def _opened(entry_point: str, file: Path, log: str) -> Iterator[mmap.mmap]:
    """Map a plain file that has something in it; neither a link nor a pipe nor a device is followed or waited for."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as fault:
        raise _empty(entry_point, file, "was not written", log) from fault
    except OSError as fault:
        raise _wrong(entry_point, file, f"cannot be opened as a plain file ({fault.strerror})", log) from fault
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _wrong(entry_point, file, "is no plain file", log)
        if status.st_size == 0:
            raise _empty(entry_point, file, "is empty", log)
        content = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    try:
        yield content
    finally:
        content.close()


def _layout(content: mmap.mmap) -> ModelLayout:
    return parse_layout(content[: head_size(content[:8])], len(content))


def _empty(entry_point: str, file: Path, why: str, log: str) -> EmptyOutput:
    return EmptyOutput(
        entry_point,
        f"ended well, but its output {file.name} {why}",
        log=log,
        remedy="It must write to the paths that it gets as its arguments.",
    )


def _wrong(entry_point: str, file: Path, why: str, log: str) -> MalformedOutput:
    return MalformedOutput(
        entry_point,
        f"wrote a {file.name} that {why}",
        log=log,
        remedy="Write it with save_model and save_metrics of fedn_py.package.",
    )


def _malformed(entry_point: str, fault: PeerFault, log: str) -> MalformedOutput:
    return MalformedOutput(
        entry_point, f"wrote a model that cannot be used: {fault.message}", log=log, remedy=fault.remedy
    )
