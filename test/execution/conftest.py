import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

MANIFEST = b"""
name: echo
version: "1"
entry_points:
  startup: {command: python model.py startup}
  train: {command: python model.py train}
  validate: {command: python model.py validate}
"""

MODEL = b"""
import numpy as np
from fedn_py.package import load_model, load_task, main, save_metrics, save_model

def startup(out):
    save_model(out, {"w": np.zeros(4, "f4"), "steps": np.zeros(1, "i8")})

def train(model, out):
    print("training in round", load_task().round)
    tensors = load_model(model)
    tensors["w"] = tensors["w"] + np.float32(load_task().parameters.get("step", 1))
    save_model(out, tensors)
    save_metrics(out, num_samples=10, loss=0.5)

def validate(model, out):
    save_metrics(out, num_samples=5, accuracy=float(load_model(model)["w"][0]))

if __name__ == "__main__":
    main({"startup": startup, "train": train, "validate": validate})
"""

FILES = {"fedn.yaml": MANIFEST, "model.py": MODEL}


def a_member(name: str, content: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    return member, content


@pytest.fixture
def archive_of(tmp_path: Path) -> Callable[..., Path]:
    """Write an archive of the sound package's files and any further members, however hostile."""

    def write(*members: tuple[tarfile.TarInfo, bytes], sound: bool = True) -> Path:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
            whole = [a_member(name, content) for name, content in FILES.items()] if sound else []
            for member, content in [*whole, *members]:
                archive.addfile(member, io.BytesIO(content))
        target = tmp_path / "package.tar.gz"
        target.write_bytes(gzip.compress(plain.getvalue()))
        return target

    return write


@pytest.fixture
def member() -> Callable[..., tuple[tarfile.TarInfo, bytes]]:
    """Build one member of an archive: name, content, and any attribute of its header."""
    return a_member


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of a small sound package."""
    target = tmp_path / "project"
    target.mkdir()
    for name, content in FILES.items():
        (target / name).write_bytes(content)
    return target
