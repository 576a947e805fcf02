"""The running sum of one masked cell: vectors checked whole against their headers, then added whole, one at a time."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedn_py.aggregation.weighted_sum import SumSpoiled, TooLittleMemory
from fedn_py.combiner.sums import write_pieces
from fedn_py.identity import Digest
from fedn_py.masking.hashing import DIGEST_BYTES
from fedn_py.masking.keystream import Words
from fedn_py.masking.pet import add_masked
from fedn_py.model.pieces import WrongLength, elements
from fedn_py.transport.chunks import DigestMismatch
from fedn_py.transport.completion import in_thread
from fedn_py.transport.spool import SpooledUpload

WORD_BYTES = 4
_PIECE_WORDS = 262_144


class MaskedSum:
    """The sum of masked updates modulo 2**32; says nothing about any of them, or about their sum.

    Memory: 4 bytes a word and a few MiB, for any number of clients.

    Args:
        n_words: of each update, L.
    """

    def __init__(self, n_words: int) -> None:
        self._n_words = n_words
        self._words: Words | None = None
        self._spoiled = False
        self._adding = asyncio.Lock()

    async def add(self, upload: SpooledUpload, vector_hash: bytes) -> None:
        """Check a vector and add it.

        Args:
            vector_hash: BLAKE2b-256 that its header names.

        Raises:
            WrongLength, DigestMismatch: it is not the vector of its header, and the sum is as it was.
            SumSpoiled: an earlier one broke off.
        """
        async with self._adding:
            await in_thread(self._add, upload, vector_hash)

    def _add(self, upload: SpooledUpload, vector_hash: bytes) -> None:
        self._check_sound()
        self._check_vector(upload, vector_hash)
        words = self._memory()
        position, self._spoiled = 0, True
        for array in elements(upload.blocks(), "<u4"):
            add_masked(words[position : position + len(array)], array.view(np.uint32))
            position += len(array)
        if position == self._n_words:
            self._spoiled = False
        self._check_sound()

    def _check_vector(self, upload: SpooledUpload, vector_hash: bytes) -> None:
        found, size = hashlib.blake2b(digest_size=DIGEST_BYTES), 0
        for block in upload.blocks():
            found.update(block)
            size += len(block)
        if size != WORD_BYTES * self._n_words:
            raise WrongLength("a masked update", size, WORD_BYTES * self._n_words)
        if found.digest() != vector_hash:
            raise DigestMismatch(Digest(vector_hash.hex()), found.hexdigest())

    def _memory(self) -> Words:
        if self._words is None:  # taken with the first update, not with the order
            try:
                self._words = np.zeros(self._n_words, np.uint32)
            except (MemoryError, ValueError) as fault:
                raise TooLittleMemory(WORD_BYTES * self._n_words) from fault
        return self._words

    async def write(self, path: Path) -> Digest:
        """Write the sum's words to a file, little-endian, and return its sha256; raises SumSpoiled."""
        async with self._adding:
            self._check_sound()
            return await in_thread(write_pieces, path, self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        words = self._memory()
        return (
            words[start : start + _PIECE_WORDS].astype("<u4", copy=False).tobytes()
            for start in range(0, len(words), _PIECE_WORDS)
        )

    def _check_sound(self) -> None:
        if self._spoiled:
            raise SumSpoiled
