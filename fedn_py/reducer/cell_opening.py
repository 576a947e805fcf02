"""One masked cell, opened from its files: which versions of its sum its answers make, and which of them is true.

Every version is opened whole, and its guards tell. Nothing of a version is used before its last word was seen, each
mask sum in it was found to be what its member's digest says, and its tail held.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import Digest
from fedn_py.masking.fixed_point import Encoding, OpenedTail, UnmaskCheckFailed
from fedn_py.masking.keystream import CHUNK_WORDS, Words
from fedn_py.masking.scheme import Opening
from fedn_py.masking.schemes import PET, SCHEMES
from fedn_py.model.pieces import WrongLength
from fedn_py.protocol.masked.answers import (
    PIECE_BYTES,
    TAG_BYTES,
    AnswerKey,
    AnswerPlace,
    BadAnswer,
    open_stream,
    unseal_key,
)
from fedn_py.protocol.masked.contexts import WrongContext
from fedn_py.protocol.masked.replicas import Choice, judge, trials
from fedn_py.protocol.masked.round_messages import Answer
from fedn_py.protocol.masked.signing import Signed, read_signed

Sums = npt.NDArray[np.int32]

_MOST_THREADS = 4
_PIECE_CHUNKS = PIECE_BYTES // (4 * CHUNK_WORDS)


class SlotUnanswered(PeerFault):
    """A slot's mask sum is not stored, so that no version of the sum can be tried."""

    def __init__(self, slot: int) -> None:
        super().__init__(
            f"no mask sum of slot {slot} is stored",
            remedy="The stream of one of its members is asked for; if there is none, the cell is left out.",
        )
        self.slot = slot


@dataclass(frozen=True, slots=True)
class CellToOpen:
    """One closed cell of an attempt that is being opened.

    Attributes:
        included_hash: H(U) of its set.
        n: how many clients are in the set.
        partial: digest of the combiner's sum of masked updates, uint32[L] little-endian.
        answers: member to its signed answer, as the attempt has accepted it.
        streams: member to the digest of its stored sealed stream; one of each slot is enough.
        mode: the way of masking, as the plan names it.
    """

    ctx: bytes
    included_hash: bytes
    n: int
    partial: Digest
    answers: Mapping[bytes, Signed]
    streams: Mapping[bytes, Digest]
    mode: str = PET


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """What came of opening one cell.

    Attributes:
        fault: why its sum is not used; None where it passed all checks.
        wrong: members whose answer or stream is not what it should be.
        wanted: members whose stream is missing and would make a version that was not tried. Where there is a fault,
            the cell may open with them; where there is none, they show whether a second version looks true as well.
    """

    fault: FednError | None
    wrong: frozenset[bytes] = frozenset()
    wanted: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class CellFiles:
    """Where a cell's masked sum is, and the sealed streams of its members.

    Attributes:
        is_whole: asked of a stream that does not open, whether its file is what was stored.
    """

    partial: Path
    streams: Mapping[bytes, Path]
    is_whole: Callable[[Path], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class _Said:
    """What one member's answer says, unsealed."""

    place: AnswerPlace
    key: AnswerKey


class CellTrials:
    """One cell's versions; heavy, for a worker thread.

    Args:
        rsk: the attempt's secret key.
        sums: int32[n_parameters], filled with the opened sums; to be used only where the outcome has no fault.
    """

    def __init__(self, cell: CellToOpen, encoding: Encoding, rsk: bytes, files: CellFiles, sums: Sums) -> None:
        self._cell, self._encoding, self._files, self._sums = cell, encoding, files, sums
        self._plain_bytes = 4 * encoding.n_words
        self._streams = set(files.streams)
        self._slots: dict[int, list[bytes]] = {}
        self._said: dict[bytes, _Said] = {}
        self._refused: dict[bytes, FednError] = {}
        for member, signed in cell.answers.items():
            try:
                self._said[member] = self._unsealed(member, signed, rsk)
            except PeerFault as fault:
                self._refused[member] = fault

    def _unsealed(self, member: bytes, signed: Signed, rsk: bytes) -> _Said:
        cell, answer = self._cell, read_signed(signed, Answer)
        self._slots.setdefault(answer.slot, []).append(member)
        if (answer.ctx, answer.included_hash) != (cell.ctx, cell.included_hash):
            raise WrongContext(Answer.kind)
        if cell.streams.get(member, answer.stream_hash.hex()) != answer.stream_hash.hex():
            raise BadAnswer(member, "its stream is not the one that its answer names")
        place = AnswerPlace(cell.ctx, cell.included_hash, member, answer.slot)
        return _Said(place, unseal_key(place, answer.sealed_key, rsk))

    def outcome(self) -> tuple[CellOutcome, OpenedTail | None]:
        """Try what can be tried; return what came of it, and what the sum says beside its parameters."""
        try:
            choice, tail = self._judged()
        except (UnmaskCheckFailed, BadAnswer, SlotUnanswered, WrongContext) as fault:
            return CellOutcome(fault, frozenset(self._refused), self._wanted()), None
        except PeerFault as fault:  # whatever the members send, it does not open
            return CellOutcome(fault, frozenset(self._refused)), None
        believed = dict(zip(sorted(self._slots), choice, strict=True))
        wrong = {member for member, said in self._said.items() if said.key.digest != believed[said.place.slot]}
        return CellOutcome(None, frozenset(wrong | set(self._refused)), self._wanted()), tail

    # ---- which version

    def _judged(self) -> tuple[Choice, OpenedTail]:
        """Return the one version that is true, or raise what is wrong with all of them."""
        if not self._slots:
            raise UnmaskCheckFailed("slots", "no member has answered")
        while True:
            digests = {slot: self._at_hand(slot) for slot in self._slots}
            try:
                return self._true_one(digests)
            except BadAnswer as fault:  # without this stream, for good: there is an end to them
                self._streams.discard(fault.member)
                if self._files.is_whole(self._files.streams[fault.member]):
                    self._refused[fault.member] = fault  # otherwise the store's fault: as if it had not come yet

    def _true_one(self, digests: Mapping[int, Mapping[bytes, bytes]]) -> tuple[Choice, OpenedTail]:
        versions = trials(digests)
        if len(versions) == 1:
            return versions[0], self._opened(versions[0])
        choice = judge(digests, {version: self._passes(version) for version in versions}).choice
        return choice, self._opened(choice)  # again: another version was opened last

    def _passes(self, version: Choice) -> bool:
        try:
            self._opened(version)
        except UnmaskCheckFailed:
            return False
        return True

    def _at_hand(self, slot: int) -> dict[bytes, bytes]:
        """Return member to digest, of those who answered with a mask sum whose stream is here.

        Raises:
            SlotUnanswered, or what is wrong with the slot's answers: there is none.
        """
        here = self._digests(slot, self._streams)
        digests = {member: digest for member, digest in self._digests(slot).items() if digest in here.values()}
        if not digests:
            faults = [self._refused[member] for member in self._slots[slot] if member in self._refused]
            raise faults[-1] if faults else SlotUnanswered(slot)
        return digests

    def _digests(self, slot: int, of: Container[bytes] | None = None) -> dict[bytes, bytes]:
        """Return member to digest, of the slot's usable answers; only those of some members where given."""
        usable = [one for one in self._slots[slot] if one not in self._refused and (of is None or one in of)]
        return {member: self._said[member].key.digest for member in usable}

    def _wanted(self) -> frozenset[bytes]:
        """Return, for each mask sum that was not tried, who answered first with it."""
        wanted: dict[tuple[int, bytes], bytes] = {}
        for slot in self._slots:
            here = self._digests(slot, self._streams).values()
            for member, digest in self._digests(slot).items():
                if digest not in here:
                    wanted.setdefault((slot, digest), member)
        return frozenset(wanted.values())

    # ---- one version

    def _opened(self, version: Choice) -> OpenedTail:
        """Open one version into ``sums``.

        Raises:
            BadAnswer: of a member whose stream is not what it says.
            UnmaskCheckFailed: the version is not true.
            WrongLength, CannotHold: no version can be.
        """
        size = self._files.partial.stat().st_size
        if size != self._plain_bytes:
            raise WrongLength("the masked sum of a cell", size, self._plain_bytes)
        opening = SCHEMES[self._cell.mode].opening(self._encoding, self._cell.n)
        with ExitStack() as files, ThreadPoolExecutor(_MOST_THREADS, "opening") as threads:
            partial = _pieces(files.enter_context(self._files.partial.open("rb")), PIECE_BYTES)
            slot_sums = [
                _ahead(threads, self._stream(files, self._source(slot, digest)))
                for slot, digest in zip(sorted(self._slots), version, strict=True)
            ]
            # Strict: every stream is drawn to its end, where its digest is looked at.
            for number, pieces in enumerate(zip(partial, *slot_sums, strict=True)):
                self._open_piece(opening, number * _PIECE_CHUNKS, [np.frombuffer(piece, "<u4") for piece in pieces])
        return opening.tail()

    def _open_piece(self, opening: Opening, first: int, words: Sequence[Words]) -> None:
        """Open the chunks of one piece of the masked sum and of each slot's mask sum."""
        for offset in range(0, len(words[0]), CHUNK_WORDS):
            masked, *slot_sums = (part[offset : offset + CHUNK_WORDS] for part in words)
            number = first + offset // CHUNK_WORDS
            sums = opening.chunk(number, masked, slot_sums)
            start = number * CHUNK_WORDS
            self._sums[start : start + len(sums)] = sums

    def _source(self, slot: int, digest: bytes) -> bytes:
        """Return whose stream to read a slot's mask sum from."""
        return next(member for member, said in self._digests(slot, self._streams).items() if said == digest)

    def _stream(self, files: ExitStack, member: bytes) -> Iterator[bytes]:
        """Yield a member's mask sum; raises BadAnswer, at the latest at its end."""
        said = self._said[member]
        file = files.enter_context(self._files.streams[member].open("rb"))
        return open_stream(said.place, said.key, _pieces(file, PIECE_BYTES + TAG_BYTES), self._plain_bytes)


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while piece := file.read(size):
        yield piece


def _ahead(threads: ThreadPoolExecutor, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pass pieces on while a thread makes the next one: slots are opened side by side."""
    coming = threads.submit(next, pieces, None)
    while (piece := coming.result()) is not None:
        coming = threads.submit(next, pieces, None)
        yield piece
