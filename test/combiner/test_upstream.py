"""What a combiner stores: a file, or bytes that are in its memory; the same object either way."""

import asyncio
import hashlib
from pathlib import Path

import numpy as np
import pytest

from fedn_py.combiner.upstream import StoreUpstream
from fedn_py.identity import Digest
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.ports import ObjectCorrupt
from fedn_py.transport.transfer import Bytes

WORDS = np.arange(700_000, dtype="<u4")
CONTENT = WORDS.tobytes()
DIGEST = Digest(hashlib.sha256(CONTENT).hexdigest())


IN_PIECES = (memoryview(CONTENT)[:1_000_001], CONTENT[1_000_001:1_000_002], memoryview(CONTENT)[1_000_002:])


@pytest.mark.parametrize("source", [CONTENT, bytearray(CONTENT), memoryview(WORDS), IN_PIECES])
def test_bytes_in_memory_become_an_object(source: Bytes) -> None:
    objects = MemoryObjects()
    asyncio.run(StoreUpstream(objects).store(source, DIGEST))
    assert objects.contents == {DIGEST: CONTENT}


def test_a_file_becomes_the_same_object(tmp_path: Path) -> None:
    objects, path = MemoryObjects(), tmp_path / "sum"
    path.write_bytes(CONTENT)
    asyncio.run(StoreUpstream(objects).store(path, DIGEST))
    assert objects.contents == {DIGEST: CONTENT}


def test_bytes_that_are_others_than_their_digest_says_are_not_stored() -> None:
    objects = MemoryObjects()
    with pytest.raises(ObjectCorrupt):
        asyncio.run(StoreUpstream(objects).store(CONTENT[:-1], DIGEST))
    assert not objects.contents
