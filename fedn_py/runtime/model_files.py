"""Model files on disk, mapped into memory rather than read."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from fedn_py.model.layout import ModelLayout, NotAModel, head_size, parse_layout


class ModelFile:
    """A model file that stays open, whatever becomes of its name; close it.

    Attributes:
        layout: of its tensors.

    Raises:
        NotAModel, UnsupportedModel: it is none, or one that is not taken.
    """

    def __init__(self, path: Path) -> None:
        if not path.stat().st_size:  # an empty file cannot be mapped
            raise NotAModel("it is empty")
        self._file = path.open("rb")
        try:
            with self.mapped() as content:
                self.layout = parse_layout(content[: head_size(content[:8])], len(content))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def mapped(self) -> mmap.mmap:
        """Return its bytes, mapped into memory; close the map."""
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)


@contextmanager
def mapped_model(path: Path) -> Iterator[tuple[mmap.mmap, ModelLayout]]:
    """Map a model file and read its layout; raises as ``ModelFile`` does."""
    with ModelFile(path) as model, model.mapped() as content:
        yield content, model.layout


def read_layout(path: Path) -> ModelLayout:
    """Read the layout of a model file, reading no more than its header."""
    with ModelFile(path) as model:
        return model.layout
