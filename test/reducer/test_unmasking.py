"""Masked cells opened, added and made into a model: exact, checked to the last word, and never on a disk."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from artifacts import a_model, chunked, names_in
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_world import RPK, RSK, bytes_of, key_of

from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.masking.fixed_point import CannotHold, Encoder, Encoding, UnmaskCheckFailed
from fedn_py.masking.keystream import chunk_sizes
from fedn_py.masking.pet import Masker, MaskSum, add_masked, mask_key
from fedn_py.model.pieces import WrongLength
from fedn_py.model.vector import NotFinite
from fedn_py.protocol.masked.answers import PIECE_BYTES, AnswerPlace, AnswerSealer, BadAnswer, sealed_bytes
from fedn_py.protocol.masked.contexts import WrongContext
from fedn_py.protocol.masked.replicas import ReplicasDisagree
from fedn_py.protocol.masked.round_messages import Answer
from fedn_py.protocol.masked.signing import Signed, sign
from fedn_py.reducer import unmasking
from fedn_py.reducer.cell_opening import SlotUnanswered
from fedn_py.reducer.unmasking import (
    CellOutcome,
    CellToOpen,
    MaskedModel,
    OpenedCells,
    OtherCellsOpened,
    masked_model,
    open_cells,
)
from fedn_py.runtime.scratch import DiskFailed
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.ports import ObjectCorrupt, ObjectMissing, StoreUnavailable

METRICS = ("clip_fraction", "has clip_fraction", "loss", "has loss")
BOUNDS = (1.0, 1.0, 8.0, 1.0)


def an_encoding(n: int = 20, **changed: object) -> Encoding:
    terms = {"clip": 1.0, "n_max": 10, "weight_cap": 100, "metric_bounds": BOUNDS, **changed}
    return Encoding(n, **terms)  # type: ignore[arg-type]


def by_chunks(n_words: int) -> list[tuple[int, slice]]:
    starts = np.cumsum([0, *chunk_sizes(n_words)])
    return [(number, slice(starts[number], starts[number + 1])) for number in range(len(starts) - 1)]


def encoded(encoding: Encoding, name: str, values: np.ndarray, samples: int, metrics: Sequence[float]) -> np.ndarray:
    out = np.empty(encoding.n_words, np.uint32)
    encoder = Encoder(encoding, samples, tuple(metrics), bytes_of(f"rounding {name}"))
    for number, part in by_chunks(len(out)):
        encoder.chunk(number, values[part], out[part])
    return out


@dataclass
class ACell:
    """A cell as its clients, its combiner and its members make it; tests spoil what they like before it is stored."""

    name: str
    encoding: Encoding
    k: int = 2
    r: int = 1
    n: int = 3
    seed: int = 0
    words: list[np.ndarray] = field(default_factory=list)
    partial: bytes = b""
    slot_sums: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    answers: dict[bytes, Signed] = field(default_factory=dict)
    streams: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random = np.random.default_rng([self.seed, len(self.name), *self.name.encode()])
        self.values = [random.normal(0, 0.4, self.encoding.n_parameters).astype(np.float32) for _ in range(self.n)]
        self.samples = [int(count) for count in random.integers(1, 150, self.n)]
        self.metrics = [(float(random.uniform(0, 1)), 1.0, float(random.uniform(-8, 8)), 1.0) for _ in range(self.n)]
        self.metrics[-1] = (*self.metrics[-1][:2], 0.0, 0.0)  # the last one gives no loss

    @property
    def ctx(self) -> bytes:
        return bytes_of(f"ctx {self.name}")

    @property
    def included_hash(self) -> bytes:
        return bytes_of(f"included {self.name}")

    def member(self, slot: int, replica: int = 0) -> bytes:
        return bytes_of(f"member {self.name} {slot} {replica}")

    def keys(self, client: int) -> list[bytes]:
        who = bytes_of(f"client {self.name} {client}")
        return [mask_key(self.ctx, who, slot, bytes_of(f"seed {self.name} {client} {slot}")) for slot in range(self.k)]

    def masked(self, client: int) -> np.ndarray:
        out = np.empty(self.encoding.n_words, np.uint32)
        rounding = bytes_of(f"rounding {self.name} {client}")
        masker = Masker(Encoder(self.encoding, self.samples[client], self.metrics[client], rounding), self.keys(client))
        for number, part in by_chunks(len(out)):
            masker.chunk(number, self.values[client][part], out[part])
        return out

    def made(self) -> "ACell":
        """Everybody does what they should."""
        total = np.zeros(self.encoding.n_words, np.uint32)
        for client in range(self.n):
            add_masked(total, self.masked(client))
        self.partial = total.tobytes()
        for slot in range(self.k):
            for replica in range(self.r):
                self.answer(slot, replica, self.slot_sum(slot))
        return self

    def slot_sum(self, slot: int) -> np.ndarray:
        out = np.empty(self.encoding.n_words, np.uint32)
        mask_sum = MaskSum(self.keys(client)[slot] for client in range(self.n))
        for number, part in by_chunks(len(out)):
            mask_sum.chunk(number, out[part])
        return out

    def answer(self, slot: int, replica: int, words: np.ndarray, *, rpk: bytes = RPK, **changed: object) -> None:
        member, plain = self.member(slot, replica), words.tobytes()
        place = AnswerPlace(self.ctx, self.included_hash, member, slot)
        sealer = AnswerSealer(place, bytes_of(f"key {member.hex()} {plain[:64].hex()}"))
        starts = range(0, len(plain), PIECE_BYTES)
        stream = b"".join(
            sealer.piece(plain[start : start + PIECE_BYTES], last=start == starts[-1]) for start in starts
        )
        sealed_key, stream_hash = sealer.finish(rpk, bytes_of(f"ephemeral {member.hex()}"))
        nonce, size = bytes_of("nonce"), sealed_bytes(len(plain))
        said = Answer(self.ctx, self.included_hash, slot, nonce, sealed_key, stream_hash, size)
        self.answers[member] = sign(replace(said, **changed), key_of(member.hex()))  # type: ignore[arg-type]
        self.streams[member] = stream

    async def stored(self, objects: MemoryObjects) -> CellToOpen:
        partial = (await objects.put(chunked(self.partial, 70_000))).digest
        streams = {member: (await objects.put(chunked(one, 70_000))).digest for member, one in self.streams.items()}
        return CellToOpen(self.ctx, self.included_hash, self.n, partial, dict(self.answers), streams)

    def exact(self) -> tuple[list[int], int]:
        """The sums of the encoded parameters and of the weights, in Python's integers."""
        rows = [
            encoded(
                self.encoding, f"{self.name} {client}", self.values[client], self.samples[client], self.metrics[client]
            )
            for client in range(self.n)
        ]
        sums = [sum(int(word) for word in column) for column in zip(*(row.view(np.int32) for row in rows), strict=True)]
        d = self.encoding.n_parameters
        return sums[:d], sums[d]


def a_base(n: int, dtype: str = "F32") -> bytes:
    return a_model({"w": (dtype, np.random.default_rng(9).normal(size=n)), "steps": ("I64", (7,))})


def opened(scratch: Path, *cells: ACell, objects: MemoryObjects | None = None) -> OpenedCells:
    async def story() -> OpenedCells:
        kept = objects or MemoryObjects()
        return await open_cells(kept, [await one.stored(kept) for one in cells], cells[0].encoding, RSK, scratch)

    found = asyncio.run(story())
    assert names_in(scratch) == []
    return found


def the_outcome(scratch: Path, cell: ACell) -> CellOutcome:
    return opened(scratch, cell).outcomes[cell.ctx]


def the_model(
    scratch: Path, cells: Sequence[ACell], base: bytes, names: Sequence[str] = METRICS
) -> tuple[bytes, MaskedModel]:
    async def story() -> tuple[bytes, MaskedModel]:
        objects, encoding = MemoryObjects(), cells[0].encoding
        parent = (await objects.put(chunked(base))).digest
        found = await open_cells(objects, [await one.stored(objects) for one in cells], encoding, RSK, scratch)
        assert all(outcome == CellOutcome(None) for outcome in found.outcomes.values())
        ctxs = [one.ctx for one in cells]
        made = await masked_model(objects, parent, found, ctxs, encoding, names, scratch)
        assert made.stat.size == len(base)
        return objects.contents[made.stat.digest], made

    found = asyncio.run(story())
    assert names_in(scratch) == []
    return found


# ---- what comes out


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 10), min_size=1, max_size=3),
    k=st.integers(1, 4),
    n=st.sampled_from([1, 20, 700]),
    seed=st.integers(0, 1000),
)
def test_the_model_is_the_base_and_the_mean_in_exact_integers(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], k: int, n: int, seed: int
) -> None:
    encoding, base = an_encoding(n), a_base(n, "F64")
    cells = [ACell(f"cell{place}", encoding, k=k, n=size, seed=seed).made() for place, size in enumerate(sizes)]
    model, made = the_model(tmp_path_factory.mktemp("exact"), cells, base)
    exact = [cell.exact() for cell in cells]
    weight = sum(weight for _, weight in exact)
    got = safetensors.numpy.load(model)["w"]
    before = safetensors.numpy.load(base)["w"]
    for place in range(n):
        total = sum(sums[place] for sums, _ in exact)
        mean = Fraction(total) / Fraction(encoding.scale) / Fraction(weight, encoding.weight_cap)
        assert abs(Fraction(float(got[place])) - Fraction(float(before[place])) - mean) < Fraction(1, 2**50)
    assert made.samples == weight == sum(min(one, 100) for cell in cells for one in cell.samples)


@pytest.mark.parametrize("n", [20, PIECE_BYTES // 4 - 13, PIECE_BYTES // 4 - 12, PIECE_BYTES // 4 + 5, 300_000])
def test_the_mean_is_within_its_bound_of_floating_point_whatever_the_pieces(tmp_path: Path, n: int) -> None:
    encoding = an_encoding(n)
    cells = [ACell("north", encoding, k=3).made(), ACell("south", encoding, k=3, n=2).made()]
    model, _ = the_model(tmp_path, cells, a_base(n, "F64"))
    weights = np.array([min(one, 100) for cell in cells for one in cell.samples], np.float64)
    values = np.clip(np.array([one for cell in cells for one in cell.values], np.float64), -1, 1)
    oracle = weights @ values / weights.sum()
    mean = safetensors.numpy.load(model)["w"] - safetensors.numpy.load(a_base(n, "F64"))["w"]
    assert np.abs(mean - oracle).max() <= encoding.error_bound(5, int(weights.sum())) + 1e-15


def test_integers_keep_the_values_of_the_base(tmp_path: Path) -> None:
    model, _ = the_model(tmp_path, [ACell("north", an_encoding()).made()], a_base(20))
    assert list(safetensors.numpy.load(model)["steps"]) == [7]


def test_metrics_are_the_means_over_those_who_gave_them(tmp_path: Path) -> None:
    cells = [
        ACell("north", an_encoding(weight_cap=150)).made(),
        ACell("south", an_encoding(weight_cap=150), n=2).made(),
    ]
    _, made = the_model(tmp_path, cells, a_base(20))
    given_ = [(w, m) for cell in cells for w, m in zip(cell.samples, cell.metrics, strict=True)]
    losses = [(w, m[2]) for w, m in given_ if m[3]]
    assert set(made.metrics) == {"clip_fraction", "loss"}
    assert made.metrics["clip_fraction"] == pytest.approx(
        sum(w * m[0] for w, m in given_) / sum(w for w, _ in given_), abs=1e-5
    )
    assert made.metrics["loss"] == pytest.approx(sum(w * m for w, m in losses) / sum(w for w, _ in losses), abs=1e-4)


def test_a_metric_that_nobody_gave_is_absent(tmp_path: Path) -> None:
    cell = ACell("north", an_encoding())
    cell.metrics = [(0.5, 1.0, 0.0, 0.0)] * cell.n
    _, made = the_model(tmp_path, [cell.made()], a_base(20))
    assert made.metrics == {"clip_fraction": pytest.approx(0.5, abs=1e-5)}


def test_a_metric_at_its_bound_does_not_come_out_beyond_it(tmp_path: Path) -> None:
    cell = ACell("north", an_encoding(n_max=10, weight_cap=100_000_000))
    cell.samples, cell.metrics = [1, 1, 1], [(1.0, 1.0, -8.0, 1.0)] * cell.n
    _, made = the_model(tmp_path, [cell.made()], a_base(20))
    assert made.metrics["clip_fraction"] <= 1.0
    assert made.metrics["loss"] >= -8.0


def test_samples_are_counted_in_the_unit_of_the_weights(tmp_path: Path) -> None:
    cell = ACell("north", an_encoding(weight_unit=10))
    cell.samples = [10, 40, 1_000]
    _, made = the_model(tmp_path, [cell.made()], a_base(20))
    assert made.samples == 1_050


def test_the_same_cells_in_another_order_make_the_same_model(tmp_path: Path) -> None:
    cells = [ACell("north", an_encoding()).made(), ACell("south", an_encoding(), n=5).made()]
    assert the_model(tmp_path, cells, a_base(20))[0] == the_model(tmp_path, cells[::-1], a_base(20))[0]


# ---- what does not open


def test_a_damaged_partial_is_named_wherever_the_byte_is(tmp_path: Path) -> None:
    async def story() -> None:
        cell = ACell("north", an_encoding()).made()
        for place in range(0, len(cell.partial), 7):
            objects = MemoryObjects()
            asked = await cell.stored(objects)
            objects.contents[asked.partial] = flipped(cell.partial, place)
            found = await open_cells(objects, [asked], cell.encoding, RSK, tmp_path)
            assert isinstance(found.outcomes[cell.ctx].fault, ObjectCorrupt)
            assert found.outcomes[cell.ctx].wanted == frozenset()

    asyncio.run(story())


def test_a_stream_that_was_altered_is_refused_wherever_the_byte_is(tmp_path: Path) -> None:
    made = ACell("north", an_encoding()).made()
    member = made.member(1)
    for place in range(len(made.streams[member])):
        streams = {**made.streams, member: flipped(made.streams[member], place)}
        outcome = the_outcome(tmp_path, replace_streams(made, streams))
        assert isinstance(outcome.fault, BadAnswer)
        assert outcome.fault.member == member
        assert outcome.wrong == {member}
        assert outcome.wanted == frozenset()


@pytest.mark.parametrize("n", [20, 300_000])
@pytest.mark.parametrize("change", [lambda s: s[:-1], lambda s: s + b"\0", lambda s: b"", lambda s: s[:100]])
def test_a_stream_that_was_cut_or_continued_is_refused(tmp_path: Path, n: int, change: object) -> None:
    made = ACell("north", an_encoding(n)).made()
    member = made.member(0)
    streams = {**made.streams, member: change(made.streams[member])}  # type: ignore[operator]
    assert isinstance(the_outcome(tmp_path, replace_streams(made, streams)).fault, BadAnswer)


def test_swapped_streams_are_refused(tmp_path: Path) -> None:
    made = ACell("north", an_encoding()).made()
    one, other = made.member(0), made.member(1)
    streams = {one: made.streams[other], other: made.streams[one]}
    outcome = the_outcome(tmp_path, replace_streams(made, streams))
    assert isinstance(outcome.fault, BadAnswer)


def test_the_stream_of_another_answer_of_the_same_member_is_refused(tmp_path: Path) -> None:
    made = ACell("north", an_encoding()).made()
    before = made.streams[made.member(0)]
    made.answer(0, 0, made.slot_sum(0), stream_hash=bytes_of("another stream"))
    outcome = the_outcome(tmp_path, replace_streams(made, {**made.streams, made.member(0): before}))
    assert isinstance(outcome.fault, BadAnswer)
    assert outcome.wrong == {made.member(0)}


def test_a_digest_of_another_mask_sum_is_refused(tmp_path: Path) -> None:
    """The stream opens piece by piece; only its end shows that it is not what the sealed digest says."""
    cell = ACell("north", an_encoding())
    made = cell.made()
    lying = ACell("north", an_encoding())
    place = AnswerPlace(cell.ctx, cell.included_hash, cell.member(0), 0)
    sealer = AnswerSealer(place, bytes_of("key"))
    stream = sealer.piece(made.slot_sum(0).tobytes(), last=True)
    sealer._digest.update(b"something else")  # type: ignore[attr-defined]
    sealed_key, stream_hash = sealer.finish(RPK, bytes_of("ephemeral"))
    lying.partial, lying.answers, lying.streams = made.partial, dict(made.answers), dict(made.streams)
    said = Answer(cell.ctx, cell.included_hash, 0, bytes_of("n"), sealed_key, stream_hash, len(stream))
    lying.answers[cell.member(0)], lying.streams[cell.member(0)] = sign(said, key_of("x")), stream
    outcome = the_outcome(tmp_path, lying)
    assert isinstance(outcome.fault, BadAnswer)
    assert "digest" in outcome.fault.message


@pytest.mark.parametrize("clients", [(0, 1, 2, 2), (0, 1), (0, 1, 1)])
def test_a_doubled_or_missing_vector_shows(tmp_path: Path, clients: tuple[int, ...]) -> None:
    made = ACell("north", an_encoding()).made()
    total = np.zeros(made.encoding.n_words, np.uint32)
    for client in clients:
        add_masked(total, made.masked(client))
    made.partial = total.tobytes()
    found = opened(tmp_path, made)
    assert isinstance(found.outcomes[made.ctx].fault, UnmaskCheckFailed)
    assert found.passed == frozenset()


def test_a_wrong_slot_sum_shows(tmp_path: Path) -> None:
    made = ACell("north", an_encoding()).made()
    made.answer(1, 0, made.slot_sum(0))
    outcome = the_outcome(tmp_path, made)
    assert isinstance(outcome.fault, UnmaskCheckFailed)
    assert outcome.wrong == frozenset()


def test_random_words_with_a_right_tail_show(tmp_path: Path) -> None:
    made = ACell("north", an_encoding(64)).made()
    words = np.frombuffer(made.partial, np.uint32).copy()
    words[:64] = np.random.default_rng(1).integers(0, 2**32, 64, np.uint32)
    made.partial = words.tobytes()
    fault = the_outcome(tmp_path, made).fault
    assert isinstance(fault, UnmaskCheckFailed)
    assert fault.check == "range"


def test_a_sum_of_another_length_is_named(tmp_path: Path) -> None:
    made = ACell("north", an_encoding()).made()
    for partial in (made.partial[:-4], made.partial + bytes(4), b""):
        made.partial = partial
        assert isinstance(the_outcome(tmp_path, made).fault, WrongLength)


def test_more_clients_than_the_plan_holds_are_named(tmp_path: Path) -> None:
    assert isinstance(the_outcome(tmp_path, ACell("north", an_encoding(), n=11).made()).fault, CannotHold)


def test_an_answer_that_is_sealed_to_another_key_is_refused(tmp_path: Path) -> None:
    made = ACell("north", an_encoding()).made()
    made.answer(0, 0, made.slot_sum(0), rpk=bytes_of("another key"))
    outcome = the_outcome(tmp_path, made)
    assert isinstance(outcome.fault, BadAnswer)
    assert outcome.wrong == {made.member(0)}


def test_an_answer_for_another_set_is_refused(tmp_path: Path) -> None:
    made = ACell("north", an_encoding()).made()
    made.answer(0, 0, made.slot_sum(0), included_hash=bytes_of("another set"))
    assert isinstance(the_outcome(tmp_path, made).fault, WrongContext)


def test_an_answer_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    made = ACell("north", an_encoding(), r=2).made()
    made.answers[made.member(0, 1)] = replace(made.answers[made.member(0, 1)], body=b"no body")
    assert the_outcome(tmp_path, made) == CellOutcome(None, frozenset({made.member(0, 1)}))


def test_a_cell_without_answers_does_not_open(tmp_path: Path) -> None:
    made = ACell("north", an_encoding()).made()
    made.answers, made.streams = {}, {}
    assert isinstance(the_outcome(tmp_path, made).fault, UnmaskCheckFailed)


def test_a_cell_that_does_not_open_is_not_in_the_total(tmp_path: Path) -> None:
    good, bad = ACell("north", an_encoding()).made(), ACell("south", an_encoding()).made()
    bad.answer(0, 0, bad.slot_sum(1))
    both, alone = opened(tmp_path, bad, good), opened(tmp_path, good)
    assert both.passed == alone.passed == {good.ctx}
    assert [list(piece) for piece in both.mean()] == [list(piece) for piece in alone.mean()]
    assert both.samples == alone.samples


# ---- replicas


def without(cell: ACell, *members: bytes) -> ACell:
    return replace_streams(cell, {one: stream for one, stream in cell.streams.items() if one not in members})


def test_one_stream_of_each_slot_is_enough(tmp_path: Path) -> None:
    made = ACell("north", an_encoding(), k=3, r=2).made()
    cell = without(made, *(made.member(slot, 1) for slot in range(3)))
    assert the_outcome(tmp_path, cell) == CellOutcome(None)


def test_the_stream_of_another_replica_does_where_one_is_bad(tmp_path: Path) -> None:
    made = ACell("north", an_encoding(), k=3, r=2).made()
    spoiled = made.member(1)
    cell = replace_streams(made, {**made.streams, spoiled: flipped(made.streams[spoiled], 30)})
    assert the_outcome(tmp_path, cell) == CellOutcome(None, wrong=frozenset({spoiled}))


def test_where_the_only_stream_of_a_slot_is_bad_another_replica_is_wanted(tmp_path: Path) -> None:
    made = ACell("north", an_encoding(), k=3, r=2).made()
    spoiled, other = made.member(1), made.member(1, 1)
    cell = without(replace_streams(made, {**made.streams, spoiled: flipped(made.streams[spoiled], 30)}), other)
    outcome = the_outcome(tmp_path, cell)
    assert isinstance(outcome.fault, BadAnswer)
    assert (outcome.wrong, outcome.wanted) == ({spoiled}, {other})


def test_a_stream_that_the_store_lost_or_damaged_is_wanted_again_and_nobody_blamed(tmp_path: Path) -> None:
    async def story() -> None:
        made = ACell("north", an_encoding()).made()
        objects = MemoryObjects()
        asked = await made.stored(objects)
        lost = asked.streams[made.member(1)]
        objects.contents[lost] = flipped(objects.contents[lost], 9)
        damaged = await open_cells(objects, [asked], made.encoding, RSK, tmp_path)
        await objects.delete(lost)
        gone = await open_cells(objects, [asked], made.encoding, RSK, tmp_path)
        for outcome in (damaged.outcomes[made.ctx], gone.outcomes[made.ctx]):
            assert isinstance(outcome.fault, SlotUnanswered)
            assert (outcome.wrong, outcome.wanted) == (frozenset(), {made.member(1)})

    asyncio.run(story())


def test_a_replica_with_another_version_is_wrong_where_the_guards_say_so(tmp_path: Path) -> None:
    made = ACell("north", an_encoding(), k=3, r=2).made()
    liar = made.member(1, 0)
    made.answer(1, 0, made.slot_sum(2))
    honest = opened(tmp_path, ACell("north", an_encoding(), k=3, r=2).made())
    found = opened(tmp_path, made)
    assert found.outcomes[made.ctx] == CellOutcome(None, wrong=frozenset({liar}))
    assert [list(piece) for piece in found.mean()] == [list(piece) for piece in honest.mean()]


def test_where_only_the_wrong_version_is_here_the_other_one_is_wanted(tmp_path: Path) -> None:
    made = ACell("north", an_encoding(), k=3, r=2).made()
    made.answer(1, 0, made.slot_sum(2))
    cell = without(made, *(made.member(slot, 1) for slot in range(3)))
    outcome = the_outcome(tmp_path, cell)
    assert isinstance(outcome.fault, UnmaskCheckFailed)
    assert outcome.wanted == {made.member(1, 1)}


def test_where_only_one_version_is_here_and_passes_the_other_one_is_wanted_all_the_same(tmp_path: Path) -> None:
    made = ACell("north", an_encoding(), k=3, r=2).made()
    made.answer(1, 0, shifted(made.slot_sum(1)))
    cell = without(made, *(made.member(slot, 1) for slot in range(3)))
    assert the_outcome(tmp_path, cell) == CellOutcome(
        None, frozenset({made.member(1, 1)}), frozenset({made.member(1, 1)})
    )


def test_two_versions_that_both_look_true_are_neither_believed(tmp_path: Path) -> None:
    made = ACell("north", an_encoding(), k=3, r=2).made()
    made.answer(1, 0, shifted(made.slot_sum(1)))
    found = opened(tmp_path, made)
    fault = found.outcomes[made.ctx].fault
    assert isinstance(fault, ReplicasDisagree)
    assert fault.members == {made.member(1, 0), made.member(1, 1)}
    assert found.passed == frozenset()
    assert found.outcomes[made.ctx].wanted == frozenset()


def test_liars_in_two_slots_are_both_named(tmp_path: Path) -> None:
    made = ACell("north", an_encoding(), k=3, r=2).made()
    made.answer(0, 1, made.slot_sum(1))
    made.answer(2, 0, made.slot_sum(1))
    assert the_outcome(tmp_path, made) == CellOutcome(None, frozenset({made.member(0, 1), made.member(2, 0)}))


# ---- stores, disks, memory


def test_a_model_is_made_of_exactly_the_cells_that_opened(tmp_path: Path) -> None:
    async def story() -> None:
        objects, encoding = MemoryObjects(), an_encoding()
        base = (await objects.put(chunked(a_base(20)))).digest
        cells = [ACell(name, encoding).made() for name in ("north", "south")]
        found = await open_cells(objects, [await one.stored(objects) for one in cells], encoding, RSK, tmp_path)
        for ctxs in ([], [cells[0].ctx], [cells[0].ctx, cells[1].ctx, bytes(32)]):
            with pytest.raises(OtherCellsOpened):
                await masked_model(objects, base, found, ctxs, encoding, METRICS, tmp_path)
        await masked_model(objects, base, found, [one.ctx for one in cells], encoding, METRICS, tmp_path)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("base", "fault"),
    [(a_base(19), WrongLength), (a_base(21), WrongLength), (a_model({"w": ("F16", [65504.0] * 20)}), NotFinite)],
)
def test_what_makes_no_model_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, base: bytes, fault: type[FednError]
) -> None:
    cell = ACell("north", an_encoding(clip=100.0))
    cell.values = [np.full(20, 99.0, np.float32)] * cell.n
    cell.made()

    async def story() -> None:
        objects = MemoryObjects()
        parent = (await objects.put(chunked(base))).digest
        found = await open_cells(objects, [await cell.stored(objects)], cell.encoding, RSK, tmp_path)
        before = set(objects.contents)
        with pytest.raises(fault):
            await masked_model(objects, parent, found, [cell.ctx], cell.encoding, METRICS, tmp_path)
        assert set(objects.contents) == before

    asyncio.run(story())
    assert names_in(tmp_path) == []


def test_a_store_that_is_away_is_no_fault_of_the_cell(tmp_path: Path) -> None:
    class Away(MemoryObjects):
        async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
            raise StoreUnavailable("the store is away")
            yield b""

    async def story() -> None:
        objects, cell = Away(), ACell("north", an_encoding()).made()
        with pytest.raises(StoreUnavailable):
            await open_cells(objects, [await cell.stored(objects)], cell.encoding, RSK, tmp_path)

    asyncio.run(story())
    assert names_in(tmp_path) == []


def test_a_partial_that_is_gone_is_the_fault_of_its_cell_alone(tmp_path: Path) -> None:
    async def story() -> None:
        objects, encoding = MemoryObjects(), an_encoding()
        cells = [await ACell(name, encoding).made().stored(objects) for name in ("north", "south")]
        await objects.delete(cells[0].partial)
        found = await open_cells(objects, cells, encoding, RSK, tmp_path)
        assert isinstance(found.outcomes[cells[0].ctx].fault, ObjectMissing)
        assert found.passed == {cells[1].ctx}

    asyncio.run(story())


def test_a_scratch_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        objects, cell = MemoryObjects(), ACell("north", an_encoding()).made()
        with pytest.raises(DiskFailed, match="masked sums"):
            await open_cells(objects, [await cell.stored(objects)], cell.encoding, RSK, tmp_path / "gone")

    asyncio.run(story())


def test_what_is_on_the_disk_is_masked_or_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bytes] = {}
    real = unmasking._tried

    def looking(*args: object) -> object:
        outcome = real(*args)  # type: ignore[arg-type]
        seen.update({path.name: path.read_bytes() for path in tmp_path.glob("*/*")})
        return outcome

    monkeypatch.setattr(unmasking, "_tried", looking)
    made = ACell("north", an_encoding()).made()
    opened(tmp_path, made)
    assert set(seen.values()) == {made.partial, *made.streams.values()}


def test_memory_is_three_models_however_many_cells_there_are(tmp_path: Path) -> None:
    n = 2_000_000
    cells = [ACell(name, an_encoding(n), n=2).made() for name in ("north", "south", "west")]

    async def story() -> tuple[int, int]:
        objects, encoding = MemoryObjects(), cells[0].encoding
        base = (await objects.put(chunked(a_base(n), 1_000_000))).digest
        asked = [await one.stored(objects) for one in cells]
        tracemalloc.start()
        found = await open_cells(objects, asked, encoding, RSK, tmp_path)
        opening = tracemalloc.get_traced_memory()[1]
        objects.put = counting  # type: ignore[method-assign]
        tracemalloc.reset_peak()
        await masked_model(objects, base, found, [one.ctx for one in cells], encoding, METRICS, tmp_path)
        making = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return opening, making

    async def counting(chunks: AsyncIterator[bytes], *, expected: Digest | None = None):  # type: ignore[no-untyped-def]
        async for _ in chunks:
            pass
        return await MemoryObjects().put(chunked(b"done"))

    opening, making = asyncio.run(story())
    assert opening < 3 * 4 * n + 24_000_000
    assert making < 2 * 4 * n + 24_000_000


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 0x10
    return bytes(changed)


def shifted(words: np.ndarray) -> np.ndarray:
    """A mask sum that adds a small vector to the model, unnoticed by the guards."""
    changed = words.copy()
    changed[0] += 5
    return changed


def replace_streams(cell: ACell, streams: dict[bytes, bytes]) -> ACell:
    changed = ACell(cell.name, cell.encoding, k=cell.k, r=cell.r, n=cell.n)
    changed.partial, changed.answers, changed.streams = cell.partial, dict(cell.answers), streams
    return changed
