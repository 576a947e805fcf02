"""Tests of this project: python -m pytest, in its folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from fedn_py.package import load_model, save_model

HERE = Path(__file__).parent


def run(*words, **environment):
    command = [sys.executable, *map(str, words)]
    ended = subprocess.run(command, cwd=HERE, env={**os.environ, **environment}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def prepared(folder, *options, clients=8):
    run("prepare.py", "--clients", clients, "--out", folder, *options)
    return [
        [dict(np.load(folder / f"client-{n}" / f"{part}.npz")) for part in ("train", "test")]
        for n in range(1, clients + 1)
    ]


def test_every_image_is_at_one_client_and_a_fifth_is_held_out(tmp_path):
    parts = prepared(tmp_path)
    images = np.concatenate([part["images"] for both in parts for part in both])
    assert images.shape == (1797, 64)
    assert images.dtype == np.float32
    assert images.min() == 0
    assert images.max() == 1
    for train, test in parts:
        assert len(test["labels"]) == (len(train["labels"]) + len(test["labels"])) // 5
        assert set(train["labels"]) == set(range(10))


def test_the_images_are_those_of_scikit_learn(tmp_path):
    from sklearn.datasets import load_digits

    ((train, test),) = prepared(tmp_path, clients=1)
    found = np.concatenate([test["images"], train["images"]])
    expected = load_digits().data / 16
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected.astype(np.float32)))


def test_by_label_the_clients_differ_and_the_seed_decides(tmp_path):
    first = prepared(tmp_path / "a", "--split", "dirichlet", "--alpha", "0.3", "--seed", "5")
    again = prepared(tmp_path / "b", "--split", "dirichlet", "--alpha", "0.3", "--seed", "5")
    assert sum(len(part["labels"]) for both in first for part in both) == 1797
    shares = [np.bincount(train["labels"], minlength=10) / len(train["labels"]) for train, _ in first]
    assert np.ptp(shares, axis=0).max() > 0.3
    for (train, _), (same, _) in zip(first, again, strict=True):
        np.testing.assert_array_equal(train["labels"], same["labels"])


def test_startup_train_validate_and_predict_do_what_the_network_asks_of_them(tmp_path):
    prepared(tmp_path / "data", clients=2)
    (tmp_path / "task.json").write_text(json.dumps({"round": 1, "parameters": {"epochs": 3}}))
    task = {"FEDN_DATA_PATH": str(tmp_path / "data/client-1"), "FEDN_TASK": str(tmp_path / "task.json")}
    run("seed.py", tmp_path / "seed")
    run("model.py", "train", tmp_path / "seed", tmp_path / "trained", **task)
    seed, trained = load_model(tmp_path / "seed"), load_model(tmp_path / "trained")
    assert {name: (a.dtype, a.shape) for name, a in seed.items()} == {
        name: (a.dtype, a.shape) for name, a in trained.items()
    }
    assert json.loads((tmp_path / "trained.json").read_text())["num_samples"] > 500
    run("model.py", "validate", tmp_path / "trained", tmp_path / "metrics.json", **task)
    assert json.loads((tmp_path / "metrics.json").read_text())["accuracy"] > 0.8
    run("model.py", "predict", tmp_path / "trained", tmp_path / "data/client-2/test.npz", tmp_path / "labels.npz")
    assert (
        np.load(tmp_path / "labels.npz")["labels"].shape == np.load(tmp_path / "data/client-2/test.npz")["labels"].shape
    )


def test_a_client_that_lacks_digits_can_train(tmp_path):
    images, labels = np.random.default_rng(1).random((20, 64), np.float32), np.arange(20) % 2
    for part in ("train", "test"):
        np.savez(tmp_path / f"{part}.npz", images=images, labels=labels)
    save_model(tmp_path / "seed", {"coef_": np.zeros((10, 64), "f4"), "intercept_": np.zeros(10, "f4")})
    run("model.py", "train", tmp_path / "seed", tmp_path / "trained", FEDN_DATA_PATH=str(tmp_path))
    assert load_model(tmp_path / "trained")["coef_"].shape == (10, 64)


def test_five_rounds_over_eight_equal_clients_come_close_to_central_training(tmp_path):
    prepared(tmp_path)
    central = float(run("central.py", "--data", tmp_path).split()[-1])
    federated = float(run("central.py", "--data", tmp_path, "--federated", 5).split()[-1])
    assert central > 0.93
    assert federated > central - 0.03
