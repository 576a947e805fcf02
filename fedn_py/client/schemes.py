"""The ways of masking that this client takes part in, by the name that a plan gives them.

What a client does for one is its two sides: masking an update, and answering for a slot. Committees, boxes, headers
and answers are the same for all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from fedn_py.masking.fixed_point import Encoder
from fedn_py.masking.pet import Masker, MaskSum, mask_key
from fedn_py.masking.scheme import Answering, Masking
from fedn_py.protocol.masked.floors import MODE


class Scheme(Protocol):
    """One way of masking."""

    def masking(self, encoder: Encoder, ctx: bytes, client_id: bytes, seeds: Sequence[bytes]) -> Masking:
        """Return what masks one update; a seed for each slot."""
        ...

    def answering(self, ctx: bytes, slot: int, seeds: Iterable[tuple[bytes, bytes]]) -> Answering:
        """Return what makes a slot's answer from (client id, seed) of each client of the sum."""
        ...


class Pet:
    """Masks from split seeds."""

    def masking(self, encoder: Encoder, ctx: bytes, client_id: bytes, seeds: Sequence[bytes]) -> Masking:
        """Return a masker over the seeds' keystreams."""
        return Masker(encoder, [mask_key(ctx, client_id, slot, seed) for slot, seed in enumerate(seeds)])

    def answering(self, ctx: bytes, slot: int, seeds: Iterable[tuple[bytes, bytes]]) -> Answering:
        """Return the sum of the slot's masks."""
        return MaskSum(mask_key(ctx, client_id, slot, seed) for client_id, seed in seeds)


SCHEMES: Mapping[str, Scheme] = {MODE: Pet()}
