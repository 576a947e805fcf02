"""The folder of masked updates and sealed answers that may have to be sent again, byte by byte the same."""

from contextlib import suppress
from pathlib import Path

from fedn_py.client.durable_files import StateDamaged
from fedn_py.client.masked_memory import MaskedMemory, unreferenced
from fedn_py.client.memory_rows import KeptAnswer, KeptUpload, answer_file_name
from fedn_py.client.objects import hashes_to
from fedn_py.identity import Digest
from fedn_py.runtime.scratch import disk_faults

_UPLOAD = "upload-"


class MaskedFiles:
    """The files that a client's memory names; all others are removed at start. Blocking.

    Args:
        folder: made if absent.
    """

    def __init__(self, folder: Path, memory: MaskedMemory) -> None:
        self._folder, self._memory = folder, memory
        self._looked_at: set[bytes] = set()
        with disk_faults("looking at the kept uploads and answers"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for file in unreferenced(folder.iterdir(), memory):
                file.unlink()

    def path(self, row: KeptUpload | KeptAnswer) -> Path:
        """Return the file of a row.

        Raises:
            StateDamaged: it is gone, or a power cut has spoilt it.
        """
        path = self._folder / row.file_name
        if not path.exists():
            raise _damaged(path, "is missing")
        if isinstance(row, KeptUpload) and row.upload_id not in self._looked_at:
            # Written by an earlier life of this process, and not synced: after a power cut it may be anything.
            if not hashes_to(path, Digest(row.sha256.hex())):
                raise _damaged(path, "is not what was written")
            self._looked_at.add(row.upload_id)
        return path

    def sealed(self, upload_id: bytes) -> None:
        """Learn that this life of the process has written an upload."""
        self._looked_at.add(upload_id)

    def upload_path(self, upload_id: bytes) -> Path:
        """Return where the bytes of an upload go."""
        return self._folder / f"{_UPLOAD}{upload_id.hex()}"

    def answer_path(self, ctx: bytes) -> Path:
        """Return where the stream of an answer goes."""
        return self._folder / answer_file_name(ctx)

    def tidy(self) -> None:
        """Remove the uploads that memory no longer names, but for those that are being made."""
        for file in unreferenced(self._folder.iterdir(), self._memory):
            if file.name.startswith(_UPLOAD):
                _remove(file)
        self._looked_at &= {row.upload_id for row in self._memory.uploads()}

    def drop_answer(self, answer: KeptAnswer) -> None:
        """Forget an answer, then remove its stream."""
        self._memory.drop_answer(answer.ctx)
        _remove(self.answer_path(answer.ctx))


def _damaged(path: Path, how: str) -> StateDamaged:
    return StateDamaged(
        f"{path} {how}, and what it holds may have to be sent again",
        remedy="Nothing is to be done: once its round is over this client does without it.",
    )


def _remove(file: Path) -> None:
    with suppress(OSError):  # what cannot be removed now is at the next start; nobody uses it
        file.unlink()
