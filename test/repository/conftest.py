"""The repository as the tests of it see it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {".git", ".venv", ".cache", ".fedn", "build", "dist", "node_modules"}


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def files() -> list[Path]:
    """Return every file of the repository, without what is installed, built or cached."""
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file()
        and not any(
            part in NOT_OURS or part.endswith(("_cache", "__pycache__")) for part in path.relative_to(ROOT).parts
        )
    ]


@pytest.fixture(scope="session")
def pages(files: list[Path]) -> list[Path]:
    """Return every page of documentation."""
    return [path for path in files if path.suffix == ".md"]
