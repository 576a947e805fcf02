"""The folder of masked updates and sealed answers that may have to be sent again, byte by byte the same."""

from contextlib import suppress
from pathlib import Path

from fedn_py.client.durable_files import StateDamaged
from fedn_py.client.masked_memory import MaskedMemory, unreferenced
from fedn_py.client.memory_rows import KeptAnswer, KeptUpload, answer_file_name
from fedn_py.runtime.scratch import disk_faults


class MaskedFiles:
    """The files that a client's memory names; all others are removed at start. Blocking.

    Args:
        folder: made if absent.
    """

    def __init__(self, folder: Path, memory: MaskedMemory) -> None:
        self._folder, self._memory = folder, memory
        with disk_faults("looking at the kept uploads and answers"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for file in unreferenced(folder.iterdir(), memory):
                file.unlink()

    def path(self, row: KeptUpload | KeptAnswer) -> Path:
        """Return the file of a row.

        Raises:
            StateDamaged: it is gone.
        """
        path = self._folder / row.file_name
        if not path.exists():
            raise StateDamaged(
                f"{path} is missing, and what it holds may have to be sent again",
                remedy="Nothing is to be done: once its round is over this client does without it.",
            )
        return path

    def upload_path(self, upload_id: bytes) -> Path:
        """Return where the bytes of an upload go."""
        return self._folder / f"upload-{upload_id.hex()}"

    def answer_path(self, ctx: bytes) -> Path:
        """Return where the stream of an answer goes."""
        return self._folder / answer_file_name(ctx)

    def tidy(self) -> None:
        """Remove the uploads that memory no longer names, but for those that are being made."""
        for file in unreferenced(self._folder.glob("upload-*"), self._memory):
            _remove(file)

    def drop_answer(self, answer: KeptAnswer) -> None:
        """Forget an answer, then remove its stream."""
        self._memory.drop_answer(answer.ctx)
        _remove(self.answer_path(answer.ctx))


def _remove(file: Path) -> None:
    with suppress(OSError):  # what cannot be removed now is at the next start; nobody uses it
        file.unlink()
