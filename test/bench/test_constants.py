"""The clients of a benchmark: what the last model must be, and that a wrong one is found."""

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedn_py.bench import constants
from fedn_py.bench.constants import STEP, constant_of, exact_terms, largest_error, samples_of, write_seed
from fedn_py.masking.fixed_point import Encoder, Encoding

CLIENTS = (1, 2, 3, 10, 97, 1_000)


@pytest.fixture
def seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "_TENSOR_WEIGHTS", 400)
    file = tmp_path / "seed.safetensors"
    write_seed(file, 1_000)
    return file


def moved(seed: Path, by: float, **wrong: float) -> Path:
    model = {name: values + np.float32(by) for name, values in load_file(seed).items()}
    for name, value in wrong.items():
        model[name.replace("_", "-")][7] += np.float32(value)
    file = seed.with_name("final.safetensors")
    save_file(model, file)
    return file


@pytest.mark.parametrize("clients", CLIENTS)
def test_the_weighted_mean_of_what_all_clients_add_is_one_step(clients: int) -> None:
    added = [(constant_of(number, clients), samples_of(number, clients)) for number in range(clients)]
    assert sum(value * samples for value, samples in added) / sum(samples for _, samples in added) == STEP
    assert len({value for value, _ in added}) == clients


@pytest.mark.parametrize("clients", [3, 10, 97])
def test_the_mean_is_another_one_where_somebody_is_left_out(clients: int) -> None:
    added = [(constant_of(number, clients), samples_of(number, clients)) for number in range(clients)]
    for absent in set(range(clients)) - {(clients - 1) // 2}:  # who adds the mean itself would not be missed
        rest = [one for number, one in enumerate(added) if number != absent]
        assert sum(value * samples for value, samples in rest) / sum(samples for _, samples in rest) != STEP


def test_the_seed_has_no_two_values_to_speak_of_that_are_the_same(seed: Path) -> None:
    values = np.concatenate(list(load_file(seed).values()))
    assert len(values) == 1_000
    assert len(np.unique(values)) > 990


def test_a_model_that_moved_a_step_a_round_is_right(seed: Path) -> None:
    assert largest_error(seed, moved(seed, 5 * STEP), rounds=5) == 0.0


def test_one_weight_that_is_a_little_off_is_found(seed: Path) -> None:
    assert largest_error(seed, moved(seed, 5 * STEP, layer_0002=STEP / 64), rounds=5) == STEP / 64


def test_a_round_too_few_is_found(seed: Path) -> None:
    assert largest_error(seed, moved(seed, 4 * STEP), rounds=5) == STEP


def test_a_model_without_one_of_the_tensors_is_wrong(seed: Path) -> None:
    model = load_file(moved(seed, STEP))
    del model["layer-0001"]
    save_file(model, seed.with_name("final.safetensors"))
    assert largest_error(seed, seed.with_name("final.safetensors"), rounds=1) == math.inf


def test_a_value_that_is_no_number_is_found(seed: Path) -> None:
    assert largest_error(seed, moved(seed, STEP, layer_0002=math.nan), rounds=1) == math.inf


@pytest.mark.parametrize("clients", [3, 10, 97, 1_000])
def test_masked_rounds_lose_nothing_by_rounding_under_the_terms_that_are_chosen(clients: int) -> None:
    terms = exact_terms(clients)
    encoding = Encoding(1, terms.clip, terms.n_max, terms.weight_cap)
    assert math.log2(encoding.scale).is_integer()
    total, weights = 0.0, 0
    for number in range(clients):
        value, samples = constant_of(number, clients), samples_of(number, clients)
        assert abs(value) <= terms.clip
        assert samples <= terms.weight_cap
        encoder = Encoder(encoding, samples, (), bytes([number % 256]) * 32)
        words = np.empty(encoding.n_words, np.uint32)
        encoder.chunk(0, np.array([value], np.float32), words)
        total += float(words[:1].view(np.int32)[0]) / encoding.scale * terms.weight_cap
        weights += samples
    assert total / weights == STEP
