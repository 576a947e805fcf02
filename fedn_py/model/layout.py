"""What is in a model file: a safetensors header, read with suspicion.

A model file is eight bytes (the length of the header, little-endian), the header (one JSON object that names each
tensor with its type, shape and byte range) and the tensors' bytes. The header comes from strangers, so it is
checked here, before any library sees the file: whatever the bytes, the answer is a layout in which every number
fits the others, or NotAModel or UnsupportedModel. Stricter than the format in four points: a key may stand only
once, names are neither empty nor endless, a tensor says nothing but type, shape and range, and a header has at most
32 MiB (the format allows 100 MB, which as JSON could take gigabytes to read).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NoReturn

from fedn_py.errors import PeerFault
from fedn_py.model.dtypes import FLOATS, SIZES

MAX_HEADER_BYTES = 32 * 1024 * 1024
MAX_TENSORS = 100_000
MAX_RANK = 32
MAX_NAME_CHARACTERS = 1_024

# Bounds on what the JSON text can unfold into; far above what MAX_TENSORS honest entries need.
_MAX_OPENINGS = 10 * MAX_TENSORS
_MAX_COMMAS = 20 * MAX_TENSORS
_LENGTH_BYTES = 8
_MAX_FORMAT_HEADER_BYTES = 100_000_000
_METADATA = "__metadata__"
_ENTRY_KEYS = frozenset({"dtype", "shape", "data_offsets"})


class NotAModel(PeerFault):
    """Bytes that are no safetensors file, or one that contradicts itself."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"not a safetensors model: {message}",
            remedy="Save the model with fedn_py.package.save_model or a safetensors library, and send the whole file.",
        )


class UnsupportedModel(PeerFault):
    """A safetensors file beyond what this network takes: an element type, a size, a number of tensors."""


class NothingToTrain(PeerFault):
    """A model without a single float parameter."""

    def __init__(self) -> None:
        super().__init__(
            "the model has no float parameters, so there is nothing to average",
            remedy="Save the weights as F16, BF16, F32 or F64; integer and bool tensors are never averaged.",
        )


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a model file.

    Attributes:
        dtype: the element type by its safetensors name, a key of ``dtypes.SIZES``.
        shape: () for a scalar.
        begin, end: its bytes in the file, counted from the file's first byte.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def count(self) -> int:
        """How many elements it has."""
        return prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it is averaged; integer and bool tensors are not."""
        return self.dtype in FLOATS


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """The tensors of a model file and where they are.

    Attributes:
        tensors: in the order of their bytes, which need not be the order in the header.
        header_size: bytes before the first tensor, the eight length bytes included.
        file_size: bytes of the whole file.
    """

    tensors: tuple[TensorSpec, ...]
    header_size: int
    file_size: int

    @property
    def float_tensors(self) -> tuple[TensorSpec, ...]:
        """The tensors that an update vector is made of, in its order."""
        return tuple(tensor for tensor in self.tensors if tensor.is_float)

    @property
    def n_parameters(self) -> int:
        """How many floats an update vector has."""
        return sum(tensor.count for tensor in self.float_tensors)

    @property
    def update_dtype(self) -> str:
        """The numpy type of an update's elements: '<f8' where any tensor is F64, otherwise '<f4'."""
        return "<f8" if any(tensor.dtype == "F64" for tensor in self.tensors) else "<f4"

    @property
    def update_size(self) -> int:
        """Bytes of an update."""
        return self.n_parameters * int(self.update_dtype[-1])

    @property
    def sum_size(self) -> int:
        """Bytes of a weighted sum of updates, float64[n_parameters]: in memory, and as an object."""
        return self.n_parameters * 8

    def check_trainable(self) -> None:
        """Raise NothingToTrain where no parameter would be averaged."""
        if self.n_parameters == 0:
            raise NothingToTrain

    def tensor_at(self, index: int) -> TensorSpec:
        """Return the tensor that element ``index`` of an update vector belongs to."""
        for tensor in self.float_tensors:
            if index < tensor.count:
                return tensor
            index -= tensor.count
        raise IndexError(index)

    def signature(self) -> str:
        """Return a sha256 over names, types and shapes in order, as 64 hex digits.

        Files of equal signature have update vectors that can be added to each other.
        """
        facts = [[tensor.name, tensor.dtype, tensor.shape] for tensor in self.tensors]
        return hashlib.sha256(json.dumps(facts, separators=(",", ":")).encode()).hexdigest()


def head_size(first_bytes: bytes) -> int:
    """Return how many bytes of a file ``parse_layout`` needs, from the file's first eight.

    Raises:
        NotAModel: there are fewer than eight, or they are not the length of a header.
        UnsupportedModel: the header is longer than MAX_HEADER_BYTES.
    """
    if len(first_bytes) < _LENGTH_BYTES:
        raise NotAModel(f"it has {len(first_bytes)} bytes, less than the length of a header takes")
    length = int.from_bytes(first_bytes[:_LENGTH_BYTES], "little")
    if length < len("{}"):
        raise NotAModel(f"a header of {length} bytes cannot hold a JSON object")
    if length > _MAX_FORMAT_HEADER_BYTES:  # most likely the first letters of some other format
        raise NotAModel("its first eight bytes are not the length of a header")
    if length > MAX_HEADER_BYTES:
        raise UnsupportedModel(
            f"the model's header has {length:,} bytes, more than {MAX_HEADER_BYTES:,}",
            remedy="Keep metadata out of the file, and give the tensors shorter names.",
        )
    return _LENGTH_BYTES + length


def parse_layout(head: bytes, file_size: int) -> ModelLayout:
    """Read the header of a model file.

    Args:
        head: the file's first bytes, at least ``head_size`` of them; what follows is ignored.
        file_size: bytes of the whole file.

    Raises:
        NotAModel: the header is not whole, not JSON, or does not fit itself or the file.
        UnsupportedModel: an element type, size or number of tensors that this network does not take.
    """
    size = head_size(head[:_LENGTH_BYTES])
    if len(head) < size or file_size < size:
        raise NotAModel(f"it ends within its header ({min(len(head), file_size):,} of {size:,} bytes)")
    entries = _read_json(head[_LENGTH_BYTES:size])
    _check_metadata(entries.pop(_METADATA, {}))
    if len(entries) > MAX_TENSORS:
        raise UnsupportedModel(f"the model has {len(entries):,} tensors, more than {MAX_TENSORS:,}", remedy=_JOIN)
    tensors = sorted(
        (_read_entry(name, entry, size) for name, entry in entries.items()),
        key=lambda tensor: (tensor.begin, tensor.end, tensor.name),
    )
    _check_ranges(tensors, size, file_size)
    return ModelLayout(tuple(tensors), size, file_size)


_JOIN = "Join small tensors into larger ones."


def _read_json(text: bytes) -> dict[str, object]:
    if not text.startswith(b"{"):
        raise NotAModel("its header is no JSON object")
    if text.count(b"[") + text.count(b"{") > _MAX_OPENINGS or text.count(b",") > _MAX_COMMAS:
        raise UnsupportedModel("the model's header lists more than this network reads", remedy=_JOIN)
    try:
        header = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique_keys, parse_int=_natural, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as fault:
        raise NotAModel("its header is no JSON") from fault
    if not isinstance(header, dict):  # cannot be: the text begins with a brace
        raise NotAModel("its header is no JSON object")
    return header


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise NotAModel("a key stands twice in its header")
    return result


def _natural(digits: str) -> int:
    if digits.startswith("-"):
        raise NotAModel("a number in its header is negative")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise NotAModel(f"its header holds {name}")


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(_is_text(text) for item in metadata.items() for text in item):
        raise NotAModel("its metadata is not texts by name")


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _read_entry(name: str, entry: object, header_size: int) -> TensorSpec:
    if not name or len(name) > MAX_NAME_CHARACTERS or not _is_text(name):
        raise NotAModel(f"{name[:80]!a} cannot be the name of a tensor (1 to {MAX_NAME_CHARACTERS} characters)")
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS or not isinstance(entry["dtype"], str):
        raise NotAModel(f"tensor {name!r} is not described by dtype, shape and data_offsets")
    shape, offsets = _naturals(name, entry, "shape"), _naturals(name, entry, "data_offsets")
    if len(offsets) != 2:
        raise NotAModel(f"tensor {name!r} has {len(offsets)} data_offsets, not 2")
    tensor = TensorSpec(name, entry["dtype"], shape, header_size + offsets[0], header_size + offsets[1])
    _check_size(tensor)
    return tensor


def _naturals(name: str, entry: Mapping[str, object], key: str) -> tuple[int, ...]:
    values = entry[key]
    if not isinstance(values, list) or not all(type(value) is int and value < 2**63 for value in values):
        raise NotAModel(f"tensor {name!r} has a {key} that is no list of counts")
    return tuple(values)


def _check_size(tensor: TensorSpec) -> None:
    if tensor.dtype not in SIZES:
        raise UnsupportedModel(
            f"tensor {tensor.name!r} is of type {tensor.dtype[:20]!r}, which this network does not take",
            remedy=f"Save it as one of {', '.join(SIZES)}.",
        )
    if len(tensor.shape) > MAX_RANK:
        raise UnsupportedModel(
            f"tensor {tensor.name!r} has {len(tensor.shape)} dimensions, more than {MAX_RANK}",
            remedy="Save it with fewer dimensions.",
        )
    # Zeros apart, as numpy cannot hold an empty array whose other dimensions multiply beyond its index type either.
    if prod(extent for extent in tensor.shape if extent) * SIZES[tensor.dtype] >= 2**63:
        raise NotAModel(f"tensor {tensor.name!r} is larger than any file")
    expected, found = tensor.count * SIZES[tensor.dtype], tensor.end - tensor.begin
    if expected != found:
        raise NotAModel(f"tensor {tensor.name!r} takes {expected:,} bytes by its shape and {found:,} by its range")


def _check_ranges(tensors: list[TensorSpec], header_size: int, file_size: int) -> None:
    position = header_size
    for tensor in tensors:
        if tensor.begin != position:
            raise NotAModel(f"tensor {tensor.name!r} begins at byte {tensor.begin:,}, not at {position:,}")
        position = tensor.end
    if position != file_size:
        raise NotAModel(f"its tensors end at byte {position:,} and the file at {file_size:,}")
