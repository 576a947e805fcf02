"""Train the same network on everybody's data in one place: what a federation is measured against.

    python central.py --data data                   one model on the union of all training images
    python central.py --data data --federated 5     5 rounds of federated averaging, here in one process

Prints the accuracy on the union of all held-out images. No network is involved.
"""

import argparse
from pathlib import Path

import numpy as np
from model import EPOCHS, fit, load_part, measure, network


def all_parts(data, part):
    """Return each client's images and labels."""
    return [load_part(folder, part) for folder in sorted(Path(data).glob("client-*"))]


def union(parts):
    """Return images and labels of all parts together."""
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def trained_from(weights, part, seed):
    """Return the network's weights after one round's training on one part."""
    network().set_weights(weights)
    fit(*part, EPOCHS, seed)
    return network().get_weights()


def federated(parts, rounds):
    """Leave the network with the weights after rounds of averaging, weighted by the number of images."""
    weights = network().get_weights()
    samples = [len(labels) for _, labels in parts]
    for number in range(1, rounds + 1):
        trained = [trained_from(weights, part, seed=number) for part in parts]
        weights = [np.average(arrays, axis=0, weights=samples) for arrays in zip(*trained, strict=True)]
    network().set_weights(weights)


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
        federated(parts, chosen.federated)
    else:
        fit(*union(parts), chosen.epochs, seed=1)
    print(f"held-out accuracy {measure(*union(all_parts(chosen.data, 'test')))['accuracy']:.4f}")


if __name__ == "__main__":
    main()
