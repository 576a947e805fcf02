"""The Python client of a reducer's REST API.

Example:
    >>> from fedn_py.api import connect
    >>> network = connect()
    >>> network.status().phase
    'idle'
"""

import os
from pathlib import Path

from fedn_py.api.faults import (
    InvalidProfile,
    NotFromHere,
    ReducerUnreachable,
    RemoteRefusal,
    WaitedTooLong,
)
from fedn_py.api.network import Network
from fedn_py.api.profile import Profile, find_profile, load_profile
from fedn_py.api.rows import PandasMissing, Rows
from fedn_py.reducer.shown_sessions import SessionOptions

__all__ = [
    "InvalidProfile",
    "Network",
    "NotFromHere",
    "PandasMissing",
    "Profile",
    "ReducerUnreachable",
    "RemoteRefusal",
    "Rows",
    "SessionOptions",
    "WaitedTooLong",
    "connect",
    "find_profile",
    "load_profile",
]


def connect(profile: str | Path | None = None) -> Network:
    """Return the network of a profile: the one given, FEDN_PROFILE's, the sandbox's in this folder, or the user's."""
    return Network.of(load_profile(find_profile(Path(profile) if profile else None, os.environ, Path.cwd())))
