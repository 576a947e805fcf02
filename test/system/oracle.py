"""What a round's model must be, computed from the clients' own saved models: no code of the network is used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

CLIP, N_MAX, WEIGHT_CAP = 10.0, 64, 10_000
"""What a masked session has unless it is told otherwise."""


def saved_updates(
    folder: Path, round_number: int, included: list[str], *, session: int = 1
) -> list[tuple[dict[str, np.ndarray], int]]:
    """Return the trained models and sample counts that the included clients saved for a round of a session."""
    found = []
    for client in included:
        facts = [json.loads(file.read_text()) for file in sorted((folder / client).glob(f"session-{session}-*.json"))]
        of_round = [one for one in facts if one["round"] == round_number]
        last = max(of_round, key=lambda one: one["attempt"])
        model = folder / client / f"session-{session}-round-{round_number}-attempt-{last['attempt']}.safetensors"
        found.append((load_file(model), last["num_samples"]))
    return found


def weighted_mean(base: dict[str, np.ndarray], updates: list[tuple[dict[str, np.ndarray], int]]) -> dict[str, Any]:
    """Return flat weighted FedAvg in float64; integer tensors keep the base's values."""
    total = sum(samples for _, samples in updates)
    return {
        name: sum(model[name].astype(np.float64) * samples for model, samples in updates) / total
        if np.issubdtype(values.dtype, np.floating)
        else values
        for name, values in base.items()
    }


def masked_mean(base: dict[str, np.ndarray], updates: list[tuple[dict[str, np.ndarray], int]]) -> dict[str, Any]:
    """Return the mean of clipped updates by their capped weights, in float64."""
    weights = [min(samples, WEIGHT_CAP) for _, samples in updates]
    mean = {}
    for name, values in base.items():
        clipped = [np.clip((model[name] - values).astype(np.float64), -CLIP, CLIP) for model, _ in updates]
        mean[name] = sum(one * weight for one, weight in zip(clipped, weights, strict=True)) / sum(weights)
    return mean


def masked_error(n: int, weight: int) -> float:
    """Return how far a value of the mean of n clients may be off for its rounding to whole numbers."""
    scale = (2**30 // N_MAX - 1) / CLIP
    return n / (scale * weight / WEIGHT_CAP)


def largest_relative_difference(model: dict[str, np.ndarray], oracle: dict[str, Any]) -> float:
    """Return the largest difference of any tensor, relative to that tensor's largest value."""
    return max(
        float(np.max(np.abs(values.astype(np.float64) - oracle[name])) / max(np.max(np.abs(oracle[name])), 1e-12))
        for name, values in model.items()
    )
