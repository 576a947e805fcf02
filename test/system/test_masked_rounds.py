"""Masked rounds on real processes: as accurate as plain ones, and exactly the mean that they say they are."""

import json
from pathlib import Path

import numpy as np
from oracle import masked_error, masked_mean
from running_network import ROOT, sandbox
from safetensors.numpy import load_file

DIGITS = ROOT / "test" / "digits-sklearn"


def saved(folder: Path, client: str, round_number: int) -> tuple[dict[str, np.ndarray], int]:
    """Return what a client trained in a round's last attempt, and on how many samples."""
    facts = [json.loads(file.read_text()) for file in (folder / client).glob("*.json")]
    last = max((one for one in facts if one["round"] == round_number), key=lambda one: one["attempt"])
    (model,) = (folder / client).glob(f"session-*-round-{round_number}-attempt-{last['attempt']}.safetensors")
    return load_file(model), last["num_samples"]


def test_masked_rounds_are_as_accurate_as_plain_ones_and_are_the_mean_of_their_clients(tmp_path: Path) -> None:
    options = ["--clients", "8", "--combiners", "2", "--rounds", "5", "--project", str(DIGITS)]
    (tmp_path / "plain").mkdir()
    plain = sandbox(tmp_path / "plain", *options, "--masking", "none")
    kept = tmp_path / "kept"
    masked = sandbox(tmp_path, *options, "--masking", "pet", "--keep-updates", str(kept))

    assert [one["number"] for one in masked["rounds"]] == [1, 2, 3, 4, 5]
    assert masked["rounds"][-1]["metrics"]["accuracy"] > plain["rounds"][-1]["metrics"]["accuracy"] - 0.01
    objects = tmp_path / "state" / "state" / "reducer" / "objects"
    stored = {file.name: file for file in objects.rglob("*") if file.is_file()}
    base = load_file(stored[masked["seed_model"]])
    for done in masked["rounds"]:
        updates = [saved(kept, client, done["number"]) for client in done["clients"]]
        assert len(updates) == 8
        assert done["samples"] == sum(samples for _, samples in updates)
        model, mean = load_file(stored[done["model"]]), masked_mean(base, updates)
        bound = masked_error(len(updates), done["samples"])
        for name, values in base.items():
            exact = values.astype(np.float64) + mean[name]
            # The model itself is float32; that rounding is not masking's.
            allowed = bound + np.finfo(np.float32).eps * np.abs(exact).max()
            assert np.abs(model[name] - exact).max() <= allowed
            assert np.abs(mean[name]).max() > 100 * bound  # else the test could not tell
        base = model
