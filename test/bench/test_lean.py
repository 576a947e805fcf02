"""Lean clients: the model piece by piece, and one copy of it for all."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedn_py.bench import lean
from fedn_py.bench.constants import constant_of, write_seed
from fedn_py.bench.lean import LeanLearner, add_to_all, share
from fedn_py.client.ports import LearningTask
from fedn_py.identity import Digest, SessionId


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


def a_model(folder: Path, name: str = "m.safetensors", content: bytes = b"model") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_a_constant_is_added_to_every_weight_of_every_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "_PIECE_WEIGHTS", 7)
    monkeypatch.setattr("fedn_py.bench.constants._TENSOR_WEIGHTS", 40)
    base, trained = tmp_path / "base", tmp_path / "trained"
    write_seed(base, 100)
    add_to_all(base, trained, np.float32(0.25))
    before, after = load_file(base), load_file(trained)
    assert list(before) == list(after)
    assert all((after[name] == values + np.float32(0.25)).all() for name, values in before.items())


def test_clients_come_to_share_one_copy(tmp_path: Path, shared: Path) -> None:
    models = [a_model(tmp_path / name) for name in ("anna", "bo", "cy")]
    for model in models:
        share(model, shared)
    assert {model.stat().st_ino for model in models} == {(shared / "m.safetensors").stat().st_ino}
    assert {model.read_bytes() for model in models} == {b"model"}


def test_sharing_once_more_changes_nothing(tmp_path: Path, shared: Path) -> None:
    model = a_model(tmp_path / "anna")
    share(model, shared)
    share(model, shared)
    assert list(model.parent.iterdir()) == [model]


def test_the_next_model_takes_the_place_of_the_last_among_the_shared_ones(tmp_path: Path, shared: Path) -> None:
    older, newer = a_model(tmp_path / "anna"), a_model(tmp_path / "anna", "n.safetensors", b"next")
    share(older, shared)
    share(newer, shared)
    assert [file.name for file in shared.iterdir()] == ["n.safetensors"]
    assert older.read_bytes() == b"model"  # the client's own link stays


def test_a_lean_client_adds_what_any_client_of_its_number_adds(tmp_path: Path, shared: Path) -> None:
    async def fetch(digest: Digest, into: Path) -> None:
        raise AssertionError

    base, trained = tmp_path / "base.safetensors", tmp_path / "trained"
    write_seed(base, 10)
    task = LearningTask(SessionId("5" * 32), 1, 1, Digest("a" * 64), "{}", 60.0)

    async def story() -> int:
        learner = LeanLearner(2, 3, asyncio.Semaphore(1), shared)
        return (await learner.train(base, trained, task, fetch)).samples

    assert asyncio.run(story()) == 1
    moved = load_file(trained)["layer-0000"] - load_file(base)["layer-0000"]
    assert (moved == np.float32(constant_of(2, 3))).all()
