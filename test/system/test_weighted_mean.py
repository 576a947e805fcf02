"""The mean over any number of combiners is flat weighted FedAvg over the included clients, seen on real processes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from oracle import largest_relative_difference, saved_updates, weighted_mean
from running_network import UNEQUAL, RunningNetwork
from safetensors.numpy import load_file


def test_one_client_of_10_samples_on_one_combiner_weighs_10_against_7_times_1000_on_another(
    start_network: Callable[..., RunningNetwork], tmp_path: Path
) -> None:
    running = start_network(combiners=2)
    kept = tmp_path / "kept"
    for number in (1, 2):
        running.start_combiner(number)
    running.await_combiners(2)
    for number, data in enumerate(running.prepared(UNEQUAL, 8), start=1):
        alone = "combiner-1" if number == 1 else "combiner-2"
        running.start_client(number, data, preferred_combiner=alone, keep_updates=str(kept))
    running.await_clients(8)
    package, seed = running.uploaded(UNEQUAL)

    ended = running.run_session(package, seed, rounds=3, clients_required=8)

    assert ended.status == "finished"
    where = {client.name: client.combiner for client in running.network.clients()}
    assert [name for name, combiner in where.items() if combiner == "combiner-1"] == ["client-1"]
    base = load_file(running.network.download_model(seed, tmp_path / "seed.safetensors"))
    for done in running.network.rounds(ended.id):
        assert done.samples == 10 + 7 * 1_000
        included = [client.name for client in done.clients]
        assert len(included) == 8
        file = running.network.download_model(str(done.model), tmp_path / f"{done.number}.safetensors")
        model = load_file(file)
        oracle = weighted_mean(base, saved_updates(kept, done.number, included))
        assert largest_relative_difference(model, oracle) < 1e-6
        # The two combiners averaged as equals would be far away: the test can tell.
        assert np.max(np.abs(model["mean"] - oracle["mean"])) < 0.01 < abs(50.0 - model["mean"][0]) / 2
        assert np.array_equal(model["steps"], base["steps"])
        base = model
