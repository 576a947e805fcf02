"""The key that attempts' keys are wrapped with."""

import stat
from pathlib import Path

import pytest

from fedn_py.reducer.state_key import StateKey, StateKeyUnreadable, WrongStateKey


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "state.key"
    wrapped = StateKey.at(path).wrap(b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert StateKey.at(path).unwrap(wrapped) == b"secret"


def test_what_is_wrapped_shows_nothing_and_is_never_the_same_twice(tmp_path: Path) -> None:
    key = StateKey.at(tmp_path / "state.key")
    assert key.wrap(b"s" * 32) != key.wrap(b"s" * 32)


def test_another_key_unwraps_nothing(tmp_path: Path) -> None:
    wrapped = StateKey.at(tmp_path / "one").wrap(b"secret")
    other = StateKey.at(tmp_path / "other")
    for wrong in (wrapped, wrapped[:-4], "no base64!", ""):
        with pytest.raises(WrongStateKey):
            other.unwrap(wrong)


@pytest.mark.parametrize("content", ["", "c2hvcnQ=", "no base64!"])
def test_a_damaged_file_is_refused_and_not_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.key"
    path.write_text(content)
    with pytest.raises(StateKeyUnreadable):
        StateKey.at(path)
    assert path.read_text() == content
