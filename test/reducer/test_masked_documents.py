"""Masked attempts as JSON and back: the same value, and no other bytes."""

import json
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import masked_attempts as masked
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.protocol.masked.opening_work import Attempt, Cell, CellSeat, KeyStage, Stage
from fedn_py.protocol.masked.round_messages import IncludedRow
from fedn_py.protocol.masked.signing import Signed
from fedn_py.reducer.masked_documents import (
    AttemptDamaged,
    AttemptDocument,
    MaskedDocument,
    as_json,
    attempt_of,
    body_text,
    bytes_of,
    from_json,
    signed_of,
    text_of,
)

IDS, COUNTS = st.binary(min_size=32, max_size=32), st.integers(0, 2**40)
SMALL = st.integers(0, 8)
SIGNED = st.builds(
    Signed,
    st.sampled_from(["answer", "plan"]),
    st.binary(max_size=40),
    IDS,
    st.binary(min_size=64, max_size=64),
)
SEATS = st.builds(CellSeat, SMALL, SMALL, IDS, IDS, IDS)
ROWS = st.builds(IncludedRow, IDS, IDS)
SETS = st.frozensets(IDS, max_size=3)
CELLS = st.builds(
    Cell,
    cell=st.binary(min_size=16, max_size=16),
    generation=COUNTS,
    ctx0=IDS,
    combiner=IDS,
    k=SMALL,
    g_min=SMALL,
    assigned=SETS,
    ctx=st.none() | IDS,
    seats=st.lists(SEATS, max_size=3).map(tuple),
    rows=st.lists(ROWS, max_size=3).map(tuple),
    included_hash=st.none() | IDS,
    partial_sha256=st.none() | IDS,
    answers=st.dictionaries(IDS, SIGNED, max_size=3),
    streams=SETS,
    failed=SETS,
    aborted=st.dictionaries(IDS, SIGNED, max_size=3),
    out=st.text(max_size=20),
    opened=st.booleans(),
)
ATTEMPTS = st.builds(
    Attempt,
    session=st.binary(min_size=16, max_size=16),
    round=COUNTS,
    attempt=COUNTS,
    work=IDS,
    reopen=st.sampled_from(["strict", "reducer"]),
    n_words=COUNTS,
    clients_required=COUNTS,
    cells=st.lists(CELLS, max_size=2).map(tuple),
    stage=st.sampled_from(get_args(Stage)),
    opening=SETS,
    key=st.sampled_from(get_args(KeyStage)),
    before_restore=st.booleans(),
)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(ATTEMPTS)
def test_an_attempt_is_read_back_as_it_was(attempt: Attempt) -> None:
    read = from_json(Attempt, through_json(as_json(attempt)))
    assert read == attempt
    for before, after in zip(attempt.cells, read.cells, strict=True):
        assert list(before.answers) == list(after.answers)  # who answered first is asked first


def test_every_field_of_an_attempt_is_kept() -> None:
    written = as_json(masked.work_of(masked.closed()).attempt)
    assert set(written) == {field.name for field in fields(Attempt)}
    assert set(written["cells"][0]) == {field.name for field in fields(Cell)}


@pytest.mark.parametrize("make", [masked.running, masked.formed, masked.closed, masked.opening])
def test_an_attempt_of_each_stage_is_read_back_as_it_was(make: Any) -> None:
    attempt = masked.work_of(make()).attempt
    kept = AttemptDocument(1, through_json(as_json(attempt)), "", {})
    assert attempt_of(kept) == attempt


def test_signed_bodies_are_kept_byte_for_byte() -> None:
    signed = masked.NORTH_ANSWERS[0].answer
    assert signed_of(body_text(signed)) == signed
    assert bytes_of(text_of(b"\x00\xff")) == b"\x00\xff"


@pytest.mark.parametrize(
    "damage",
    [
        {"stage": "dreaming"},
        {"round": "1"},
        {"round": True},
        {"session": 5},
        {"session": "no base64!"},
        {"cells": {}},
        {"cells": [{}]},
        {"opening": None},
        {"more": 1},
    ],
)
def test_a_damaged_attempt_is_refused_by_name(damage: dict[str, Any]) -> None:
    written = {**as_json(masked.attempt()), **damage}
    with pytest.raises(AttemptDamaged):
        from_json(Attempt, written)


def test_a_damaged_signed_body_is_refused_by_name() -> None:
    with pytest.raises(AttemptDamaged):
        signed_of(text_of(b"nothing signed"))
    written = as_json(masked.work_of(masked.opening()).attempt)
    written["cells"][0]["answers"][0] = ["only one"]
    with pytest.raises(AttemptDamaged):
        from_json(Attempt, written)


def test_what_cannot_be_kept_is_not_written() -> None:
    @dataclass(frozen=True)
    class Strange:
        what: object

    with pytest.raises(TypeError):
        as_json(Strange(object()))


def test_the_attempts_of_a_round_are_found_by_their_number_and_show_no_key() -> None:
    kept = AttemptDocument(2, {}, "", {})
    document = MaskedDocument((replace(kept, number=1), kept), round_key="wrapped")
    assert document.of(2) is kept
    assert document.of(3) is None
    assert "wrapped" not in repr(document)
