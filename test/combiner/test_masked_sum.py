"""The sum of masked vectors: exact, whole vectors alone, and only those that their headers name."""

import asyncio
import hashlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from grpc_network import a_spool, digest_of
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.aggregation.weighted_sum import SumSpoiled
from fedn_py.combiner.masked_sum import MaskedSum
from fedn_py.model.pieces import WrongLength
from fedn_py.transport.chunks import DigestMismatch, UploadStart
from fedn_py.transport.spool import SpooledUpload


class Cut:
    """A whole upload that comes in pieces of any size; a broken one ends early when it is read."""

    def __init__(self, content: bytes, *, piece: int = 7, breaks: bool = False) -> None:
        self._content, self._piece, self._breaks = content, piece, breaks
        self.size, self.sha256 = len(content), digest_of(content)

    def blocks(self) -> Iterator[bytes]:
        content = self._content[:-4] if self._breaks else self._content
        return (content[start : start + self._piece] for start in range(0, len(content), self._piece))


def add(total: MaskedSum, upload: Any, content: bytes) -> None:
    asyncio.run(total.add(upload, sha256(content)))


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def words_of(total: MaskedSum) -> np.ndarray:
    content, digest = asyncio.run(total.whole())
    assert digest == digest_of(bytes(content))
    return np.frombuffer(content, "<u4")


@given(
    st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=5, max_size=5), min_size=1, max_size=5), st.integers(1, 30)
)
def test_the_sum_is_that_of_the_integers_modulo_two_to_the_32(vectors: list[list[int]], piece: int) -> None:
    total = MaskedSum(5)
    for vector in vectors:
        content = np.array(vector, "<u4").tobytes()
        add(total, Cut(content, piece=piece), content)
    expected = [sum(column) % 2**32 for column in zip(*vectors, strict=True)]
    assert list(words_of(total)) == expected


def test_what_is_not_the_vector_of_its_header_leaves_the_sum_as_it_was() -> None:
    total, ones = MaskedSum(3), np.ones(3, "<u4").tobytes()
    add(total, Cut(ones), ones)
    with pytest.raises(DigestMismatch):
        asyncio.run(total.add(Cut(ones), sha256(b"others")))  # type: ignore[arg-type]  # it is read like one
    for wrong in (ones[:-4], ones + ones[:4], ones[:-1]):
        with pytest.raises(WrongLength):
            add(total, Cut(wrong), wrong)
    assert list(words_of(total)) == [1, 1, 1]


def test_a_sum_that_a_vector_broke_off_in_is_never_used() -> None:
    total, ones = MaskedSum(3), np.ones(3, "<u4").tobytes()
    with pytest.raises(SumSpoiled):
        add(total, Cut(ones, breaks=True), ones)
    with pytest.raises(SumSpoiled):
        add(total, Cut(ones), ones)
    with pytest.raises(SumSpoiled):
        words_of(total)


def test_a_spooled_upload_is_read_twice(tmp_path: Path) -> None:
    async def story() -> None:
        spool = await a_spool(tmp_path / "spool", memory_bytes=0)
        content = np.arange(400_000, dtype="<u4").tobytes()
        incoming = await spool.begin("client anna", UploadStart("ab" * 8, 0, len(content), digest_of(content)))
        for start in range(0, len(content), 999_999):
            await incoming.append(content[start : start + 999_999])
        upload: SpooledUpload = await incoming.finish()
        total = MaskedSum(400_000)
        for _ in range(2):
            await total.add(upload, sha256(content))
        words.append(np.frombuffer((await total.whole())[0], "<u4"))
        await spool.close()

    words: list[np.ndarray] = []
    asyncio.run(story())
    assert (words[0] == 2 * np.arange(400_000, dtype="<u4")).all()


def test_vectors_that_come_at_once_are_added_one_after_the_other() -> None:
    vector = np.arange(1 << 20, dtype="<u4")
    content = vector.tobytes()

    async def story() -> None:
        total = MaskedSum(len(vector))
        uploads = [cast("Any", Cut(content, piece=1 << 18)) for _ in range(8)]
        await asyncio.gather(*(total.add(upload, sha256(content)) for upload in uploads))
        words.append(np.frombuffer((await total.whole())[0], "<u4"))

    words: list[np.ndarray] = []
    asyncio.run(story())
    assert (words[0] == 8 * vector).all()


def test_a_sum_takes_four_bytes_a_word_however_many_vectors_are_added() -> None:
    n_words, piece = 1 << 22, bytes(1 << 20)

    class Zeros:
        size, sha256 = 4 * n_words, digest_of(bytes(4 * n_words))

        def blocks(self) -> Iterator[bytes]:
            return (piece for _ in range(4 * n_words // len(piece)))

    content_hash, zeros = sha256(bytes(4 * n_words)), cast("Any", Zeros())
    total = MaskedSum(n_words)
    tracemalloc.start()
    try:
        for _ in range(3):
            asyncio.run(total.add(zeros, content_hash))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * n_words + (4 << 20)
