"""Models and compute packages, as people and programs see them, and what a check of their bytes found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fedn_py.identity import Digest, SessionId


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model of the trail.

    Attributes:
        number: the round that made it; 0 for a seed model.
        session, parent, package: None for a seed model.
        size: bytes.
        metrics_hidden: those of the validation whose mean is not shown, and why.
        clients: how many clients' updates are in it, of ``samples`` samples together.
    """

    digest: Digest
    number: int
    session: SessionId | None
    parent: Digest | None
    size: int
    created_at: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0
    metrics_hidden: Mapping[str, str] = field(default_factory=dict)
    clients: int = 0
    package: Digest | None = None


@dataclass(frozen=True, slots=True)
class PackageView:
    """One compute package.

    Attributes:
        size: bytes of the archive.
        files: how many are in it.
        entry_points: name to command.
    """

    digest: Digest
    name: str
    version: str
    size: int
    files: int
    entry_points: Mapping[str, str]
    created_at: float


@dataclass(frozen=True, slots=True)
class VerificationView:
    """How far an object is read, to see whether it is what its name says.

    Attributes:
        done, size: bytes.
        outcome: "reading" until it has ended; "unknown" where the store went away in between.
        fault: what is wrong and what to do, in words; empty while nothing is.
    """

    digest: Digest
    done: int
    size: int
    outcome: Literal["reading", "whole", "missing", "corrupt", "unknown"]
    fault: str = ""
