"""The front-end files that are not ours: unchanged from their packages, each with its version and licence beside it."""

import hashlib
import re
from pathlib import Path

import pytest

import fedn_py.web.ui

VENDOR = Path(fedn_py.web.ui.__file__).parent / "static" / "vendor"
README = (VENDOR / "README.md").read_text(encoding="utf-8")
SUMS = dict(re.findall(r"^\| (\S+) \| ([0-9a-f]{64}) \|$", README, re.MULTILINE))
FILES = sorted(str(file.relative_to(VENDOR)) for file in VENDOR.rglob("*") if file.suffix in {".js", ".css"})


def test_every_file_of_others_is_listed() -> None:
    assert FILES
    assert sorted(SUMS) == FILES


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_others_is_what_its_package_has(file: str) -> None:
    assert hashlib.sha256((VENDOR / file).read_bytes()).hexdigest() == SUMS[file]


@pytest.mark.parametrize("folder", sorted({Path(file).parent.name for file in FILES}))
def test_a_folder_of_others_has_a_version_and_a_licence(folder: str) -> None:
    assert re.search(rf"^\| {folder} \| \S+ \| \d+\.\d+\.\d+ \|", README, re.MULTILINE)
    assert (
        "WARRANTIES" in (VENDOR / folder / "LICENSE").read_text().upper()
        or "WARRANTY" in (VENDOR / folder / "LICENSE").read_text().upper()
    )
