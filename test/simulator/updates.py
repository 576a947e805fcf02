"""Updates whose sums tell on themselves.

Each client moves a coordinate of its own, by a number that no other training gives: whatever is lost from a sum,
is in it twice or does not belong there shows in its client's coordinate, exactly.
"""

from dataclasses import dataclass

from fedn_py.identity import ClientId, Digest
from fedn_py.protocol.client import Piece


@dataclass(frozen=True)
class Update:
    """What one training made.

    Attributes:
        value: how far the client's own coordinate moves.
        samples: its weight.
        upload_id: the same for every upload of it.
    """

    client: ClientId
    piece: Piece
    number: int

    @property
    def value(self) -> int:
        """A number of its own for each training, so that no sum of others can equal it by chance."""
        return 2 * self.number + 1

    @property
    def samples(self) -> int:
        """Very unequal weights."""
        return 10 ** (self.number % 4)

    @property
    def sha256(self) -> Digest:
        """Its digest."""
        return Digest(f"update-{self.client}-{self.number}")

    @property
    def upload_id(self) -> str:
        """The name of its uploads."""
        return f"upload-{self.client}-{self.number}"
