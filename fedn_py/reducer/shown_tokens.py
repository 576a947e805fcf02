"""Tokens as people and programs see them, and who shows one."""

from dataclasses import dataclass
from typing import Literal

from fedn_py.identity import TokenId

Role = Literal["admin", "viewer", "combiner", "client"]
"""What a token is for: admin may all, viewer may look, combiner and client may join."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as their token says."""

    token: TokenId
    role: Role
    label: str


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token, without its secret.

    Attributes:
        not_after: when it expires.
        last_used: None when it never was.
    """

    id: TokenId
    role: Role
    label: str
    created: float
    not_after: float
    revoked: bool
    last_used: float | None
