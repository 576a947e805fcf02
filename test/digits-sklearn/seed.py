"""Make the model that training starts from: a linear classifier that knows nothing yet."""

import sys

import numpy as np

from fedn_py.package import save_model

PIXELS, DIGITS = 64, 10


def startup(out_model):
    """Write the seed model; the names of its tensors are the attributes of a scikit-learn classifier."""
    save_model(
        out_model,
        {"coef_": np.zeros((DIGITS, PIXELS), np.float32), "intercept_": np.zeros(DIGITS, np.float32)},
    )


if __name__ == "__main__":
    startup(sys.argv[1])
