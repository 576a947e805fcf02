"""Tests of this project: python -m pytest, in its folder. They take about a minute."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedn_py.package import load_model

pytest.importorskip("torch", reason="PyTorch is not installed")

HERE = Path(__file__).parent


def run(*words, **environment):
    command = [sys.executable, *map(str, words)]
    ended = subprocess.run(command, cwd=HERE, env={**os.environ, **environment}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def shapes(model):
    return {name: (tensor.dtype, tensor.shape) for name, tensor in load_model(model).items()}


def test_every_image_is_at_one_client_and_a_fifth_is_held_out(tmp_path):
    run("prepare.py", "--clients", 4, "--out", tmp_path, "--split", "dirichlet")
    total = 0
    for number in range(1, 5):
        train, test = (np.load(tmp_path / f"client-{number}" / f"{part}.npz") for part in ("train", "test"))
        assert train["images"].shape[1:] == (28, 28)
        assert train["images"].dtype == np.uint8
        assert len(test["labels"]) == (len(train["labels"]) + len(test["labels"])) // 5
        total += len(train["labels"]) + len(test["labels"])
    assert total == 5_000


def test_startup_train_validate_and_predict_do_what_the_network_asks_of_them(tmp_path):
    run("prepare.py", "--clients", 8, "--out", tmp_path / "data")
    (tmp_path / "task.json").write_text(json.dumps({"round": 1, "parameters": {"epochs": 5}}))
    task = {"FEDN_DATA_PATH": str(tmp_path / "data/client-1"), "FEDN_TASK": str(tmp_path / "task.json")}
    run("model.py", "startup", tmp_path / "seed")
    run("model.py", "train", tmp_path / "seed", tmp_path / "trained", **task)
    assert shapes(tmp_path / "seed") == shapes(tmp_path / "trained")
    assert json.loads((tmp_path / "trained.json").read_text())["num_samples"] == 500
    run("model.py", "validate", tmp_path / "trained", tmp_path / "metrics.json", **task)
    assert json.loads((tmp_path / "metrics.json").read_text())["accuracy"] > 0.5
    run("model.py", "predict", tmp_path / "trained", tmp_path / "data/client-2/test.npz", tmp_path / "labels.npz")
    assert np.load(tmp_path / "labels.npz")["labels"].shape == (125,)


def test_five_rounds_over_eight_equal_clients_recognise_85_of_100(tmp_path):
    run("prepare.py", "--clients", 8, "--out", tmp_path)
    assert float(run("central.py", "--data", tmp_path, "--federated", 5).split()[-1]) > 0.85
