"""Split-seed masks: known answers, exact sums, and sums that nobody should have had."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniformity import chi_square, looks_random

from fedn_py.masking.fixed_point import CannotHold, Encoder, Encoding, UnmaskCheckFailed, decoded_mean
from fedn_py.masking.keystream import CHUNK_WORDS, chunk_sizes
from fedn_py.masking.pet import CellOpening, Masker, MaskSum, add_masked, mask_key, seed_commitment
from fedn_py.masking.scheme import Answering, Masking, Opening

CTX = bytes.fromhex("234089f19cd5732a8e19cda16d983378b933633959ad179cfa53330497addbd4")


@dataclass(frozen=True)
class AClient:
    """A client of a cell; ``z`` numbers it."""

    z: int
    id: bytes
    values: np.ndarray
    samples: int

    def key(self, slot: int, ctx: bytes = CTX) -> bytes:
        return mask_key(ctx, self.id, slot, bytes([self.z, slot]) * 16)

    def encoder(self, encoding: Encoding) -> Encoder:
        return Encoder(encoding, self.samples, (), bytes([(0xE0 + self.z) % 256]) * 32)


def a_client(z: int, values: Sequence[float] | np.ndarray, samples: int = 1, name: int | None = None) -> AClient:
    return AClient(z, bytes([z if name is None else name]) * 32, np.array(values, np.float32), samples)


def chunked(count: int) -> list[tuple[int, slice]]:
    starts = itertools.accumulate(chunk_sizes(count), initial=0)
    return [
        (n, slice(start, start + size)) for n, (start, size) in enumerate(zip(starts, chunk_sizes(count), strict=False))
    ]


def masked(encoding: Encoding, client: AClient, k: int) -> np.ndarray:
    masker = Masker(client.encoder(encoding), [client.key(slot) for slot in range(k)])
    out = np.empty(encoding.n_words, np.uint32)
    for number, part in chunked(encoding.n_words):
        masker.chunk(number, client.values[part], out[part])
    return out


def encoded(encoding: Encoding, client: AClient) -> np.ndarray:
    return masked(encoding, client, 0).view(np.int32)


def slot_sum(encoding: Encoding, keys: Sequence[bytes]) -> np.ndarray:
    mask_sum, out = MaskSum(keys), np.empty(encoding.n_words, np.uint32)
    for number, part in chunked(encoding.n_words):
        mask_sum.chunk(number, out[part])
    return out


def slot_sums(encoding: Encoding, clients: Sequence[AClient], k: int) -> list[np.ndarray]:
    return [slot_sum(encoding, [client.key(slot) for client in clients]) for slot in range(k)]


def masked_sum(encoding: Encoding, clients: Sequence[AClient], k: int) -> np.ndarray:
    total = np.zeros(encoding.n_words, np.uint32)
    for client in clients:
        add_masked(total, masked(encoding, client, k))
    return total


def opened(encoding: Encoding, clients: int, total: np.ndarray, sums: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Return the sums of the parameters, and of the weights."""
    opening = CellOpening(encoding, clients)
    parts = [opening.chunk(n, total[p], [s[p] for s in sums]).copy() for n, p in chunked(encoding.n_words)]
    return np.concatenate(parts), opening.tail().weight


# ---- known answers


def digest(words: np.ndarray) -> str:
    return hashlib.sha256(words.astype("<u4").tobytes()).hexdigest()


def test_the_key_of_a_mask_is_known() -> None:
    key = mask_key(CTX, b"\xa1" * 32, 0, bytes([1, 0]) * 16)
    assert key.hex() == "564973627e9917a2cad9dde40855e83367ca62c94e2508e6e769f77f5adee698"


def test_known_answers_of_two_slots() -> None:
    encoding = Encoding(4, 1.0, 3, 100)
    assert encoding.largest == 357913940
    clients = [
        a_client(1, (0.5, -0.25, 1, 0.1), 100, 0xA1),
        a_client(2, (-1.5, 0, 0.125, -0.3), 40, 0xA2),
        a_client(3, (0.2, 0.2, -0.2, 3e-7), 7, 0xA3),
    ]
    assert [encoded(encoding, client)[:5].tolist() for client in clients] == [
        [178956970, -89478485, 357913940, 35791395, 100],
        [-143165576, 0, 17895697, -42949675, 40],
        [5010795, 5010796, -5010795, 7, 7],
    ]
    assert masked(encoding, clients[0], 2)[:3].tolist() == [1079813214, 2160840035, 4122822415]
    assert [digest(masked(encoding, client, 2)) for client in clients] == [
        "d820871f8a3fc6ee75cc5930913369a93cef130148ca8ad0a8b86b9ef2e0f102",
        "1f134c1bb07c9aaccf040951ab8d3a99f342062419a4fc3ad5d9d7166926889f",
        "d4198fa078d247c43bc05d851466b7d9987d8157ab26a790e1d8cfe701b6d5aa",
    ]
    sums = slot_sums(encoding, clients, 2)
    assert [digest(words) for words in sums] == [
        "52db9aaa1be45b6e0b7f44a05fbe76b30a635d606d696b1de3dc90c8fa0637ca",
        "1fd26a1c6866dae4eb98d6d84b93314fe3af05ad0b5ce6d5bc1f335c497a7d78",
    ]
    values, weight = opened(encoding, 3, masked_sum(encoding, clients, 2), sums)
    assert (values.tolist(), weight) == ([40802189, -84467689, 370798842, -7158273], 147)
    assert [float(value).hex() for value in decoded_mean(encoding, values, weight)] == [
        "0x1.3da62371e4d53p-4",
        "-0x1.48cb67ed5db14p-3",
        "0x1.68d68d6b73498p-1",
        "-0x1.bdd2a0ecd7f09p-7",
    ]


def test_known_answers_of_three_slots() -> None:
    encoding = Encoding(3, 0.25, 1000, 1000)
    assert encoding.largest == 1073740
    clients = [a_client(4, (0.25, -0.25, 0.01), 1000, 0xB1), a_client(5, (1e-3, 0.2, -0.3), 5000, 0xB2)]
    assert [encoded(encoding, client)[:4].tolist() for client in clients] == [
        [1073740, -1073740, 42949, 1000],
        [4295, 858992, -1073740, 1000],
    ]
    assert [digest(masked(encoding, client, 3)) for client in clients] == [
        "a1674fdc454a11f07b2eeaa6ff6d4918f778ed15e58aa2c4c389ef7f9b764f29",
        "e769250b08aa09fc16d6ebfe62b61273c1961589ea508b48d6b7e0f7fe70edfe",
    ]
    sums = slot_sums(encoding, clients, 3)
    assert [digest(words) for words in sums] == [
        "2e69a66e4bac22ab45201287c044dcf43acd75f93c96f1df5d03551d7a7d0fc3",
        "7e90ccf8d8bb8a70a61a15c7dbd4b1a831fd65067a4ea1450444da8c1b8ffde1",
        "6f8450994dd541646aa8be2a391cde4c2d4b6711bdc72b1a536c13a799ea83ec",
    ]
    values, weight = opened(encoding, 2, masked_sum(encoding, clients, 3), sums)
    assert (values.tolist(), weight) == ([1078035, -214748, -1030791], 2000)
    assert [float(value).hex() for value in decoded_mean(encoding, values, weight)] == [
        "0x1.0106257d2f2c7p-3",
        "-0x1.999999999999ap-6",
        "-0x1.eb8531785401ep-4",
    ]


# ---- sums that are right

BORDERS = [1, 2, 50, CHUNK_WORDS - 10, CHUNK_WORDS - 9, CHUNK_WORDS - 8, CHUNK_WORDS, 2 * CHUNK_WORDS - 4]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.sampled_from(BORDERS), st.integers(0, 2**32 - 1), st.data())
def test_the_opened_sum_is_exactly_that_of_the_encoded_updates(
    n: int, k: int, length: int, seed: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    encoding = Encoding(length, 0.5, 10, 100)
    cell = [a_client(z, random.normal(0, 0.4, length), int(random.integers(1, 150))) for z in range(1, n + 1)]
    # Whoever dropped out: the others are summed.
    clients = data.draw(st.lists(st.sampled_from(cell), min_size=1, unique_by=lambda client: client.z))
    values, weight = opened(encoding, len(clients), masked_sum(encoding, clients, k), slot_sums(encoding, clients, k))
    expected = sum(encoded(encoding, client).astype(np.int64) for client in clients)
    assert np.array_equal(values, expected[:length])
    assert weight == expected[length]


@pytest.mark.parametrize("value", [1.0, -1.0])
@pytest.mark.parametrize("n_max", [1, 3, 100])
def test_the_fullest_cell_at_either_bound_is_exact(value: float, n_max: int) -> None:
    encoding = Encoding(20, 1.0, n_max, 2**30 // n_max)
    clients = [a_client(z + 1, [value] * 20, 2**30) for z in range(n_max)]
    values, weight = opened(encoding, n_max, masked_sum(encoding, clients, 2), slot_sums(encoding, clients, 2))
    assert values.tolist() == [int(value) * n_max * encoding.largest] * 20
    assert weight == n_max * (2**30 // n_max)


@pytest.mark.parametrize("clients", [0, 4])
def test_a_sum_over_more_clients_than_planned_is_refused(clients: int) -> None:
    with pytest.raises(CannotHold, match=f"over {clients} clients"):
        CellOpening(Encoding(1, 1.0, 3, 1), clients)


def test_a_mask_does_not_depend_on_the_order_of_chunks_nor_on_who_makes_them() -> None:
    encoding = Encoding(3 * CHUNK_WORDS + 5, 1.0, 3, 10)
    client = a_client(1, np.random.default_rng(0).normal(0, 0.4, encoding.n_parameters), 7)
    whole, again = masked(encoding, client, 2), np.empty(encoding.n_words, np.uint32)
    workers = [Masker(client.encoder(encoding), [client.key(0), client.key(1)]) for _ in range(2)]
    for number, part in reversed(chunked(encoding.n_words)):
        workers[number % 2].chunk(number, client.values[part], again[part])
    assert np.array_equal(whole, again)
    keys = [client.key(0), client.key(1)]
    sums = slot_sum(encoding, keys)
    for number, part in reversed(chunked(encoding.n_words)):
        MaskSum(keys).chunk(number, again[part])
    assert np.array_equal(sums, again)


def test_an_opening_wants_every_chunk_once_and_whole() -> None:
    encoding = Encoding(CHUNK_WORDS, 1.0, 3, 1)
    opening = CellOpening(encoding, 1)
    with pytest.raises(ValueError, match="2 chunks"):
        opening.tail()
    zeros = np.zeros(CHUNK_WORDS, np.uint32)
    opening.chunk(0, zeros, [zeros])
    for number, words in ((0, zeros), (1, zeros), (2, zeros[:9])):
        with pytest.raises(ValueError, match="opened once"):
            opening.chunk(number, words, [zeros])
    with pytest.raises(ValueError, match="opened once"):
        opening.chunk(1, zeros[:9], [])


# ---- sums that are wrong

CELL = [a_client(z, np.linspace(-1, 1, 30) / z, 10 * z) for z in range(1, 5)]
PLAN = Encoding(30, 1.0, 10, 100)


def assert_garbage(total: np.ndarray, sums: Sequence[np.ndarray], clients: int = 4) -> None:
    with pytest.raises(UnmaskCheckFailed):
        opened(PLAN, clients, total, sums)


@pytest.mark.parametrize("slot", [0, 1, 2])
@pytest.mark.parametrize("what", ["seed", "ctx", "client", "slot", "missing", "doubled", "other"])
def test_a_slot_sum_that_differs_in_anything_opens_nothing(what: str, slot: int) -> None:
    total, sums = masked_sum(PLAN, CELL, 3), slot_sums(PLAN, CELL, 3)
    keys = [client.key(slot) for client in CELL]
    seed = bytes([1, slot]) * 16
    wrong = {
        "seed": [mask_key(CTX, CELL[0].id, slot, b"x" * 32), *keys[1:]],
        "ctx": [CELL[0].key(slot, ctx=b"c" * 32), *keys[1:]],
        "client": [mask_key(CTX, CELL[1].id, slot, seed), *keys[1:]],
        "slot": [mask_key(CTX, CELL[0].id, slot + 1, seed), *keys[1:]],
        "missing": keys[1:],
        "doubled": [*keys, keys[0]],
        "other": [a_client(9, [0]).key(slot), *keys[1:]],
    }
    sums[slot] = slot_sum(PLAN, wrong[what])
    assert_garbage(total, sums)


def test_a_doubled_a_missing_and_an_altered_vector_are_seen() -> None:
    total, sums = masked_sum(PLAN, CELL, 2), slot_sums(PLAN, CELL, 2)
    vector = masked(PLAN, CELL[0], 2)
    assert_garbage(total + vector, sums)
    assert_garbage(total - vector, sums)
    assert_garbage(total, sums[:1])
    assert_garbage(total, [sums[1], sums[1]])
    assert opened(PLAN, 4, total, sums)[1] == 100


def test_a_random_body_with_a_right_tail_is_seen() -> None:
    total, sums = masked_sum(PLAN, CELL, 2), slot_sums(PLAN, CELL, 2)
    total[:30] += np.random.default_rng(3).integers(0, 2**32, 30, dtype=np.uint32)
    with pytest.raises(UnmaskCheckFailed) as refused:
        opened(PLAN, 4, total, sums)
    assert refused.value.check == "range"


def test_a_wrong_number_of_clients_is_seen_where_the_weight_shows_it() -> None:
    light = [a_client(z, [0.5] * 30, 1) for z in range(1, 5)]
    total, sums = masked_sum(PLAN, light, 2), slot_sums(PLAN, light, 2)
    assert_garbage(total, sums, clients=5)


# ---- what single vectors and incomplete sums show

LONG = Encoding(2**18, 1.0, 10, 100)
SAME = [a_client(z, np.full(2**18, 0.25), 100) for z in range(1, 4)]


def test_a_masked_update_is_uniform_and_a_plain_one_is_not() -> None:
    assert looks_random(masked(LONG, SAME[0], 2))
    assert looks_random(masked(LONG, SAME[0], 1))
    assert chi_square(encoded(LONG, SAME[0]).view(np.uint32)) > 10_000


@pytest.mark.parametrize("held", [0, 1, 2])
def test_all_slots_but_one_open_nothing(held: int) -> None:
    remainder, sums = masked_sum(LONG, SAME, 3), slot_sums(LONG, SAME, 3)
    for slot in {0, 1, 2} - {held}:
        remainder = remainder - sums[slot]
    assert looks_random(remainder)


def test_the_sum_of_all_clients_but_one_stays_uniform_beside_all_slot_sums() -> None:
    remainder = masked_sum(LONG, SAME[1:], 2)
    for words in slot_sums(LONG, SAME, 2):
        remainder = remainder - words
    assert looks_random(remainder)


def test_the_difference_of_two_masked_updates_is_uniform() -> None:
    assert looks_random(masked(LONG, SAME[0], 2) - masked(LONG, SAME[1], 2))


def test_one_seed_under_another_context_client_or_slot_gives_another_key() -> None:
    inputs = itertools.product((CTX, b"c" * 32), (b"a" * 32, b"b" * 32), (0, 1), (b"s" * 32, b"t" * 32))
    combinations = list(inputs)
    assert len({mask_key(*one) for one in combinations} | {seed_commitment(*one) for one in combinations}) == 32


def test_pet_is_a_scheme_with_three_sides() -> None:
    client: Masking = Masker(CELL[0].encoder(PLAN), [])
    committee: Answering = MaskSum([])
    reducer: Opening = CellOpening(PLAN, 1)
    words = np.empty(PLAN.n_words, np.uint32)
    client.chunk(0, CELL[0].values, words)
    nothing = np.empty_like(words)
    committee.chunk(0, nothing)
    assert np.array_equal(reducer.chunk(0, words, [nothing]), encoded(PLAN, CELL[0])[:30])
    assert reducer.tail().weight == CELL[0].samples
