"""The element types of a model file, and the one way between float tensors and float64.

Rules kept here:

- Every read but ``singles`` returns a copy, never a view: a memory-mapped file can be closed whatever else is going on.
- Every write rounds once, from float64 to the nearest value of the tensor's own type, ties to even. BF16 is no
  numpy type; it is the upper half of a float32, read and written through integers.
"""

import math
import mmap
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Buffer = bytes | bytearray | memoryview | mmap.mmap
"""Bytes that are there all at once without being copied; a memory-mapped file, mostly."""

Floats = npt.NDArray[np.float64]

SIZES: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 1,
        "U8": 1,
        "I8": 1,
        "U16": 2,
        "I16": 2,
        "F16": 2,
        "BF16": 2,
        "U32": 4,
        "I32": 4,
        "F32": 4,
        "U64": 8,
        "I64": 8,
        "F64": 8,
    }
)
"""Bytes of one element, by the type's name in a safetensors header; other types are not supported."""

FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
"""The types that are averaged."""

_DTYPE_OF_KIND: Mapping[str, str] = MappingProxyType(
    {
        "bool": "BOOL",
        "uint8": "U8",
        "int8": "I8",
        "uint16": "U16",
        "int16": "I16",
        "float16": "F16",
        "bfloat16": "BF16",
        "uint32": "U32",
        "int32": "I32",
        "float32": "F32",
        "uint64": "U64",
        "int64": "I64",
        "float64": "F64",
    }
)

_STORED: Mapping[str, str] = MappingProxyType({"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"})
_INTEGERS: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "<u1",
        "U8": "<u1",
        "I8": "<i1",
        "U16": "<u2",
        "I16": "<i2",
        "U32": "<u4",
        "I32": "<i4",
        "U64": "<u8",
        "I64": "<i8",
    }
)
_BF16_EXPONENT = 0x7F80


def dtype_of(array: npt.NDArray[Any]) -> str | None:
    """Return the safetensors name of an array's element type, None for one that a model cannot hold."""
    return _DTYPE_OF_KIND.get(array.dtype.name)


def floats_of(array: npt.NDArray[Any]) -> Floats:
    """Copy an array of a float type, bfloat16 included, into float64."""
    with np.errstate(invalid="ignore"):
        return array.astype(np.float64)


def all_finite(values: npt.NDArray[np.floating]) -> bool:
    """Say whether no value is NaN or infinite, in less than half the time that looking at each takes."""
    if not len(values):
        return True
    # A NaN is the minimum of whatever holds it.
    with np.errstate(invalid="ignore"):
        return math.isfinite(float(np.minimum.reduce(values))) and math.isfinite(float(np.maximum.reduce(values)))


def largest_magnitude(values: npt.NDArray[np.floating]) -> float:
    """Return the largest magnitude of finite values, 0 where there are none."""
    if not len(values):
        return 0.0
    return max(-float(np.minimum.reduce(values)), float(np.maximum.reduce(values)), 0.0)


def singles(buffer: Buffer, offset: int, count: int) -> npt.NDArray[np.float32]:
    """Return ``count`` float32 from byte ``offset``, **not copied**: a map cannot be closed while somebody has them."""
    return np.frombuffer(buffer, dtype="<f4", count=count, offset=offset)


def read_floats(buffer: Buffer, dtype: str, offset: int, count: int) -> Floats:
    """Copy ``count`` elements of a float type, from byte ``offset``, into float64; exact for every type."""
    stored = np.frombuffer(buffer, dtype=_STORED[dtype], count=count, offset=offset)
    if dtype == "BF16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # a signalling NaN; whoever reads checks for NaN
        return stored.astype(np.float64)


def read_numbers(buffer: Buffer, dtype: str, offset: int, count: int) -> Floats:
    """Copy ``count`` elements of any type into float64; integers beyond 2**53 become the nearest one."""
    if dtype in FLOATS:
        return read_floats(buffer, dtype, offset, count)
    return np.frombuffer(buffer, dtype=_INTEGERS[dtype], count=count, offset=offset).astype(np.float64)


def round_floats(values: Floats, dtype: str) -> bytes | None:
    """Round float64 values to a float type and return its little-endian bytes.

    Returns:
        None where a value is NaN, infinite or too large for the type.
    """
    if dtype == "BF16":
        upper = _round_to_bfloat16(values)
        return None if np.any((upper & _BF16_EXPONENT) == _BF16_EXPONENT) else upper.tobytes()
    with np.errstate(over="ignore", under="ignore"):
        stored = values.astype(_STORED[dtype])
    return stored.tobytes() if all_finite(stored) else None


def _round_to_bfloat16(values: Floats) -> npt.NDArray[np.uint16]:
    with np.errstate(over="ignore", under="ignore"):
        single = values.astype(np.float32)
    bits = single.view(np.uint32)
    # Rounding twice, to float32 and then to bfloat16, can go wrong at a tie. So an inexact float32 is first moved
    # to the odd one of its two neighbours ("round to odd"), which keeps the second rounding on the right side.
    back = single.astype(np.float64)
    to_odd = (back != values) & ((bits & 1) == 0)
    outwards = np.abs(back) < np.abs(values)
    bits += (to_odd & outwards).astype(np.uint32)
    bits -= (to_odd & ~outwards).astype(np.uint32)
    ties_to_even = (bits >> 16) & 1
    bits += np.uint32(0x7FFF) + ties_to_even
    return (bits >> 16).astype("<u2")
