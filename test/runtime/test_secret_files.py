"""Files with secrets: for their owner alone, and whole or not there."""

import os
import stat
from pathlib import Path

import pytest

from fedn_py.runtime.secret_files import write_secret


def test_a_secret_is_written_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_secret(tmp_path / "new" / "admin.token", "secret\n")
    finally:
        os.umask(before)
    file = tmp_path / "new" / "admin.token"
    assert file.read_text() == "secret\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_older_secret_and_its_rights_are_replaced(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("older and longer")
    file.chmod(0o666)
    write_secret(file, "newer")
    assert file.read_text() == "newer"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("not mine")
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    write_secret(tmp_path / "token", "secret")
    assert (tmp_path / "elsewhere").read_text() == "not mine"
    assert not (tmp_path / "token").is_symlink()


def test_when_it_cannot_be_written_the_older_one_stays_and_nothing_is_left(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("older")
    with pytest.raises(UnicodeEncodeError):
        write_secret(file, "half a pair \ud800")
    assert file.read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_secret(tmp_path / "folder", "secret")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "token"]
