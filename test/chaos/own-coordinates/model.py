"""Each client moves one coordinate as nobody else does, and all others a little: a sum shows who is in it.

A training tells that it has begun, by a file beside the client's data, and waits for as long as a gate for its round is
there.
"""

import os
import time

import numpy as np

from fedn_py.package import load_model, load_task, main, save_metrics, save_model

LOOK_EVERY_S = 0.02


def startup(out_model):
    save_model(out_model, {"values": np.zeros(1_000, np.float32), "steps": np.zeros(1, np.int64)})


def train(in_model, out_model):
    task = load_task()
    number = int((task.data / "number").read_text())
    begun = task.data / f"training-{task.session}-{task.round}-{task.attempt}"
    begun.with_suffix(".partial").write_text(str(os.getpid()))
    begun.with_suffix(".partial").replace(begun)
    while (task.data / f"gate-{task.round}").exists():
        time.sleep(LOOK_EVERY_S)
    model = load_model(in_model)
    noise = np.random.default_rng([number, task.round]).normal(0.0, 0.01, len(model["values"]))
    noise[number] = 1.0
    model["values"] = (model["values"] + noise).astype(np.float32)
    save_model(out_model, model)
    save_metrics(out_model, num_samples=10 * number)


def validate(model, out_json):
    values = load_model(model)["values"]
    save_metrics(out_json, num_samples=1, mean=float(values.mean()))


if __name__ == "__main__":
    main({"startup": startup, "train": train, "validate": validate})
