"""scikit-learn estimators as tensors: the fitted parameters that linear models and multi-layer perceptrons learn.

Linear models keep them in ``coef_`` and ``intercept_``, perceptrons in the lists ``coefs_`` and ``intercepts_``. The
names of the tensors are those of the attributes; a list gives ``coefs_.0``, ``coefs_.1`` and so on.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedn_py.errors import OwnFault
from fedn_py.package.models import load_model, save_model

_ATTRIBUTES = ("coef_", "intercept_", "coefs_", "intercepts_")


class NotFitted(OwnFault):
    """An estimator without learned parameters, or of a kind that keeps them elsewhere."""


def get_tensors(estimator: Any) -> dict[str, npt.NDArray[Any]]:
    """Return copies of an estimator's learned parameters by name, or raise NotFitted."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    for attribute in _ATTRIBUTES:
        value = getattr(estimator, attribute, None)
        if isinstance(value, list):
            tensors |= {f"{attribute}.{place}": np.array(array) for place, array in enumerate(value)}
        elif value is not None:
            tensors[attribute] = np.array(value)
    if not tensors:
        raise NotFitted(
            f"{type(estimator).__name__} has none of {', '.join(_ATTRIBUTES)}",
            remedy="Fit it once first, or pick the arrays yourself and pass them to save_model.",
        )
    return tensors


def set_tensors(estimator: Any, tensors: Mapping[str, npt.ArrayLike], *, classes: npt.ArrayLike | None = None) -> None:
    """Put learned parameters into an estimator.

    A linear model may be fresh: with ``classes`` given it predicts at once, and with ``warm_start=True`` the next
    ``fit`` goes on from here. A perceptron must have been fitted or partially fitted once, as it builds its inner
    state then.

    Args:
        estimator: changed in place.
        tensors: as ``get_tensors`` names them.
        classes: sets ``classes_``, the labels a classifier predicts, in the order of its rows.
    """
    if classes is not None:
        estimator.classes_ = np.asarray(classes)
    for attribute in _ATTRIBUTES:
        if attribute in tensors:
            setattr(estimator, attribute, np.array(tensors[attribute]))
        elif f"{attribute}.0" in tensors:
            setattr(estimator, attribute, _listed(tensors, attribute))
    if "coef_" in tensors:
        estimator.n_features_in_ = int(np.shape(tensors["coef_"])[-1])


def load_into(estimator: Any, path: str | os.PathLike[str], *, classes: npt.ArrayLike | None = None) -> None:
    """Read a model file into an estimator; see ``set_tensors``."""
    set_tensors(estimator, load_model(path), classes=classes)


def save_from(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write an estimator's learned parameters as a model file."""
    save_model(path, get_tensors(estimator))


def _listed(tensors: Mapping[str, npt.ArrayLike], attribute: str) -> list[npt.NDArray[Any]]:
    found: list[npt.NDArray[Any]] = []
    while f"{attribute}.{len(found)}" in tensors:
        found.append(np.array(tensors[f"{attribute}.{len(found)}"]))
    return found
