"""Scratch folders are empty at each start, and what a disk lacks is said with the way out."""

import errno
import stat
from pathlib import Path

import pytest

from fedn_py.runtime.scratch import DiskFailed, DiskFull, NoFilesLeft, disk_faults, empty_folder


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_is_full(code: int) -> None:
    says = r"keeping the upload needs more room \(/spool/x\)"
    with pytest.raises(DiskFull, match=says) as caught, disk_faults("keeping the upload"):
        raise OSError(code, "no", "/spool/x")
    assert "Free some room" in caught.value.remedy


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_named_with_the_limit_that_helps(code: int) -> None:
    with pytest.raises(NoFilesLeft, match="no more files can be opened: merging") as caught, disk_faults("merging"):
        raise OSError(code, "no")
    assert "LimitNOFILE" in caught.value.remedy


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT])
def test_any_other_fault_of_a_disk_is_one_too(code: int) -> None:
    with pytest.raises(DiskFailed, match="while merging: it went wrong") as caught, disk_faults("merging"):
        raise OSError(code, "it went wrong")
    assert isinstance(caught.value.__cause__, OSError)


def test_what_is_no_fault_of_a_disk_passes_through() -> None:
    with pytest.raises(ValueError, match="mine"), disk_faults("merging"):
        raise ValueError("mine")
    with disk_faults("merging"):
        pass


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = empty_folder(tmp_path / "state" / "scratch")
    assert folder == tmp_path / "state" / "scratch"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == []


def test_what_an_earlier_life_left_is_removed_and_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    (folder / "merge-1" / "deep").mkdir(parents=True)
    (folder / "merge-1" / "deep" / "file").write_text("x")
    (tmp_path / "kept").write_text("kept")
    (folder / "link").symlink_to(tmp_path / "kept")
    assert list(empty_folder(folder).iterdir()) == []
    assert (tmp_path / "kept").read_text() == "kept"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "scratch"):
        with pytest.raises(DiskFailed, match="emptying"):
            empty_folder(path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(DiskFailed):
        empty_folder(tmp_path / "nowhere")
