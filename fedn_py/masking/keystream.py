"""ChaCha20 keystreams as uint32 words, seekable by chunk, so that chunks can be made in any order and anywhere.

A stream is libsodium's ``randombytes_buf_deterministic`` of its key: ChaCha20-IETF with the nonce "LibsodiumDRG" and
a counter from 0. A chunk of 32,768 words is 2,048 blocks of 64 bytes, so chunk n begins at block 2,048 n.

Source: RFC 8439, section 2.4 (ChaCha20); libsodium's documentation of randombytes_buf_deterministic (the nonce).
"""

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

KEY_BYTES = 32
CHUNK_WORDS = 32_768
Words = npt.NDArray[np.uint32]

_BLOCK_WORDS = 16
_NONCE = b"LibsodiumDRG"
_ZEROS = bytes(CHUNK_WORDS * 4)


class Keystream:
    """The keystream of one key; for one thread. Consecutive chunks are quickest, any order gives the same words.

    Its 32-bit block counter lasts for 256 GiB, beyond any vector.

    Args:
        key: 32 bytes; never used for anything else.
    """

    __slots__ = ("_cipher", "_key", "_next")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a keystream's key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._cipher: CipherContext | None = None
        self._next = 0

    def chunk(self, number: int, out: Words) -> None:
        """Write the words of chunk ``number`` into ``out``: uint32[at most CHUNK_WORDS], contiguous.

        A shorter ``out`` gets the first words of the chunk.
        """
        cipher = self._cipher_at(number)
        size = out.nbytes
        # OpenSSL writes the keystream itself when it "encrypts" zeros, straight into the array.
        cipher.update_into(_ZEROS if size == len(_ZEROS) else _ZEROS[:size], out.view(np.uint8).data)
        self._next = number + 1 if size == len(_ZEROS) else -1
        if _BIG_ENDIAN:  # words are little-endian on the wire
            out.byteswap(inplace=True)

    def _cipher_at(self, number: int) -> CipherContext:
        if self._cipher is None or self._next != number:
            counter = number * CHUNK_WORDS // _BLOCK_WORDS
            cipher = Cipher(ChaCha20(self._key, counter.to_bytes(4, "little") + _NONCE), mode=None)
            self._cipher = cipher.encryptor()
        return self._cipher


_BIG_ENDIAN = np.dtype("=u4") != np.dtype("<u4")


def chunk_sizes(n_words: int) -> list[int]:
    """Return the number of words of each chunk of a vector; only the last may be short."""
    whole, rest = divmod(n_words, CHUNK_WORDS)
    return [CHUNK_WORDS] * whole + ([rest] if rest else [])
