"""Recognise handwritten digits with a small convolutional network in Keras 3: train, validate, predict.

The backend is JAX, because it is light. KERAS_BACKEND=tensorflow or torch in the client's environment chooses another
one, which then must be installed there; the model files are the same for all.

Run by the network as fedn.yaml says; by hand, for example:

    FEDN_DATA_PATH=data/client-1 python model.py train seed.safetensors trained.safetensors
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # clients that share a GPU

from functools import cache
from pathlib import Path

import keras
import numpy as np

from fedn_py.package import load_task, main, save_metrics
from fedn_py.package.keras import load_into, save_from

EPOCHS = 3  # passes over a client's data in one round; a session's parameter "epochs" overrides it
LEARNING_RATE = 0.1  # likewise "learning_rate"
BATCH = 32  # always this many images at a time: another shape would be compiled anew


@cache
def network():
    """Return the network, built and compiled once in a process.

    Plain gradient descent has no state of its own, so nothing is lost when only the weights are averaged, and a
    worker's next task does not inherit anything from the last one.
    """
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(LEARNING_RATE), loss)
    return model


def load_part(folder, part):
    """Return the images, float32[n, 28, 28, 1] from 0 to 1, and labels, int64[n], of "train" or "test"."""
    with np.load(Path(folder) / f"{part}.npz") as arrays:
        return arrays["images"].astype(np.float32)[..., None] / 255, arrays["labels"]


def fit(images, labels, epochs, seed):
    """Train the network for some passes over the data, in whole batches."""
    rng = np.random.default_rng(seed)
    size = max(BATCH, len(labels) // BATCH * BATCH)
    for _ in range(epochs):
        order = np.resize(rng.permutation(len(labels)), size)
        network().fit(images[order], labels[order], batch_size=BATCH, shuffle=False, verbose=0)


def logits(images):
    """Return the network's answers, float32[n, 10]."""
    whole = -(-len(images) // BATCH) * BATCH
    padded = np.zeros((whole, *images.shape[1:]), np.float32)
    padded[: len(images)] = images
    return network().predict(padded, batch_size=BATCH, verbose=0)[: len(images)]


def measure(images, labels):
    """Return accuracy and the mean negative log-likelihood of the right digit."""
    answers = logits(images).astype(np.float64)
    answers -= answers.max(axis=1, keepdims=True)
    chances = answers - np.log(np.exp(answers).sum(axis=1, keepdims=True))
    return {
        "accuracy": float(np.mean(answers.argmax(axis=1) == labels)),
        "loss": float(-np.mean(chances[np.arange(len(labels)), labels])),
    }


def startup(out_model):
    """Write the model that training starts from."""
    save_from(network(), out_model)


def train(in_model, out_model):
    """Train from the global model on this site's training images."""
    task = load_task()
    load_into(network(), in_model)
    network().optimizer.learning_rate = task.parameters.get("learning_rate", LEARNING_RATE)
    images, labels = load_part(task.data, "train")
    fit(images, labels, task.parameters.get("epochs", EPOCHS), seed=task.round)
    save_from(network(), out_model)
    save_metrics(out_model, num_samples=len(labels), **measure(images, labels))


def validate(model, out_json):
    """Measure a model on this site's held-out images."""
    load_into(network(), model)
    images, labels = load_part(load_task().data, "test")
    save_metrics(out_json, num_samples=len(labels), **measure(images, labels))


def predict(model, images_file, out_file):
    """Read images, uint8[n, 28, 28], from an .npz and write the predicted labels to another."""
    load_into(network(), model)
    with np.load(images_file) as arrays:
        labels = logits(arrays["images"].astype(np.float32)[..., None] / 255).argmax(axis=1)
    with open(out_file, "wb") as file:
        np.savez(file, labels=labels)


if __name__ == "__main__":
    main({"startup": startup, "train": train, "validate": validate, "predict": predict})
