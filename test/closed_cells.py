"""Masked cells as their clients, combiners and members make them, ready to be opened; tests spoil what they like."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from artifacts import a_model, chunked, names_in
from masked_world import RPK, RSK, bytes_of, key_of

from fedn_py.masking.fixed_point import Encoder, Encoding
from fedn_py.masking.keystream import chunk_sizes
from fedn_py.masking.pet import Masker, MaskSum, add_masked, mask_key
from fedn_py.protocol.masked.answers import PIECE_BYTES, AnswerPlace, AnswerSealer, sealed_bytes
from fedn_py.protocol.masked.round_messages import Answer
from fedn_py.protocol.masked.signing import Signed, sign
from fedn_py.reducer.unmasking import CellOutcome, CellToOpen, OpenedCells, open_cells
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.ports import Objects

METRICS = ("clip_fraction", "has clip_fraction", "loss", "has loss")
BOUNDS = (1.0, 1.0, 8.0, 1.0)


def an_encoding(n: int = 20, **changed: object) -> Encoding:
    terms = {"clip": 1.0, "n_max": 10, "weight_cap": 100, "metric_bounds": BOUNDS, **changed}
    return Encoding(n, **terms)  # type: ignore[arg-type]


def by_chunks(n_words: int) -> list[tuple[int, slice]]:
    starts = np.cumsum([0, *chunk_sizes(n_words)])
    return [(number, slice(starts[number], starts[number + 1])) for number in range(len(starts) - 1)]


def encoded(encoding: Encoding, name: str, values: np.ndarray, samples: int, metrics: Sequence[float]) -> np.ndarray:
    out = np.empty(encoding.n_words, np.uint32)
    encoder = Encoder(encoding, samples, tuple(metrics), bytes_of(f"rounding {name}"))
    for number, part in by_chunks(len(out)):
        encoder.chunk(number, values[part], out[part])
    return out


@dataclass
class ACell:
    """A cell as its clients, its combiner and its members make it; tests spoil what they like before it is stored."""

    name: str
    encoding: Encoding
    k: int = 2
    r: int = 1
    n: int = 3
    seed: int = 0
    words: list[np.ndarray] = field(default_factory=list)
    partial: bytes = b""
    slot_sums: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    answers: dict[bytes, Signed] = field(default_factory=dict)
    streams: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random = np.random.default_rng([self.seed, len(self.name), *self.name.encode()])
        self.values = [random.normal(0, 0.4, self.encoding.n_parameters).astype(np.float32) for _ in range(self.n)]
        self.samples = [int(count) for count in random.integers(1, 150, self.n)]
        self.metrics = [(float(random.uniform(0, 1)), 1.0, float(random.uniform(-8, 8)), 1.0) for _ in range(self.n)]
        self.metrics[-1] = (*self.metrics[-1][:2], 0.0, 0.0)  # the last one gives no loss

    @property
    def ctx(self) -> bytes:
        return bytes_of(f"ctx {self.name}")

    @property
    def included_hash(self) -> bytes:
        return bytes_of(f"included {self.name}")

    def member(self, slot: int, replica: int = 0) -> bytes:
        return bytes_of(f"member {self.name} {slot} {replica}")

    def keys(self, client: int) -> list[bytes]:
        who = bytes_of(f"client {self.name} {client}")
        return [mask_key(self.ctx, who, slot, bytes_of(f"seed {self.name} {client} {slot}")) for slot in range(self.k)]

    def masked(self, client: int) -> np.ndarray:
        out = np.empty(self.encoding.n_words, np.uint32)
        rounding = bytes_of(f"rounding {self.name} {client}")
        masker = Masker(Encoder(self.encoding, self.samples[client], self.metrics[client], rounding), self.keys(client))
        for number, part in by_chunks(len(out)):
            masker.chunk(number, self.values[client][part], out[part])
        return out

    def made(self) -> "ACell":
        """Everybody does what they should."""
        total = np.zeros(self.encoding.n_words, np.uint32)
        for client in range(self.n):
            add_masked(total, self.masked(client))
        self.partial = total.tobytes()
        for slot in range(self.k):
            for replica in range(self.r):
                self.answer(slot, replica, self.slot_sum(slot))
        return self

    def slot_sum(self, slot: int) -> np.ndarray:
        out = np.empty(self.encoding.n_words, np.uint32)
        mask_sum = MaskSum(self.keys(client)[slot] for client in range(self.n))
        for number, part in by_chunks(len(out)):
            mask_sum.chunk(number, out[part])
        return out

    def answer(self, slot: int, replica: int, words: np.ndarray, *, rpk: bytes = RPK, **changed: object) -> None:
        member, plain = self.member(slot, replica), words.tobytes()
        place = AnswerPlace(self.ctx, self.included_hash, member, slot)
        sealer = AnswerSealer(place, bytes_of(f"key {member.hex()} {plain[:64].hex()}"))
        starts = range(0, len(plain), PIECE_BYTES)
        stream = b"".join(
            sealer.piece(plain[start : start + PIECE_BYTES], last=start == starts[-1]) for start in starts
        )
        sealed_key, stream_hash = sealer.finish(rpk, bytes_of(f"ephemeral {member.hex()}"))
        nonce, size = bytes_of("nonce"), sealed_bytes(len(plain))
        said = Answer(self.ctx, self.included_hash, slot, nonce, sealed_key, stream_hash, size)
        self.answers[member] = sign(replace(said, **changed), key_of(member.hex()))  # type: ignore[arg-type]
        self.streams[member] = stream

    async def stored(self, objects: Objects) -> CellToOpen:
        partial = (await objects.put(chunked(self.partial, 70_000))).digest
        streams = {member: (await objects.put(chunked(one, 70_000))).digest for member, one in self.streams.items()}
        return CellToOpen(self.ctx, self.included_hash, self.n, partial, dict(self.answers), streams)

    def exact(self) -> tuple[list[int], int]:
        """The sums of the encoded parameters and of the weights, in Python's integers."""
        rows = [
            encoded(
                self.encoding, f"{self.name} {client}", self.values[client], self.samples[client], self.metrics[client]
            )
            for client in range(self.n)
        ]
        sums = [sum(int(word) for word in column) for column in zip(*(row.view(np.int32) for row in rows), strict=True)]
        d = self.encoding.n_parameters
        return sums[:d], sums[d]


def a_base(n: int, dtype: str = "F32") -> bytes:
    return a_model({"w": (dtype, np.random.default_rng(9).normal(size=n)), "steps": ("I64", (7,))})


def opened(scratch: Path, *cells: ACell, objects: MemoryObjects | None = None) -> OpenedCells:
    async def story() -> OpenedCells:
        kept = objects or MemoryObjects()
        return await open_cells(kept, [await one.stored(kept) for one in cells], cells[0].encoding, RSK, scratch)

    found = asyncio.run(story())
    assert names_in(scratch) == []
    return found


def the_outcome(scratch: Path, cell: ACell) -> CellOutcome:
    return opened(scratch, cell).outcomes[cell.ctx]


def without(cell: ACell, *members: bytes) -> ACell:
    return replace_streams(cell, {one: stream for one, stream in cell.streams.items() if one not in members})


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 0x10
    return bytes(changed)


def shifted(words: np.ndarray) -> np.ndarray:
    """A mask sum that adds a small vector to the model, unnoticed by the guards."""
    changed = words.copy()
    changed[0] += 5
    return changed


def replace_streams(cell: ACell, streams: dict[bytes, bytes]) -> ACell:
    changed = ACell(cell.name, cell.encoding, k=cell.k, r=cell.r, n=cell.n)
    changed.partial, changed.answers, changed.streams = cell.partial, dict(cell.answers), streams
    return changed
