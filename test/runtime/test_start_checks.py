"""What is looked at when a process starts: each finding says what is wrong and what to do, and none stops it."""

import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fedn_py.runtime.start_checks import exposed, little_room, raised_file_limit, skewed, tell

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


def run(code: str) -> str:
    """Run code in a process whose limits are its own."""
    imports = "import resource\nfrom fedn_py.runtime.start_checks import raised_file_limit\n"
    done = subprocess.run([sys.executable, "-c", imports + code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_limit_of_files_is_raised_as_far_as_it_goes() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard >= 512, "the machine of the test lets a process open too few files"
    limits = "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))\n"
    told = "print(list(raised_file_limit({wanted})), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    assert run(limits + told.format(wanted=500)) == "[] 512"
    said = run(limits + told.format(wanted=1000))
    assert "may open 512 files and connections, and may need 1000" in said
    assert said.endswith("512")


def test_a_limit_that_is_high_enough_is_left_alone() -> None:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert list(raised_file_limit(1)) == []
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == soft[1]


def test_little_room_is_told_with_the_folder(tmp_path: Path) -> None:
    assert list(little_room(tmp_path, least_bytes=1)) == []
    (said,) = little_room(tmp_path, tmp_path, least_bytes=1 << 60)
    assert said.startswith(f"the disk under {tmp_path} has ")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_that_others_can_read_is_told_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    file.chmod(mode)
    (said,) = exposed(file, tmp_path / "not there", None)
    assert said.endswith(f"chmod 600 {file}")
    file.chmod(0o600)
    assert list(exposed(file)) == []


@pytest.mark.parametrize(("seconds", "said"), [(59, ""), (-59, ""), (3600, "3600 s ahead of"), (-90, "90 s behind")])
def test_a_clock_that_differs_is_told(seconds: int, said: str) -> None:
    found = list(skewed("MongoDB", NOW + timedelta(seconds=seconds), now=NOW))
    assert len(found) == bool(said)
    assert all(said in one for one in found)
    assert list(skewed("MongoDB", None)) == []


def test_what_is_found_is_logged_as_warnings() -> None:
    with capture_logs() as log:
        assert tell(["one", "two"]) == ("one", "two")
    assert [(entry["event"], entry["log_level"]) for entry in log] == [("one", "warning"), ("two", "warning")]
