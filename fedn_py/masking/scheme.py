"""What every way of masking offers its three sides; ``pet`` is one, a module beside it is another.

A vector is handled in chunks of ``CHUNK_WORDS`` words, each on its own: any order, any worker, the same bytes.
Adding is the same for all: masked updates are words of a group, and the combiner adds them.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedn_py.masking.fixed_point import OpenedTail, Reals
from fedn_py.masking.keystream import Words


class Masking(Protocol):
    """The client's side: from an update's floats to masked words."""

    def chunk(self, number: int, values: Reals, out: Words) -> None:
        """Write the masked words of chunk ``number`` into ``out``."""


class Answering(Protocol):
    """The committee's side: from what clients entrusted to a member to its answer."""

    def chunk(self, number: int, out: Words) -> None:
        """Write the words of chunk ``number`` of the member's answer into ``out``."""


class Opening(Protocol):
    """The reducer's side: from the masked sum and the committee's answers to the sum."""

    def chunk(self, number: int, masked_sum: Words, slot_sums: Sequence[Words]) -> npt.NDArray[np.int32]:
        """Return the sums of the encoded parameters in chunk ``number``, or raise UnmaskCheckFailed."""

    def tail(self) -> OpenedTail:
        """Return what the sum says beside its parameters, or raise UnmaskCheckFailed; asked last."""
