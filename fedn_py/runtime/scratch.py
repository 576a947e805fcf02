"""Folders for files that do not outlive their process."""

import shutil
from pathlib import Path


def empty_folder(path: Path) -> Path:
    """Make a folder, or empty it of what an earlier life left there, and return it."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True, mode=0o700)
    return path
