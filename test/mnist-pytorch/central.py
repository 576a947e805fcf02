"""Train the same network on everybody's data in one place: what a federation is measured against.

    python central.py --data data                   one model on the union of all training images
    python central.py --data data --federated 5     5 rounds of federated averaging, here in one process

Prints the accuracy on the union of all held-out images. No network is involved.
"""

import argparse
from pathlib import Path

import torch
from model import EPOCHS, fit, load_part, measure, new_network


def all_parts(data, part):
    """Return each client's images and labels."""
    return [load_part(folder, part) for folder in sorted(Path(data).glob("client-*"))]


def union(parts):
    """Return images and labels of all parts together."""
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


def trained_from(state, part, seed):
    """Return the weights after one round's training on one part."""
    network = new_network()
    network.load_state_dict(state)
    fit(network, *part, EPOCHS, seed)
    return network.state_dict()


def federated(parts, rounds):
    """Return the network after rounds of averaging, weighted by the number of images."""
    network = new_network()
    samples = [len(labels) for _, labels in parts]
    for number in range(1, rounds + 1):
        trained = [trained_from(network.state_dict(), part, seed=number) for part in parts]
        mean = {
            name: sum(state[name] * (count / sum(samples)) for state, count in zip(trained, samples, strict=True))
            for name in trained[0]
        }
        network.load_state_dict(mean)
    return network


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
        network = federated(parts, chosen.federated)
    else:
        network = new_network()
        fit(network, *union(parts), chosen.epochs, seed=1)
    print(f"held-out accuracy {measure(network, *union(all_parts(chosen.data, 'test')))['accuracy']:.4f}")


if __name__ == "__main__":
    main()
