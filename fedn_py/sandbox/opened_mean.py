"""What came out of a round: the mean update, as the global model shows it to everybody who may see models."""

import tempfile
from itertools import islice
from pathlib import Path

import numpy as np

from fedn_py.api.network import Network
from fedn_py.model.vector import difference
from fedn_py.runtime.model_files import mapped_model


def opened_mean(network: Network, session: str, number: int, count: int) -> tuple[float, ...]:
    """Return the first coordinates of what a round added to the global model, nothing before it is committed.

    Returns:
        float[at most count] in model units, in the order of a masked update's coordinates.
    """
    model = network.round(session, number).model
    base = None if model is None else network.model(model).parent
    if model is None or base is None:
        return ()
    with tempfile.TemporaryDirectory() as scratch:
        files = [network.download_model(digest, Path(scratch) / digest) for digest in (model, base)]
        with mapped_model(files[0]) as (new, new_layout), mapped_model(files[1]) as (old, old_layout):
            values = (value for piece in difference(new, old, new_layout, old_layout) for value in np.asarray(piece))
            return tuple(float(value) for value in islice(values, count))
