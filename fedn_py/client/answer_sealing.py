"""A sum participant's answer: its slot's mask sum, computed and sealed piece by piece into a file.

The plain sum is never on disk, and no more than a piece of it is in memory. Blocking, for a worker thread.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fedn_py.client.durable_files import durable
from fedn_py.client.secret_bytes import SeatKeys, draw, erase
from fedn_py.masking.keystream import CHUNK_WORDS, chunk_sizes
from fedn_py.masking.scheme import Answering
from fedn_py.masking.schemes import SCHEMES
from fedn_py.protocol.masked.answers import PIECE_BYTES, AnswerPlace, AnswerSealer, sealed_bytes
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.round_messages import Answer, IncludedRow

_CHUNKS_A_PIECE = PIECE_BYTES // (4 * CHUNK_WORDS)


def seal_answer(
    terms: CellTerms, place: AnswerPlace, rows: Sequence[IncludedRow], keys: SeatKeys, into: Path
) -> Answer:
    """Sum the masks of the rows' uploads, seal the sum to the plan's key, and return the answer to be signed.

    Args:
        keys: hold a seed for each of the rows.
        into: there whole and synced, or not at all.
    """
    n_words = terms.encoding.n_words
    answering = SCHEMES[terms.plan.mode].answering(place.ctx, place.slot, _seeds(rows, keys))
    stream_key, ephemeral = draw(), draw()
    sealer = AnswerSealer(place, bytes(stream_key))
    with durable(into) as file:
        for plain, last in _pieces(answering, n_words):
            file.write(sealer.piece(plain, last=last))
    sealed_key, stream_hash = sealer.finish(terms.plan.rpk, bytes(ephemeral))
    for secret in (stream_key, ephemeral):
        erase(secret)
    size = sealed_bytes(4 * n_words)
    return Answer(place.ctx, place.included_hash, place.slot, bytes(keys.nonce), sealed_key, stream_hash, size)


def _seeds(rows: Sequence[IncludedRow], keys: SeatKeys) -> Iterator[tuple[bytes, bytes]]:
    for row in rows:
        header_hash, seed = keys.seeds[row.client_id]
        if header_hash != row.header_hash:  # the machine has accepted each of these headers
            raise ValueError("the seed at hand is of another upload")
        yield row.client_id, bytes(seed)


def _pieces(answering: Answering, n_words: int) -> Iterator[tuple[memoryview, bool]]:
    """Yield the plain sum in pieces of 1 MiB, and whether it is the last; the next one takes the place of each."""
    words = np.empty(_CHUNKS_A_PIECE * CHUNK_WORDS, np.uint32)
    sizes, filled = chunk_sizes(n_words), 0
    for number, size in enumerate(sizes):
        answering.chunk(number, words[filled : filled + size])
        filled += size
        last = number == len(sizes) - 1
        if last or (number + 1) % _CHUNKS_A_PIECE == 0:
            yield words[:filled].astype("<u4", copy=False).data.cast("B"), last
            filled = 0
