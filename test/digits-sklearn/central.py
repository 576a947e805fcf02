"""Train the same model on everybody's data in one place: what a federation is measured against.

    python central.py --data data                   one model on the union of all training images
    python central.py --data data --federated 5     5 rounds of federated averaging, here in one process

Prints the accuracy on the union of all held-out images. No network is involved.
"""

import argparse
from pathlib import Path

import numpy as np
from model import DIGITS, EPOCHS, fit, load_part, measure, new_classifier
from seed import PIXELS

from fedn_py.package.sklearn import get_tensors, set_tensors


def all_parts(data, part):
    """Return each client's images and labels."""
    return [load_part(folder, part) for folder in sorted(Path(data).glob("client-*"))]


def union(parts):
    """Return images and labels of all parts together."""
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def seed_tensors():
    """Return the model that seed.py writes."""
    return {"coef_": np.zeros((len(DIGITS), PIXELS), np.float32), "intercept_": np.zeros(len(DIGITS), np.float32)}


def trained_from(tensors, part, epochs, seed):
    """Return the tensors after training on one part."""
    classifier = new_classifier(seed=seed)
    set_tensors(classifier, tensors, classes=DIGITS)
    fit(classifier, *part, epochs)
    return get_tensors(classifier)


def federated(parts, rounds):
    """Return the tensors after rounds of averaging, weighted by the number of images."""
    tensors = seed_tensors()
    weights = [len(labels) for _, labels in parts]
    for number in range(1, rounds + 1):
        trained = [trained_from(tensors, part, EPOCHS, seed=number) for part in parts]
        tensors = {
            name: np.average([one[name] for one in trained], axis=0, weights=weights).astype(np.float32)
            for name in tensors
        }
    return tensors


def main():
    """Train as the command line says and print the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare.py wrote")
    parser.add_argument("--epochs", type=int, default=5 * EPOCHS, help="passes over the union of the data")
    parser.add_argument("--federated", type=int, metavar="ROUNDS", help="simulate rounds instead")
    chosen = parser.parse_args()
    parts = all_parts(chosen.data, "train")
    if not parts:
        parser.error(f"no client-1, client-2, ... in {chosen.data}: run prepare.py first")
    if chosen.federated:
        tensors = federated(parts, chosen.federated)
    else:
        tensors = trained_from(seed_tensors(), union(parts), chosen.epochs, seed=1)
    classifier = new_classifier()
    set_tensors(classifier, tensors, classes=DIGITS)
    found = measure(classifier, *union(all_parts(chosen.data, "test")))
    print(f"held-out accuracy {found['accuracy']:.4f}")


if __name__ == "__main__":
    main()
