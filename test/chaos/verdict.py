"""What must hold of a session however its network was hurt, seen in the stores and in what the clients kept."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from chaos.network import ChaosNetwork
from oracle import largest_relative_difference, masked_error, masked_mean, weighted_mean
from safetensors.numpy import load, load_file

from fedn_py.reducer.shown_rounds import RoundView

Model = dict[str, np.ndarray]


def faults_of_session(network: ChaosNetwork, session: str, seed: Path) -> Iterator[str]:
    """Yield what is wrong with a session that has ended: its number of rounds, its models, its objects."""
    view = network.network.session(session)
    if view.status != "finished":
        yield f"the session is {view.status} after {view.rounds_done} rounds: {view.reason}"
    yield from _faults_of_objects(network)
    rounds = network.network.rounds(session)
    done = [one for one in rounds if one.status == "done"]
    if [one.number for one in done] != list(range(1, view.rounds_wanted + 1)):
        yield f"the rounds that are done are {[one.number for one in done]}"
    base = load_file(seed)
    for one in done:
        content = network.content_of(str(one.model))
        if content is None:
            yield f"the model of round {one.number} is not in the store"
            return
        model = load(content)
        yield from _faults_of_round(network, session, one, base, model)
        base = model


def _faults_of_objects(network: ChaosNetwork) -> Iterator[str]:
    """Read the objects that have come since the session before."""
    for name in network.objects() - network.judged:
        content = network.content_of(name)
        if content is not None and hashlib.sha256(content).hexdigest() != name:
            yield f"object {name} does not hash to its name"
        network.judged.add(name)


def _faults_of_round(network: ChaosNetwork, session: str, done: RoundView, base: Model, model: Model) -> Iterator[str]:
    names = [client.name for client in done.clients]
    if len(set(names)) != len(names):
        yield f"round {done.number} has a client twice: {sorted(names)}"
    updates = [kept_update(network.kept / name, session, done.number) for name in names]
    if done.samples != sum(samples for _, samples in updates):
        yield f"round {done.number} has {done.samples} samples, its clients have others"
    if not np.array_equal(model["steps"], base["steps"]):
        yield f"round {done.number} changed an integer tensor"
    if done.masking is None:
        off = largest_relative_difference(model, weighted_mean(base, updates))
        if off > 1e-6:
            yield f"the model of round {done.number} is not the mean of its clients: {off:g} off"
        return
    mean, values = masked_mean(base, updates), base["values"].astype(np.float64)
    exact = values + mean["values"]
    allowed = masked_error(len(updates), done.samples) + np.finfo(np.float32).eps * np.abs(exact).max()
    distance = float(np.abs(model["values"] - exact).max())
    if distance > allowed:
        yield f"the model of round {done.number} is not the mean of its clients: {distance:g} off, {allowed:g} allowed"


def kept_update(folder: Path, session: str, round_number: int) -> tuple[Model, int]:
    """Return the model that a client trained for a round, in whichever attempt it did, and on how many samples."""
    found: list[tuple[int, Path, Any]] = []
    for file in folder.glob("*.json"):
        facts = json.loads(file.read_text())
        if facts["session"] == session and facts["round"] == round_number:
            found.append((facts["attempt"], file, facts))
    if not found:
        raise AssertionError(f"{folder.name} is in round {round_number} and kept no update of it")
    _, file, facts = max(found, key=lambda one: one[0])
    return load_file(file.with_suffix(".safetensors")), facts["num_samples"]
