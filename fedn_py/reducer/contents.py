"""What is inside compute packages and models, read from the object store as a stream.

Memory: a few MiB for a package or model of any size; a package's archive is a file while it is looked through.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from fedn_py.identity import Digest
from fedn_py.model.layout import ModelLayout, NotAModel, head_size, parse_layout
from fedn_py.model.statistics import ModelStatistics
from fedn_py.reducer.catalogue import Catalogue
from fedn_py.reducer.remembered import Remembered
from fedn_py.reducer.shown_contents import PackageFileView, TensorView
from fedn_py.transport.completion import in_thread

_ANSWERS_KEPT = 8


@dataclass(frozen=True, slots=True)
class _Begun:
    """A model whose header has come."""

    layout: ModelLayout
    statistics: ModelStatistics


class Contents:
    """Looks into packages and models, and remembers what the last few were like."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._files: Remembered[tuple[PackageFileView, ...]] = Remembered(_ANSWERS_KEPT)
        self._tensors: Remembered[tuple[TensorView, ...]] = Remembered(_ANSWERS_KEPT)

    async def package_files(self, digest: Digest) -> tuple[PackageFileView, ...]:
        """Return the files of a package, in the archive's order; raises UnknownPackage."""
        await self._catalogue.package(digest)

        async def find() -> tuple[PackageFileView, ...]:
            files = (await self._catalogue.package_contents(digest)).files
            return tuple(PackageFileView(path, size) for path, size in files.items())

        return await self._files.answer(digest, find)

    async def model_tensors(self, digest: Digest) -> tuple[TensorView, ...]:
        """Return the tensors of a model, in the order of their bytes; raises UnknownModel."""
        size, pieces = await self._catalogue.open_model(digest)
        return await self._tensors.answer(digest, lambda: _tensors(size, pieces))


async def _tensors(size: int, pieces: AsyncIterator[bytes]) -> tuple[TensorView, ...]:
    head = bytearray()
    begun: _Begun | None = None
    async for piece in pieces:
        if begun is not None:
            await in_thread(begun.statistics.add, piece)
            continue
        head += piece
        if len(head) >= head_size(bytes(head[:8])):
            begun = await in_thread(_begin, bytes(head), size)
            head.clear()
    if begun is None:
        raise NotAModel(f"it ends within its header ({size:,} bytes)")
    return await in_thread(_views, begun)


def _begin(head: bytes, size: int) -> _Begun:
    layout = parse_layout(head, size)
    statistics = ModelStatistics(layout)
    statistics.add(memoryview(head)[layout.header_size :])
    return _Begun(layout, statistics)


def _views(begun: _Begun) -> tuple[TensorView, ...]:
    return tuple(
        TensorView(
            spec.name, spec.dtype, spec.shape, spec.end - spec.begin, found.minimum, found.maximum, found.mean,
            found.deviation, found.zeros, found.not_finite,
        )
        for spec, found in zip(begun.layout.tensors, begun.statistics.tensors(), strict=True)
    )  # fmt: skip
