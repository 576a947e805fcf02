"""An update as the two models that it leads between."""

import contextlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

from fedn_py.model.pieces import Elements, gathered
from fedn_py.model.vector import Tensor, difference, difference_in_memory
from fedn_py.runtime.model_files import ModelFile
from fedn_py.transport.chunks import CHUNK_BYTES
from fedn_py.transport.parts import Chunk, Pieces


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
        layout = self._base.layout
        self.count, self.dtype, self.size = layout.n_parameters, layout.update_dtype, layout.update_size

    def close(self) -> None:
        """Let go of both models."""
        self._opened.close()
        self._trained = {}

    def pieces(self) -> Iterator[Elements]:
        """Yield the values, in arrays of any length.

        Raises:
            WrongShape, MissingTensor, UnexpectedTensor, WrongDtype: the new model is not of the base's form.
            NotFinite: names the tensor.
        """
        with self._base.mapped() as old:
            if not isinstance(self._trained, ModelFile):
                yield from difference_in_memory(self._trained, old, self._base.layout)
                return
            with self._trained.mapped() as new:
                yield from difference(new, old, self._trained.layout, self._base.layout)

    def chunks(self, offset: int) -> Generator[Pieces, None, None]:
        """Yield their bytes from an offset on, in chunks of the size that is sent."""
        for group in gathered(self.pieces(), CHUNK_BYTES // int(self.dtype[-1])):
            chunk: list[Chunk] = []
            for piece in group:
                content = piece.data.cast("B")
                if offset < len(content):
                    chunk.append(content[offset:])
                offset = max(0, offset - len(content))
            if chunk:
                yield tuple(chunk)
