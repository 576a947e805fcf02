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
from fedn_py.masking.hashing import plain_hash
from fedn_py.model.pieces import WrongLength
from fedn_py.transport.chunks import DigestMismatch, UploadStart
from fedn_py.transport.spool import SpooledUpload


class Cut:
    """A whole upload that comes in pieces of any size; a broken one ends early when it is read a second time."""

    def __init__(self, content: bytes, *, piece: int = 7, breaks: bool = False) -> None:
        self._content, self._piece, self._breaks, self._reads = content, piece, breaks, 0

    def blocks(self) -> Iterator[bytes]:
        self._reads += 1
        content = self._content[:-4] if self._breaks and self._reads > 1 else self._content
        return (content[start : start + self._piece] for start in range(0, len(content), self._piece))


def add(total: MaskedSum, upload: Any, content: bytes) -> None:
    asyncio.run(total.add(upload, plain_hash(content)))


def written(total: MaskedSum, path: Path) -> np.ndarray:
    digest = asyncio.run(total.write(path))
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    return np.frombuffer(path.read_bytes(), "<u4")


@given(
    st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=5, max_size=5), min_size=1, max_size=5), st.integers(1, 30)
)
def test_the_sum_is_that_of_the_integers_modulo_two_to_the_32(
    tmp_path_factory: pytest.TempPathFactory, vectors: list[list[int]], piece: int
) -> None:
    total = MaskedSum(5)
    for vector in vectors:
        content = np.array(vector, "<u4").tobytes()
        add(total, Cut(content, piece=piece), content)
    expected = [sum(column) % 2**32 for column in zip(*vectors, strict=True)]
    assert list(written(total, tmp_path_factory.mktemp("sum") / "sum")) == expected


def test_what_is_not_the_vector_of_its_header_leaves_the_sum_as_it_was(tmp_path: Path) -> None:
    total, ones = MaskedSum(3), np.ones(3, "<u4").tobytes()
    add(total, Cut(ones), ones)
    with pytest.raises(DigestMismatch):
        asyncio.run(total.add(Cut(ones), plain_hash(b"others")))  # type: ignore[arg-type]  # it is read like one
    for wrong in (ones[:-4], ones + ones[:4], ones[:-1]):
        with pytest.raises(WrongLength):
            add(total, Cut(wrong), wrong)
    assert list(written(total, tmp_path / "sum")) == [1, 1, 1]


def test_a_sum_that_a_vector_broke_off_in_is_never_used(tmp_path: Path) -> None:
    total, ones = MaskedSum(3), np.ones(3, "<u4").tobytes()
    with pytest.raises(SumSpoiled):
        add(total, Cut(ones, breaks=True), ones)
    with pytest.raises(SumSpoiled):
        add(total, Cut(ones), ones)
    with pytest.raises(SumSpoiled):
        written(total, tmp_path / "sum")


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
            await total.add(upload, plain_hash(content))
        await total.write(tmp_path / "sum")
        await spool.close()

    asyncio.run(story())
    assert (np.frombuffer((tmp_path / "sum").read_bytes(), "<u4") == 2 * np.arange(400_000, dtype="<u4")).all()


def test_vectors_that_come_at_once_are_added_one_after_the_other(tmp_path: Path) -> None:
    vector = np.arange(1 << 20, dtype="<u4")
    content = vector.tobytes()

    async def story() -> None:
        total = MaskedSum(len(vector))
        uploads = [cast("Any", Cut(content, piece=1 << 18)) for _ in range(8)]
        await asyncio.gather(*(total.add(upload, plain_hash(content)) for upload in uploads))
        await total.write(tmp_path / "sum")

    asyncio.run(story())
    assert (np.frombuffer((tmp_path / "sum").read_bytes(), "<u4") == 8 * vector).all()


def test_a_sum_takes_four_bytes_a_word_however_many_vectors_are_added() -> None:
    n_words, piece = 1 << 22, bytes(1 << 20)

    class Zeros:
        def blocks(self) -> Iterator[bytes]:
            return (piece for _ in range(4 * n_words // len(piece)))

    content_hash, zeros = plain_hash(bytes(4 * n_words)), cast("Any", Zeros())
    total = MaskedSum(n_words)
    tracemalloc.start()
    try:
        for _ in range(3):
            asyncio.run(total.add(zeros, content_hash))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * n_words + (4 << 20)
