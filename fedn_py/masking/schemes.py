"""The ways of masking that there are, by the name that plans and policies know them by.

What a scheme is made of is its three sides: masking an update (client), answering for a slot (committee), opening a
sum (reducer). Adding, committees, boxes, headers and answers are the same for all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from fedn_py.masking.fixed_point import Encoder, Encoding
from fedn_py.masking.pet import CellOpening, Masker, MaskSum, mask_key
from fedn_py.masking.scheme import Answering, Masking, Opening

PET = "pet"


class Scheme(Protocol):
    """One way of masking."""

    def masking(self, encoder: Encoder, ctx: bytes, client_id: bytes, seeds: Sequence[bytes]) -> Masking:
        """Return what masks one update; a seed for each slot."""
        ...

    def answering(self, ctx: bytes, slot: int, seeds: Iterable[tuple[bytes, bytes]]) -> Answering:
        """Return what makes a slot's answer from (client id, seed) of each client of the sum."""
        ...

    def opening(self, encoding: Encoding, clients: int) -> Opening:
        """Return what opens the sum of so many clients; raises CannotHold."""
        ...


class Pet:
    """Masks from split seeds."""

    def masking(self, encoder: Encoder, ctx: bytes, client_id: bytes, seeds: Sequence[bytes]) -> Masking:
        """Return a masker over the seeds' keystreams."""
        return Masker(encoder, [mask_key(ctx, client_id, slot, seed) for slot, seed in enumerate(seeds)])

    def answering(self, ctx: bytes, slot: int, seeds: Iterable[tuple[bytes, bytes]]) -> Answering:
        """Return the sum of the slot's masks."""
        return MaskSum(mask_key(ctx, client_id, slot, seed) for client_id, seed in seeds)

    def opening(self, encoding: Encoding, clients: int) -> Opening:
        """Return what takes the slots' sums off a masked sum."""
        return CellOpening(encoding, clients)


SCHEMES: Mapping[str, Scheme] = {PET: Pet()}
