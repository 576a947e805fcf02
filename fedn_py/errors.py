"""The root of every error: what happened, whose fault it is, and the way out.

Each fault is a class of its own beside the code that finds it, derived from one of the two families here.
Layers above decide by family: a ``PeerFault`` is refused and reported back to the peer, an ``OwnFault`` is
reported to whoever runs this process.
"""


class FednError(Exception):
    """A named fault with a remedy.

    Args:
        message: what happened, with the facts (names, numbers, paths; never a secret, mask or vector).
        remedy: what the reader can do about it; shown on a line of its own.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    @property
    def code(self) -> str:
        """The stable name that scripts, logs and REST answers carry: the class name."""
        return type(self).__name__


class PeerFault(FednError):
    """The other side did something that is refused; it is told why and nothing here has changed."""


class OwnFault(FednError):
    """This side cannot do what it should: its settings, its stores, its disk."""


class MissingDependency(OwnFault):
    """An optional library is needed and not installed."""
