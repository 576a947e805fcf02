"""Files for tests, built byte for byte: models, sums, and compute packages, sound and hostile."""

import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import numpy as np

MANIFEST = b"""
name: echo
version: "1"
entry_points:
  startup: {command: python model.py startup}
  train: {command: python model.py train}
  validate: {command: python model.py validate}
"""

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}


def a_model(tensors: Mapping[str, tuple[str, Sequence[float]]] | None = None) -> bytes:
    """Return a safetensors file of one-dimensional tensors: name to (type, values)."""
    entries, position, contents = {}, 0, b""
    for name, (dtype, values) in (tensors or {"w": ("F32", (1.0, 2.0, 3.0))}).items():
        content = np.array(values, DTYPES[dtype]).tobytes()
        entries[name] = {
            "dtype": dtype,
            "shape": [len(values)],
            "data_offsets": [position, position + len(content)],
        }
        position, contents = position + len(content), contents + content
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + contents


def a_sum(values: Sequence[float]) -> bytes:
    """Return a weighted sum of updates as a combiner stores it."""
    return np.array(values, "<f8").tobytes()


def a_package(files: Mapping[str, bytes] | None = None, *members: tarfile.TarInfo) -> bytes:
    """Return a compute package; ``members`` are put behind its files as they are."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in (files or {"fedn.yaml": MANIFEST, "model.py": b"print('hello')"}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return gzip.compress(plain.getvalue(), mtime=0)


async def chunked(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Stream bytes in small pieces."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


def names_in(folder: Path) -> list[str]:
    """Return the names of a folder's entries."""
    return sorted(path.name for path in folder.iterdir())
