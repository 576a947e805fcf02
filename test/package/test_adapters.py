from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fedn_py.errors import MissingDependency
from fedn_py.package import keras as keras_adapter
from fedn_py.package import load_model, pytorch
from fedn_py.package import sklearn as sklearn_adapter


def test_a_linear_models_parameters_go_into_a_fresh_one_that_predicts_at_once(tmp_path: Path) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    images, labels = np.random.default_rng(1).normal(size=(60, 4)), np.arange(60) % 3
    fitted = linear_model.LogisticRegression().fit(images, labels)
    sklearn_adapter.save_from(fitted, tmp_path / "m")
    fresh = linear_model.LogisticRegression()
    sklearn_adapter.load_into(fresh, tmp_path / "m", classes=range(3))
    np.testing.assert_array_equal(fresh.predict(images), fitted.predict(images))


def test_a_perceptrons_layers_are_numbered_and_come_back(tmp_path: Path) -> None:
    neural_network = pytest.importorskip("sklearn.neural_network")
    images, labels = np.random.default_rng(1).normal(size=(60, 4)), np.arange(60) % 3
    first = neural_network.MLPClassifier((5,), random_state=1).partial_fit(images, labels, classes=[0, 1, 2])
    second = neural_network.MLPClassifier((5,), random_state=2).partial_fit(images, labels, classes=[0, 1, 2])
    sklearn_adapter.save_from(first, tmp_path / "m")
    assert set(load_model(tmp_path / "m")) == {"coefs_.0", "coefs_.1", "intercepts_.0", "intercepts_.1"}
    sklearn_adapter.load_into(second, tmp_path / "m")
    np.testing.assert_array_equal(second.predict_proba(images), first.predict_proba(images))


def test_an_estimator_without_parameters_is_named() -> None:
    with pytest.raises(sklearn_adapter.NotFitted, match="SimpleNamespace"):
        sklearn_adapter.get_tensors(SimpleNamespace())


class NetworkLike:
    """What the Keras adapter needs of a model."""

    def __init__(self, *names: str) -> None:
        self.weights = [SimpleNamespace(name=name) for name in names]
        self.values = [np.full(2, place, "f4") for place in range(len(names))]

    def get_weights(self) -> list[np.ndarray]:
        return self.values

    def set_weights(self, values: list[np.ndarray]) -> None:
        self.values = values


def test_keras_weights_are_named_by_place_so_that_equal_names_stay_apart(tmp_path: Path) -> None:
    network = NetworkLike("kernel", "bias", "kernel", "bias")
    keras_adapter.save_from(network, tmp_path / "m")
    assert set(load_model(tmp_path / "m")) == {"0000.kernel", "0001.bias", "0002.kernel", "0003.bias"}
    other = NetworkLike("kernel", "bias", "kernel", "bias")
    other.values = [value + 7 for value in other.values]
    keras_adapter.load_into(other, tmp_path / "m")
    assert [value[0] for value in other.values] == [0, 1, 2, 3]


def test_a_file_of_another_network_is_refused_by_the_names_that_differ(tmp_path: Path) -> None:
    keras_adapter.save_from(NetworkLike("kernel", "bias"), tmp_path / "m")
    with pytest.raises(keras_adapter.OtherWeights, match=r"0002\.gamma"):
        keras_adapter.load_into(NetworkLike("kernel", "bias", "gamma"), tmp_path / "m")


def test_without_pytorch_its_adapter_says_what_to_install(tmp_path: Path) -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependency, match="PyTorch"):
            pytorch.load_into(None, tmp_path / "m")


def test_pytorch_keeps_bfloat16_and_integer_buffers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).to(torch.bfloat16)
    pytorch.save_from(module, tmp_path / "m")
    other = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).to(torch.bfloat16)
    pytorch.load_into(other, tmp_path / "m")
    for name, tensor in module.state_dict().items():
        assert other.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(other.state_dict()[name], tensor)
