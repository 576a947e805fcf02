"""The example projects as users meet them: trained by a network, tried by their own tests, copied to start from."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_network import ROOT, sandbox

DIGITS, KERAS, TORCH = (ROOT / "test" / name for name in ("digits-sklearn", "mnist-keras", "mnist-pytorch"))
FULL_SIZE = ("--clients", "8", "--combiners", "2", "--rounds", "5")
LIMIT_S = 900.0
TRIED = ["package", "data", "startup", "train", "validate", "worker", "train by worker", "validate by worker"]

FRAMEWORKS = ["sklearn", pytest.param("keras", marks=[pytest.mark.examples, pytest.mark.timeout(600)])]


def need(*modules: str) -> None:
    """Skip the test where a library is not installed."""
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    if lacking:
        pytest.skip(f"needs {' and '.join(lacking)}: make test and make test-examples install what PyPI has for it")


def run(words: Sequence[object], folder: Path, **environ: str) -> str:
    """Run a command that must succeed, in a folder, and return what it printed."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("FEDN_", "PYTEST_"))}
    done = subprocess.run(
        list(map(str, words)), cwd=folder, env={**plain, **environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def held_out_accuracy(project: Path, state: Path, model: str) -> float:
    """Return a stored model's accuracy on all clients' held-out images together, by the project's own predict."""
    (stored,) = (file for file in (state / "state" / "reducer" / "objects").rglob(model) if file.is_file())
    parts = [np.load(file) for file in sorted(state.glob("data/*/client-*/test.npz"))]
    images, labels = (np.concatenate([part[name] for part in parts]) for name in ("images", "labels"))
    np.savez(state / "held-out.npz", images=images)
    run([sys.executable, "model.py", "predict", stored, state / "held-out.npz", state / "labels.npz"], project)
    return float(np.mean(np.load(state / "labels.npz")["labels"] == labels))


def trained(project: Path, folder: Path, *options: str) -> tuple[dict[str, Any], float]:
    """Train a project on a sandbox; return its summary and the accuracy, checked on its final model."""
    summary = sandbox(folder, "--project", str(project), *options, timeout_s=LIMIT_S)
    told = summary["rounds"][-1]["metrics"]["accuracy"]
    # What the clients measured, weighted by their images, is what the model does on all of these images.
    assert held_out_accuracy(project, folder / "state", summary["final_model"]) == pytest.approx(told, abs=1e-6)
    return summary, told


# ---- trained by a network ------------------------------------------------------------------------------------


@pytest.mark.examples
@pytest.mark.timeout(LIMIT_S)
def test_eight_clients_train_the_keras_example_to_more_than_85_of_100(tmp_path: Path) -> None:
    need("keras", "jax", "mlxtend")
    summary, accuracy = trained(KERAS, tmp_path, *FULL_SIZE)
    assert [len(one["clients"]) for one in summary["rounds"]] == [8] * 5
    assert accuracy > 0.85


@pytest.mark.examples
@pytest.mark.timeout(LIMIT_S)
def test_eight_clients_with_mixes_of_digits_of_their_own_still_train_one_model(tmp_path: Path) -> None:
    summary, accuracy = trained(DIGITS, tmp_path, *FULL_SIZE, "--split", "dirichlet")
    assert [len(one["clients"]) for one in summary["rounds"]] == [8] * 5
    assert accuracy > 0.85


@pytest.mark.examples
@pytest.mark.timeout(LIMIT_S)
def test_eight_clients_train_the_pytorch_example_to_more_than_85_of_100(tmp_path: Path) -> None:
    if not os.environ.get("FEDN_TEST_TORCH"):
        pytest.skip("needs PyTorch, a download of 3 GB: make test-examples TORCH=1")
    summary, accuracy = trained(TORCH, tmp_path, *FULL_SIZE)
    assert [len(one["clients"]) for one in summary["rounds"]] == [8] * 5
    assert accuracy > 0.85


# ---- their own tests, in place -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "project",
    [
        # A copy of this one runs them in every test run, below.
        pytest.param(DIGITS, marks=[pytest.mark.examples]),
        pytest.param(KERAS, marks=[pytest.mark.examples, pytest.mark.timeout(600)]),
        pytest.param(TORCH, marks=[pytest.mark.examples, pytest.mark.timeout(600)]),
    ],
    ids=lambda project: project.name,
)
def test_the_project_passes_its_own_tests(project: Path) -> None:
    if project == TORCH and not os.environ.get("FEDN_TEST_TORCH"):
        pytest.skip("needs PyTorch, a download of 3 GB: make test-examples TORCH=1")
    printed = run([sys.executable, "-m", "pytest", "-q", project.relative_to(ROOT)], ROOT)
    assert re.search(r"\d+ passed", printed)


# ---- copied to start from ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Installation:
    """A place that fedn_py is installed in."""

    bin: Path

    @property
    def python(self) -> Path:
        return self.bin / "python"

    def starts_a_project(self, framework: str, folder: Path) -> list[str]:
        """Make a project, run its own tests in the copy, and try its package; return the steps that were tried."""
        run([self.bin / "fedn-py", "new", "mine", "--framework", framework], folder)
        tests = run([self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"], folder / "mine")
        assert re.search(r"\d+ passed", tests)
        printed = run([self.bin / "fedn-py", "package", "validate", ".", "--json"], folder / "mine")
        return [step["name"] for step in json.loads(printed)["data"]["steps"] if not step["fault"]]


@pytest.fixture(scope="module")
def wheel_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """fedn_py from its wheel, in an environment of its own; its libraries are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT], folder)
    (wheel,) = folder.glob("fedn_py-*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], folder)
    run([*pip, "--python", folder / "venv", "install", "--no-deps", "--no-index", wheel], folder)
    installed = Installation(folder / "venv" / "bin")
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    yield installed
    shutil.rmtree(folder)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_new_project_passes_its_own_tests_and_is_sound(framework: str, tmp_path: Path) -> None:
    if framework == "keras":
        need("keras", "jax", "mlxtend")
    assert Installation(Path(sys.executable).parent).starts_a_project(framework, tmp_path) == TRIED


@pytest.mark.examples
@pytest.mark.timeout(600)
@pytest.mark.parametrize("framework", ["sklearn", "keras"])
def test_a_new_project_from_the_wheel_passes_its_own_tests_and_is_sound(
    framework: str, wheel_installation: Installation, tmp_path: Path
) -> None:
    if framework == "keras":
        need("keras", "jax", "mlxtend")
    where = run([wheel_installation.python, "-c", "import fedn_py; print(fedn_py.__file__)"], tmp_path)
    assert str(wheel_installation.bin.parent) in where
    assert wheel_installation.starts_a_project(framework, tmp_path) == TRIED
