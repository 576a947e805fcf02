"""Model files on disk, mapped into memory rather than read."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedn_py.model.layout import ModelLayout, NotAModel, head_size, parse_layout


@contextmanager
def mapped_model(path: Path) -> Iterator[tuple[mmap.mmap, ModelLayout]]:
    """Map a model file and read its layout.

    Raises:
        NotAModel, UnsupportedModel: it is none, or one that is not taken.
    """
    if not path.stat().st_size:  # an empty file cannot be mapped
        raise NotAModel("it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield mapped, parse_layout(mapped[: head_size(mapped[:8])], len(mapped))


def read_layout(path: Path) -> ModelLayout:
    """Read the layout of a model file, reading no more than its header."""
    with mapped_model(path) as (_, layout):
        return layout
