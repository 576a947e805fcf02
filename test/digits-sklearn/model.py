"""Recognise handwritten digits with a linear classifier: what a client trains, validates and predicts.

Run by the network as fedn.yaml says; by hand, for example:

    FEDN_DATA_PATH=data/client-1 python model.py train seed.safetensors trained.safetensors
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the work is small, and a machine may run many clients

from pathlib import Path

import numpy as np
from sklearn.linear_model import SGDClassifier

from fedn_py.package import load_task, main, save_metrics
from fedn_py.package.sklearn import load_into, save_from

DIGITS = np.arange(10)
EPOCHS = 10  # passes over a client's data in one round; a session's parameter "epochs" overrides it
LEARNING_RATE = 0.1  # likewise "learning_rate"


def new_classifier(learning_rate=LEARNING_RATE, seed=0):
    """Return a classifier whose whole state is its coefficients, so that averaging them loses nothing."""
    return SGDClassifier(loss="log_loss", learning_rate="constant", eta0=learning_rate, alpha=1e-4, random_state=seed)


def load_part(folder, part):
    """Return the images, float32[n, 64] from 0 to 1, and labels, int64[n], of one part: "train" or "test"."""
    with np.load(Path(folder) / f"{part}.npz") as arrays:
        return arrays["images"], arrays["labels"]


def fit(classifier, images, labels, epochs):
    """Train for some passes over the data. A client need not have every digit."""
    for _ in range(epochs):
        classifier.partial_fit(images, labels, classes=DIGITS)


def measure(classifier, images, labels):
    """Return accuracy and the mean negative log-likelihood of the right digit."""
    chances = np.clip(classifier.predict_proba(images), 1e-7, 1)
    return {
        "accuracy": float(np.mean(DIGITS[chances.argmax(axis=1)] == labels)),
        "loss": float(-np.mean(np.log(chances[np.arange(len(labels)), labels]))),
    }


def train(in_model, out_model):
    """Train from the global model on this site's training images."""
    task = load_task()
    classifier = new_classifier(task.parameters.get("learning_rate", LEARNING_RATE), seed=task.round)
    load_into(classifier, in_model, classes=DIGITS)
    images, labels = load_part(task.data, "train")
    fit(classifier, images, labels, task.parameters.get("epochs", EPOCHS))
    save_from(classifier, out_model)
    save_metrics(out_model, num_samples=len(labels), **measure(classifier, images, labels))


def validate(model, out_json):
    """Measure a model on this site's held-out images."""
    classifier = new_classifier()
    load_into(classifier, model, classes=DIGITS)
    images, labels = load_part(load_task().data, "test")
    save_metrics(out_json, num_samples=len(labels), **measure(classifier, images, labels))


def predict(model, images_file, out_file):
    """Read images from an .npz and write the predicted labels to another."""
    classifier = new_classifier()
    load_into(classifier, model, classes=DIGITS)
    with np.load(images_file) as arrays:
        labels = classifier.predict(arrays["images"])
    with open(out_file, "wb") as file:
        np.savez(file, labels=labels)


if __name__ == "__main__":
    main({"train": train, "validate": validate, "predict": predict})
