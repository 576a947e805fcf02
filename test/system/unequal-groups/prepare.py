"""One client with 10 samples of its own kind, all others with 1,000: where averaging groups equally goes far astray."""

import argparse
from pathlib import Path

import numpy as np

FEATURES = 6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="iid")
    chosen = parser.parse_args()
    for number in range(1, chosen.clients + 1):
        rng = np.random.default_rng(number)
        count, shift = (10, 50.0) if number == 1 else (1_000, float(number))
        folder = chosen.out / f"client-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "rows.npy", rng.normal(shift, 1.0, (count, FEATURES)))


main()
