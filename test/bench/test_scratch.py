"""A benchmark's own folder: gone afterwards, but for the logs of what failed."""

from pathlib import Path

import pytest

from fedn_py.bench.faults import BenchFailed
from fedn_py.bench.scratch import scratch_folder


def run(fault: Exception | None) -> Path:
    with scratch_folder() as folder:
        for name in ("logs", "state"):
            (folder / name).mkdir()
            (folder / name / "file").write_text("x")
        (folder / "ports.json").write_text("{}")
        if fault is not None:
            raise fault
    return folder


def test_nothing_is_left_of_what_went_well() -> None:
    assert not run(None).exists()


def test_the_logs_stay_of_what_failed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(BenchFailed):
        run(BenchFailed("a round failed", remedy="Look into the logs."))
    with pytest.raises(KeyError):
        run(KeyError("stopped"))
    assert [str(file.relative_to(folder)) for folder in tmp_path.iterdir() for file in folder.rglob("*")] == [
        "logs",
        "logs/file",
    ]
