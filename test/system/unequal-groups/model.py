"""A "model" that is easy to judge: the mean of the rows, approached by half the way in each round."""

import numpy as np

from fedn_py.package import load_model, load_task, main, save_metrics, save_model

FEATURES = 6


def startup(out_model):
    save_model(
        out_model,
        {
            "mean": np.zeros(FEATURES, np.float32),
            "double": np.full((2, 3), 0.25, np.float64),
            "steps": np.array([7, 8], np.int64),
        },
    )


def train(in_model, out_model):
    model = load_model(in_model)
    rows = np.load(load_task().data / "rows.npy")
    center = rows.mean(axis=0)
    model["mean"] = (model["mean"] + 0.5 * (center - model["mean"])).astype(np.float32)
    model["double"] = model["double"] + rows.std() * np.arange(6).reshape(2, 3)
    model["steps"] = model["steps"] + 1
    save_model(out_model, model)
    save_metrics(out_model, num_samples=len(rows), distance=float(np.abs(center - model["mean"]).max()))


def validate(model, out_json):
    rows = np.load(load_task().data / "rows.npy")
    save_metrics(out_json, num_samples=len(rows), accuracy=float(np.abs(rows - load_model(model)["mean"]).mean()))


if __name__ == "__main__":
    main({"startup": startup, "train": train, "validate": validate})
