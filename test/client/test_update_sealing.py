"""Updates under their masks: what the sum of them says, and how little of them is in memory at a time."""

import asyncio
import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import masked_world as world
import numpy as np
import pytest
from builders import a_plan
from masked_site import a_masked_plan, a_state_folder, a_task, an_order, terms_of, update_values
from masked_world import CLIENTS, AClient, a_committee
from safetensors.numpy import save_file

from fedn_py.client.answer_sealing import seal_answer
from fedn_py.client.ports import Learned
from fedn_py.client.secret_bytes import DrawnForUpload, SeatKeys
from fedn_py.client.state_folder import StateFolder
from fedn_py.client.update_sealing import PlainUpdate, SealedUpdate, UpdateNotOfPlan, metric_words, seal_update
from fedn_py.client.updates import UpdateFolder
from fedn_py.identity import ClientName
from fedn_py.masking.fixed_point import decoded_metrics
from fedn_py.masking.keystream import chunk_sizes
from fedn_py.masking.pet import CellOpening, MaskSum, mask_key
from fedn_py.masking.schemes import SCHEMES
from fedn_py.model.vector import NotFinite
from fedn_py.protocol.masked.answers import AnswerPlace, open_stream, unseal_key
from fedn_py.protocol.masked.boxes import check_header, open_box
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.round_messages import BoxFor, IncludedRow, MetricBound

BOUNDS = tuple(
    MetricBound(name, bound)
    for name, bound in (
        ("clip_fraction", 1.0),
        ("has clip_fraction", 1.0),
        ("weight_capped", 1.0),
        ("has weight_capped", 1.0),
        ("loss", 4.0),
        ("has loss", 1.0),
        ("validate.loss", 4.0),
        ("has validate.loss", 1.0),
    )
)


def the_terms(n: int = 20, **plan: Any) -> CellTerms:
    made = a_masked_plan(n_parameters=n, **plan)
    return terms_of(a_task(made, an_order(made)))


def an_update(folder: Path, values: np.ndarray, samples: int = 50, **metrics: Any) -> PlainUpdate:
    return PlainUpdate(update_values(folder, values), samples, **metrics)


def sealed(
    folder: Path, plain: PlainUpdate, terms: CellTerms, committee: Committee, client: AClient = CLIENTS[0]
) -> tuple[SealedUpdate, bytes]:
    drawn = DrawnForUpload.fresh(committee.slots, len(committee.members))
    into = folder / f"masked-{client.name}"
    with StateFolder(a_state_folder(folder / client.name, client)) as state:
        made = seal_update(plain, terms, committee, state.registration, drawn=drawn, upload_id=b"u" * 16, into=into)
    return made, into.read_bytes()


def opened(made: list[SealedUpdate], vectors: list[bytes], terms: CellTerms, committee: Committee) -> Any:
    """Open the sum of some updates, by what their boxes hold."""
    sums = []
    for member, client in zip(committee.members, world.members_of(committee), strict=True):
        seeds = []
        for one in made:
            box = BoxFor(one.upload.chain, one.upload.header, one.upload.boxes[member.slot][member.replica])
            found = open_box(
                box, member, client.esk, committee=committee, n_words=terms.encoding.n_words, chains=world.chains()
            )
            seeds.append((found.verified.client.client_id, found.seed))
        answering = SCHEMES["pet"].answering(committee.ctx, member.slot, seeds)
        out, start = np.empty(terms.encoding.n_words, np.uint32), 0
        for number, size in enumerate(chunk_sizes(len(out))):
            answering.chunk(number, out[start : start + size])
            start += size
        sums.append(out)
    partial = np.sum([np.frombuffer(vector, np.uint32) for vector in vectors], axis=0, dtype=np.uint32)
    opening, start = CellOpening(terms.encoding, len(made)), 0
    for number, size in enumerate(chunk_sizes(len(partial))):
        part = slice(start, start + size)
        opening.chunk(number, partial[part], [one[part] for one in sums])
        start += size
    return opening.tail()


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_the_header_says_what_was_written_and_nothing_of_the_update(tmp_path: Path, dtype: str) -> None:
    terms = the_terms(40_000)
    committee = a_committee(terms)
    plain = an_update(tmp_path, np.linspace(-0.5, 0.5, 40_000).astype(dtype))
    made, content = sealed(tmp_path, plain, terms, committee)
    header = check_header(
        made.upload.header, made.upload.chain, committee, terms.encoding.n_words, world.chains()
    ).header
    assert (header.vector_hash, header.upload_id) == (hashlib.sha256(content).digest(), b"u" * 16)
    assert (made.size, made.sha256) == (len(content), hashlib.sha256(content).digest())
    again, other = sealed(tmp_path, plain, terms, committee)
    assert np.mean(np.frombuffer(content, np.uint32) == np.frombuffer(other, np.uint32)) < 0.01
    assert opened([made], [content], terms, committee).weight == 50
    assert opened([again], [other], terms, committee).weight == 50


def test_metrics_are_means_over_those_who_gave_them(tmp_path: Path) -> None:
    terms = the_terms(metrics=BOUNDS, weight_cap=40)
    committee = a_committee(terms)
    values = np.zeros(20, "<f4")
    values[:5] = 3.0  # beyond the clip
    one, first = sealed(
        tmp_path,
        an_update(tmp_path, values, samples=41, training={"loss": 2.0, "other": 9.0}, validation={"loss": 3.0}),
        terms,
        committee,
    )
    two, second = sealed(tmp_path, an_update(tmp_path, np.zeros(20, "<f4"), 40), terms, committee, CLIENTS[1])
    tail = opened([one, two], [first, second], terms, committee)
    means = decoded_metrics(terms.encoding, tail.metrics, tail.weight)
    named = dict(zip((bound.name for bound in BOUNDS), means, strict=True))
    expected = {
        "clip_fraction": 0.125,
        "has clip_fraction": 1.0,
        "weight_capped": 0.5,
        "has weight_capped": 1.0,
        "loss": 1.0,
        "has loss": 0.5,
        "validate.loss": 1.5,
        "has validate.loss": 0.5,
    }
    assert named == pytest.approx(expected, abs=1e-5)
    assert tail.weight == 80


def test_under_a_plan_that_releases_no_metrics_every_word_for_them_is_zero(tmp_path: Path) -> None:
    terms = the_terms(metrics=BOUNDS, metrics_release="none")
    committee = a_committee(terms)
    one, vector = sealed(tmp_path, an_update(tmp_path, np.full(20, 9, "<f4"), training={"loss": 2.0}), terms, committee)
    assert {abs(word) <= 1 for word in opened([one], [vector], terms, committee).metrics} == {True}


def test_a_metric_may_be_named_as_if_it_said_whether_another_is_given() -> None:
    bounds = [MetricBound(name, 1.0) for name in ("has loss", "has has loss", "loss")]
    assert metric_words(bounds, {"has loss": 0.25}) == (0.25, 1.0, 0.0)


def test_an_update_that_is_not_finite_or_not_of_the_plan_leaves_no_file(tmp_path: Path) -> None:
    terms = the_terms()
    committee = a_committee(terms)
    for values, fault in ((np.full(20, np.inf, "<f4"), NotFinite), (np.zeros(21, "<f4"), UpdateNotOfPlan)):
        with pytest.raises(fault):
            sealed(tmp_path, an_update(tmp_path, values), terms, committee)
        assert not (tmp_path / "masked-anna").exists()
        assert not (tmp_path / ".masked-anna.partial").exists()


def test_sealing_and_answering_hold_a_few_chunks_whatever_the_size(tmp_path: Path) -> None:
    n = 4_000_000
    terms = the_terms(n)
    committee = a_committee(terms)
    plain = an_update(tmp_path, np.zeros(n, "<f4"))
    keys = SeatKeys()
    keys.keep(CLIENTS[0].id, b"h" * 32, b"s" * 32)
    tracemalloc.start()
    sealed_one = sealed_only(tmp_path, plain, terms, committee)
    place = AnswerPlace(committee.ctx, b"i" * 32, CLIENTS[1].id, 0)
    answer = seal_answer(terms, place, (IncludedRow(CLIENTS[0].id, b"h" * 32),), keys, tmp_path / "answer")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sealed_one.size == 4 * terms.encoding.n_words
    assert answer.stream_bytes == (tmp_path / "answer").stat().st_size > 4 * n
    assert peak < 6 * 2**20


def sealed_only(folder: Path, plain: PlainUpdate, terms: CellTerms, committee: Committee) -> SealedUpdate:
    drawn = DrawnForUpload.fresh(committee.slots, len(committee.members))
    with StateFolder(a_state_folder(folder / "anna", CLIENTS[0])) as state:
        return seal_update(
            plain, terms, committee, state.registration, drawn=drawn, upload_id=b"u" * 16, into=folder / "masked"
        )


@pytest.mark.parametrize("words", [40_000, 2**18, 2**18 + 1, 600_000])
def test_an_answer_holds_the_sum_of_the_masks_word_for_word(tmp_path: Path, words: int) -> None:
    terms = the_terms(words - the_terms(1).encoding.n_words + 1)
    rows = tuple(IncludedRow(client.id, bytes([number]) * 32) for number, client in enumerate(CLIENTS[:3]))
    keys = SeatKeys()
    for number, row in enumerate(rows):
        keys.keep(row.client_id, row.header_hash, bytes([100 + number]) * 32)
    place = AnswerPlace(b"c" * 32, b"i" * 32, CLIENTS[1].id, 0)
    answer = seal_answer(terms, place, rows, keys, tmp_path / "answer")
    key = unseal_key(place, answer.sealed_key, world.RSK)
    plain = b"".join(open_stream(place, key, [(tmp_path / "answer").read_bytes()], 4 * words))

    masks = MaskSum(mask_key(place.ctx, row.client_id, 0, bytes([100 + n]) * 32) for n, row in enumerate(rows))
    total, start = np.empty(words, np.uint32), 0
    for number, size in enumerate(chunk_sizes(words)):
        masks.chunk(number, total[start : start + size])
        start += size
    assert plain == total.astype("<u4").tobytes()


def test_an_answer_is_not_made_of_a_seed_of_another_upload(tmp_path: Path) -> None:
    terms = the_terms()
    keys = SeatKeys()
    keys.keep(CLIENTS[0].id, b"h" * 32, b"s" * 32)
    place = AnswerPlace(b"c" * 32, b"i" * 32, CLIENTS[1].id, 0)
    with pytest.raises(ValueError, match="another upload"):
        seal_answer(terms, place, (IncludedRow(CLIENTS[0].id, b"x" * 32),), keys, tmp_path / "answer")
    keys.erase()
    keys.keep(CLIENTS[0].id, b"h" * 32, b"s" * 32)  # comes too late
    assert keys.seeds == {}
    assert not any(keys.esk)


def test_secrets_are_not_in_the_words_that_describe_them() -> None:
    keys, drawn = SeatKeys(), DrawnForUpload.fresh(2, 2)
    keys.keep(b"c" * 32, b"h" * 32, b"s" * 32)
    for text in (repr(keys), repr(drawn)):
        assert "bytearray" not in text


def test_the_owner_s_copy_says_what_left_under_the_mask(tmp_path: Path) -> None:
    base, new = tmp_path / "base.safetensors", tmp_path / "new.safetensors"
    save_file({"w": np.zeros(20, np.float32)}, base)
    save_file({"w": np.ones(20, np.float32)}, new)
    (tmp_path / "updates").mkdir()
    folder = UpdateFolder(tmp_path / "updates", ClientName("anna"), tmp_path / "copies")
    encoding = the_terms(weight_cap=40, weight_unit=2).encoding
    asyncio.run(folder.make(a_plan(), base, new, Learned(81, {}), encoding=encoding))
    facts = json.loads((tmp_path / "copies" / "anna" / "session-1-round-1-attempt-1.json").read_text())
    assert facts["num_samples"] == 81
    assert facts["masked"] == {"weight": 40, "weight_cap": 40, "weight_unit": 2, "clip": 1.0, "n_max": 100}
