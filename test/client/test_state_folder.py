"""A client's own folder: one identity, made once, and one process at a time."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fedn_py.client.state_folder import StateDamaged, StateFolder, StateFolderInUse


def test_an_identity_is_made_once_and_stays(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state") as folder:
        first = folder.client
    with StateFolder(tmp_path / "state") as folder:
        assert folder.client == first
    with StateFolder(tmp_path / "other") as folder:
        assert folder.client != first
    assert len(first) == 64


def test_the_folder_and_the_identity_are_their_owner_s_alone(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state"):
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "state" / "identity.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"client": 5}',
        b'{"client": "short"}',
        b'{"client": null}',
        b"\xff\xfe",
        json.dumps({"client": "AB" * 32}).encode(),
        json.dumps({"client": "ab " * 32}).encode(),
    ],
)
def test_a_damaged_identity_is_named_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "identity.json"
    file.write_bytes(content)
    for _ in range(2):  # the refusal does not leave the folder locked
        with pytest.raises(StateDamaged, match=r"identity\.json") as damaged:
            StateFolder(tmp_path)
        assert "backup" in damaged.value.remedy
    assert file.read_bytes() == content


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from fedn_py.client.state_folder import StateFolder\n"
        "folder = StateFolder(Path(sys.argv[1])); print(folder.client, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        client = process.stdout.readline().strip()
        with pytest.raises(StateFolderInUse, match="another client") as refused:
            StateFolder(tmp_path)
        assert "state_dir" in refused.value.remedy
        process.kill()  # the lock goes with the process, however that ends
    with StateFolder(tmp_path) as folder:
        assert folder.client == client
