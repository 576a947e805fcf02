"""Which version of a masked cell's sum is believed, and what is refused: checked to the last word."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from closed_cells import (
    ACell,
    an_encoding,
    flipped,
    opened,
    replace_streams,
    shifted,
    the_outcome,
    without,
)
from masked_world import RPK, RSK, bytes_of, key_of

from fedn_py.identity import Digest
from fedn_py.masking.fixed_point import CannotHold, UnmaskCheckFailed
from fedn_py.masking.pet import add_masked
from fedn_py.model.pieces import WrongLength
from fedn_py.protocol.masked.answers import AnswerPlace, AnswerSealer, BadAnswer
from fedn_py.protocol.masked.contexts import WrongContext
from fedn_py.protocol.masked.replicas import ReplicasDisagree
from fedn_py.protocol.masked.round_messages import Answer
from fedn_py.protocol.masked.signing import sign
from fedn_py.reducer.cell_opening import SlotUnanswered
from fedn_py.reducer.unmasking import (
    CellOutcome,
    open_cells,
)
from fedn_py.store.folder import open_folder
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.ports import ObjectCorrupt

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


# ---- replicas


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


def test_files_of_the_store_are_opened_where_they_are_and_damage_to_them_is_nobody_s_lie(tmp_path: Path) -> None:
    async def story() -> None:
        made = ACell("north", an_encoding()).made()
        objects = await open_folder(tmp_path / "objects")
        asked = await made.stored(objects)
        whole = await open_cells(objects, [asked], made.encoding, RSK, tmp_path)
        assert whole.outcomes[made.ctx] == CellOutcome(None)
        spoil(tmp_path / "objects", asked.streams[made.member(1)])
        damaged = (await open_cells(objects, [asked], made.encoding, RSK, tmp_path)).outcomes[made.ctx]
        assert isinstance(damaged.fault, SlotUnanswered)
        assert (damaged.wrong, damaged.wanted) == (frozenset(), {made.member(1)})
        spoil(tmp_path / "objects", asked.partial)
        unsummed = (await open_cells(objects, [asked], made.encoding, RSK, tmp_path)).outcomes[made.ctx]
        assert isinstance(unsummed.fault, ObjectCorrupt)
        await objects.close()

    asyncio.run(story())


def test_one_wrong_bit_of_a_sum_in_the_store_s_file_is_seen_though_it_opens(tmp_path: Path) -> None:
    async def story() -> None:
        made = ACell("north", an_encoding()).made()
        objects = await open_folder(tmp_path / "objects")
        asked = await made.stored(objects)
        path = tmp_path / "objects" / asked.partial[:2] / asked.partial
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        opened = await open_cells(objects, [asked], made.encoding, RSK, tmp_path)
        assert isinstance(opened.outcomes[made.ctx].fault, ObjectCorrupt)
        assert not opened.passed
        await objects.close()

    asyncio.run(story())


def spoil(folder: Path, digest: Digest) -> None:
    path = folder / digest[:2] / digest
    path.write_bytes(flipped(path.read_bytes(), 9))


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
