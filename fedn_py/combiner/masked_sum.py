"""The running sum of one masked cell: vectors checked whole against their headers, then added whole, one at a time."""

import asyncio

import numpy as np

from fedn_py.aggregation.weighted_sum import SumSpoiled, TooLittleMemory
from fedn_py.combiner.sums import sha256_of
from fedn_py.identity import Digest
from fedn_py.masking.keystream import Words
from fedn_py.masking.pet import add_masked
from fedn_py.model.pieces import WrongLength, elements
from fedn_py.transport.chunks import DigestMismatch
from fedn_py.transport.completion import in_thread
from fedn_py.transport.spool import SpooledUpload

WORD_BYTES = 4


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
            vector_hash: sha256 that its header names.

        Raises:
            WrongLength, DigestMismatch: it is not the vector of its header, and the sum is as it was.
            SumSpoiled: an earlier one broke off.
        """
        async with self._adding:
            await in_thread(self._add, upload, vector_hash)

    def _add(self, upload: SpooledUpload, vector_hash: bytes) -> None:
        self._check_sound()
        # The spool has hashed what came, and holds no upload whose bytes are not those of its digest.
        if upload.size != WORD_BYTES * self._n_words:
            raise WrongLength("a masked update", upload.size, WORD_BYTES * self._n_words)
        if upload.sha256 != vector_hash.hex():
            raise DigestMismatch(Digest(vector_hash.hex()), upload.sha256)
        words = self._memory()
        position, self._spoiled = 0, True
        for array in elements(upload.blocks(), "<u4"):
            add_masked(words[position : position + len(array)], array.view(np.uint32))
            position += len(array)
        if position == self._n_words:
            self._spoiled = False
        self._check_sound()

    def _memory(self) -> Words:
        if self._words is None:  # taken with the first update, not with the order
            try:
                self._words = np.zeros(self._n_words, "<u4")
            except (MemoryError, ValueError) as fault:
                raise TooLittleMemory(WORD_BYTES * self._n_words) from fault
        return self._words

    async def whole(self) -> tuple[memoryview, Digest]:
        """Return the sum's words, little-endian and not copied, and their sha256; nothing is to be added from now on.

        Raises:
            SumSpoiled: an update broke off while it was added.
        """
        async with self._adding:
            self._check_sound()
            view = self._memory().data.cast("B")
            return view, await in_thread(sha256_of, view)

    def _check_sound(self) -> None:
        if self._spoiled:
            raise SumSpoiled
