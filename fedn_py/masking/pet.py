"""``pet``: masks from split seeds, and what each side does with them.

A client draws k seeds, one for each slot of its cell's committee, and adds k ChaCha20 masks to its encoded update.
The member of slot j, who gets seed j of every client, answers with the sum of their masks. Neither the masked sum nor
any k - 1 slots' sums say anything about the sum; all k slots together open it.

    K_j = H("mask", ctx, client_id, u8 j, seed_j),     mask_j = keystream of K_j, L words
    masked = words + mask_0 + .. + mask_{k-1}     modulo 2**32
    opened = int32( sum of masked - sum over slots of the slot's mask sum )

Chunks are independent of each other: any order, any worker, the same bytes.

Source: the split-seed form of the PET protocol of xaynet (xaynet-core 0.2.0, "masking" module).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from fedn_py.masking.fixed_point import CannotHold, Encoder, Encoding, OpenedTail, Reals, check_range, check_tail
from fedn_py.masking.hashing import tagged_hash, u8
from fedn_py.masking.keystream import CHUNK_WORDS, Keystream, Words

SEED_BYTES = 32


def mask_key(ctx: bytes, client_id: bytes, slot: int, seed: bytes) -> bytes:
    """Return the key of one client's mask for one slot: 32 bytes.

    Args:
        ctx: the round's context with its committee, 32 bytes.
        seed: 32 random bytes, drawn for this one update.
    """
    return tagged_hash("mask", ctx, client_id, u8(slot), seed)


def seed_commitment(ctx: bytes, client_id: bytes, slot: int, seed: bytes) -> bytes:
    """Return what binds a client to one seed for all replicas of a slot."""
    return tagged_hash("seed", ctx, client_id, u8(slot), seed)


class Masker:
    """The client's side: encodes and masks an update, chunk by chunk."""

    def __init__(self, encoder: Encoder, keys: Sequence[bytes]) -> None:
        self._encoder = encoder
        self._streams = [Keystream(key) for key in keys]
        self._mask = np.empty(CHUNK_WORDS, np.uint32)

    def chunk(self, number: int, values: Reals, out: Words) -> None:
        """Write the masked words of chunk ``number`` into ``out``; the arguments are those of ``Encoder.chunk``."""
        self._encoder.chunk(number, values, out)
        mask = self._mask[: len(out)]
        for stream in self._streams:
            stream.chunk(number, mask)
            np.add(out, mask, out)


class MaskSum:
    """The committee's side: the sum of many clients' masks for one slot, chunk by chunk."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._streams = [Keystream(key) for key in keys]
        self._mask = np.empty(CHUNK_WORDS, np.uint32)

    def chunk(self, number: int, out: Words) -> None:
        """Write the words of chunk ``number`` of the slot's mask sum into ``out``."""
        out[:] = 0
        mask = self._mask[: len(out)]
        for stream in self._streams:
            stream.chunk(number, mask)
            np.add(out, mask, out)


def add_masked(total: Words, masked: Words) -> None:
    """The combiner's side: add a masked update, or a piece of it, to the running sum."""
    np.add(total, masked, total)


class CellOpening:
    """The reducer's side: one cell's sum, opened and checked chunk by chunk.

    Nothing of it is to be used before ``tail`` has returned: only then was every word seen and found to be possible.

    Args:
        clients: how many are in the sum.

    Raises:
        CannotHold: more clients than the encoding has room for.
    """

    def __init__(self, encoding: Encoding, clients: int) -> None:
        if not 1 <= clients <= encoding.n_max:
            raise CannotHold(
                f"a sum over {clients} clients cannot be opened: the plan holds 1 to {encoding.n_max}",
                remedy="Plan a larger n_max, or split the cell.",
            )
        self._encoding, self._clients = encoding, clients
        self._words = np.empty(CHUNK_WORDS, np.uint32)
        self._tail = np.empty(encoding.n_words - encoding.n_parameters, np.uint32)
        self._missing = set(range(-(-encoding.n_words // CHUNK_WORDS)))

    def chunk(self, number: int, masked_sum: Words, slot_sums: Sequence[Words]) -> npt.NDArray[np.int32]:
        """Return the sums of the encoded parameters in chunk ``number``; overwritten by the next call.

        Args:
            masked_sum: uint32, the masked updates of the cell summed modulo 2**32.
            slot_sums: uint32 of the same length, one for each slot.

        Raises:
            UnmaskCheckFailed: it is not the sum of what so many clients may send.
        """
        start = number * CHUNK_WORDS
        size = min(self._encoding.n_words - start, CHUNK_WORDS)
        if (
            number not in self._missing
            or not slot_sums
            or any(len(words) != size for words in (masked_sum, *slot_sums))
        ):
            raise ValueError(f"chunk {number} has {size} words and is opened once")
        words = self._words[:size]
        remaining = masked_sum
        for slot_sum in slot_sums:
            remaining = np.subtract(remaining, slot_sum, words)
        count = max(0, min(self._encoding.n_parameters - start, size))
        if count < size:
            begin = start + count - self._encoding.n_parameters
            self._tail[begin : begin + size - count] = words[count:]
        # Reading the remainder as int32 centres it around 0.
        sums = words[:count].view(np.int32)
        check_range(self._encoding, self._clients, sums)
        self._missing.remove(number)
        return sums

    def tail(self) -> OpenedTail:
        """Return what the sum says beside its parameters, when every chunk has been opened.

        Raises:
            UnmaskCheckFailed: the guards, the weight or a metric show that the sum is garbage.
        """
        if self._missing:
            raise ValueError(f"{len(self._missing)} chunks have not been opened")
        return check_tail(self._encoding, self._clients, self._tail)
