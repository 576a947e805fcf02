"""Names and numbers that say who and what, each a type of its own so that none is passed for another."""

import re
from typing import NewType

from fedn_py.errors import PeerFault

Digest = NewType("Digest", str)
"""sha256 of an object's bytes, 64 lower-case hex digits: the only name an object has."""

ClientId = NewType("ClientId", str)
"""A client's own identity, lower-case hex, made on its first start and kept in its state folder."""

ClientName = NewType("ClientName", str)
"""What people call a client; one client at a time may be connected under a name."""

CombinerName = NewType("CombinerName", str)
"""What people call a combiner, unique in a network."""

InstanceId = NewType("InstanceId", str)
"""One life of one combiner process, random hex: a restarted combiner has another."""

SessionId = NewType("SessionId", str)
"""One training session, random hex."""

TokenId = NewType("TokenId", str)
"""The public half of a token, random hex; says which token, proves nothing."""

Generation = NewType("Generation", int)
"""The number of one order to one combiner, never used twice in a session: what fences a lost combiner's answers."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")


class InvalidName(PeerFault):
    """A name or digest that does not have the form its kind asks for."""


def parse_digest(text: str) -> Digest:
    """Return ``text`` as a digest, or raise InvalidName."""
    if not _DIGEST.fullmatch(text):
        raise InvalidName(f"{text[:80]!r} is no sha256 digest", remedy="Give 64 lower-case hex digits.")
    return Digest(text)


def parse_name(text: str, kind: str = "name") -> str:
    """Return ``text`` if it may serve as the name of a client, combiner, session or package, or raise InvalidName."""
    if not _NAME.fullmatch(text):
        raise InvalidName(
            f"{text[:80]!r} cannot be a {kind}",
            remedy="Use 1 to 63 lower-case letters, digits, dots, dashes and underscores; "
            "begin and end with a letter or digit.",
        )
    return text
