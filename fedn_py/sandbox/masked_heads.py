"""What left the clients in masked rounds: the beginning of each one's last masked update, to be looked at.

The files are in the clients' own folders for as long as they may have to be sent again, which of a small model is a
tenth of a second: so they are looked for all the time. What is kept is what every server saw, and says nothing to who
has no mask.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedn_py.client.masked_memory import read_uploads
from fedn_py.client.state_folder import MASKED_FOLDER, MEMORY_FILE
from fedn_py.errors import FednError, PeerFault
from fedn_py.runtime.desk import WORDS_SHOWN
from fedn_py.sandbox.folder import SandboxFolder


class NothingMasked(PeerFault):
    """No masked update has been seen yet."""

    def __init__(self, client: str) -> None:
        super().__init__(
            f"no masked update of {client or 'any client'} has been seen since this sandbox started",
            remedy="Start a session whose masking is pet, and look again after its first round.",
        )


@dataclass(frozen=True, slots=True, eq=False)
class MaskedHead:
    """The beginning of a masked update.

    Attributes:
        order: counts what was seen.
        words: uint32[at most WORDS_SHOWN].
        n_words: of the whole.
    """

    order: int
    client: str
    session: str
    round: int
    words: npt.NDArray[np.uint32]
    n_words: int


class MaskedHeads:
    """Looks for masked updates and keeps the beginnings of the last ones."""

    def __init__(self, folder: SandboxFolder) -> None:
        self._folder = folder
        self._heads: dict[str, MaskedHead] = {}
        self._seen: dict[str, set[str]] = {}
        self._order = itertools.count(1)

    def look(self, clients: Iterable[str]) -> None:
        """Look into the folders of these clients. Blocking."""
        for client in clients:
            state = self._folder.state(client)
            there = {file.name: file for file in state.joinpath(MASKED_FOLDER).glob("upload-*")}
            before = self._seen.get(client, set()) & there.keys()
            new = {name for name in there.keys() - before if self._take(client, there[name], state / MEMORY_FILE)}
            self._seen[client] = before | new

    def newest(self, client: str = "") -> MaskedHead:
        """Return the last that was seen of a client, or of all; raises NothingMasked."""
        found = [head for head in self._heads.values() if client in {"", head.client}]
        if not found:
            raise NothingMasked(client)
        return max(found, key=lambda head: head.order)

    def _take(self, client: str, file: Path, memory: Path) -> bool:
        """Keep the beginning of a file; return whether there is no need to look at it again."""
        try:
            row = next((row for row in read_uploads(memory) if row.file_name == file.name), None)
            if row is None:
                return False  # it may not be sent before the client's memory has it
            words = np.fromfile(file, "<u4", WORDS_SHOWN).astype(np.uint32)
        except (OSError, FednError):
            return False  # its round ended in between
        session = row.session.hex()
        self._heads[client] = MaskedHead(next(self._order), client, session, row.round, words, row.size // 4)
        return True
