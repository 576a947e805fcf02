"""An update as the two models that it leads between."""

import contextlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import numpy as np

from fedn_py.errors import OwnFault
from fedn_py.model.pieces import Elements, gathered
from fedn_py.model.vector import Tensor, difference, difference_in_memory
from fedn_py.runtime.model_files import ModelFile
from fedn_py.transport.chunks import CHUNK_BYTES
from fedn_py.transport.parts import Chunk, Pieces


class TensorsChanged(OwnFault):
    """A participant wrote to the arrays that it had returned."""

    def __init__(self) -> None:
        super().__init__(
            "the arrays that the participant's train returned were changed before the update was sent",
            remedy="Return copies of arrays that your code goes on using between two calls of train.",
        )


class UpdateValues:
    """The values of an update, made anew whenever they are asked for.

    To take the difference of two models twice costs less than to write it to a file and to read that. Both models are
    held until this is closed, whatever becomes of their names in the meantime. Blocking, for a worker thread.

    Args:
        trained: file of the new model, or its tensors, which nobody may change while this has them.

    Attributes:
        count: how many they are.
        dtype: of each, '<f4' or '<f8'.
        size: bytes of all.

    Raises:
        NotAModel, UnsupportedModel: a file holds none.
    """

    def __init__(self, base: Path, trained: Path | Mapping[str, Tensor]) -> None:
        with contextlib.ExitStack() as opened:
            self._base = opened.enter_context(ModelFile(base))
            self._trained: ModelFile | Mapping[str, Tensor] = (
                opened.enter_context(ModelFile(trained)) if isinstance(trained, Path) else trained
            )
            self._opened = opened.pop_all()
        self._totals: dict[tuple[int, int], int] = {}
        layout = self._base.layout
        self.count, self.dtype, self.size = layout.n_parameters, layout.update_dtype, layout.update_size

    def close(self) -> None:
        """Let go of both models."""
        self._opened.close()
        self._trained = {}

    def pieces(self, first: int = 0) -> Iterator[Elements]:
        """Yield the values, in arrays of any length.

        Args:
            first: number of the value to begin with.

        Raises:
            WrongShape, MissingTensor, UnexpectedTensor, WrongDtype: the new model is not of the base's form.
            NotFinite: names the tensor.
            TensorsChanged: they are not what they were when they were asked for first.
        """
        with self._base.mapped() as old:
            if not isinstance(self._trained, ModelFile):
                made = difference_in_memory(self._trained, old, self._base.layout, first=first)
                yield from self._unchanged(made, first)
                return
            with self._trained.mapped() as new:
                yield from difference(new, old, self._trained.layout, self._base.layout, first=first)

    def _unchanged(self, pieces: Iterator[Elements], place: int) -> Iterator[Elements]:
        # To add the bits up takes a tenth of the time that a hash takes, and finds what is not meant to deceive.
        for piece in pieces:
            total = int(np.add.reduce(piece.view(np.uint32), dtype=np.uint64))
            if self._totals.setdefault((place, len(piece)), total) != total:
                raise TensorsChanged
            yield piece
            place += len(piece)

    def chunks(self, offset: int) -> Generator[Pieces, None, None]:
        """Yield their bytes from an offset on, in chunks of the size that is sent."""
        item = int(self.dtype[-1])
        skipped = offset % item
        for group in gathered(self.pieces(offset // item), CHUNK_BYTES // item):
            chunk: list[Chunk] = [piece.data.cast("B") for piece in group]
            yield (memoryview(chunk[0])[skipped:], *chunk[1:])
            skipped = 0
