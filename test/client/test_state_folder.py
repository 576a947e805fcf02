"""A client's own folder: one key, made once with its memory, and one process at a time."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fedn_py.client.durable_files import StateDamaged
from fedn_py.client.masked_memory import NEW_IDENTITY
from fedn_py.client.state_folder import KEY_FILE, MEMORY_FILE, KeyExposed, StateFolder, StateFolderInUse
from fedn_py.protocol.masked.contexts import client_id_of


def identity_of(folder: Path) -> str:
    with StateFolder(folder) as opened:
        return opened.registration.client


def test_an_identity_is_made_once_and_stays(tmp_path: Path) -> None:
    first = identity_of(tmp_path / "state")
    assert identity_of(tmp_path / "state") == first
    assert identity_of(tmp_path / "other") != first


def test_an_identity_is_that_of_its_key_in_no_network_before_it_joins_one(tmp_path: Path) -> None:
    with StateFolder(tmp_path) as folder:
        key = bytes(folder.registration.key.verify_key)
        assert folder.registration.client == client_id_of(bytes(16), key).hex()
        assert folder.registration.chain is None


def test_the_folder_the_key_and_the_memory_are_their_owner_s_alone(tmp_path: Path) -> None:
    identity_of(tmp_path / "state")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    for name in (KEY_FILE, MEMORY_FILE):
        assert stat.S_IMODE((tmp_path / "state" / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff\xfe", b"short", b"AB" * 32, b"ab " * 32, b"ab" * 32 + b"\n" + b"ab" * 32]
)
def test_a_damaged_key_is_named_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    identity_of(tmp_path)
    file = tmp_path / KEY_FILE
    file.write_bytes(content)
    for _ in range(2):  # the refusal does not leave the folder locked
        with pytest.raises(StateDamaged, match=r"identity\.key") as damaged:
            StateFolder(tmp_path)
        assert damaged.value.remedy == NEW_IDENTITY
        assert content.decode(errors="replace").strip()[:8] not in damaged.value.message or len(content) < 8
    assert file.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    identity_of(tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(KeyExposed, match=f"{mode:04o}") as exposed:
        StateFolder(tmp_path)
    assert "chmod 600" in exposed.value.remedy


@pytest.mark.parametrize("lost", [KEY_FILE, MEMORY_FILE])
def test_a_client_that_lost_its_key_or_its_memory_never_starts_empty(tmp_path: Path, lost: str) -> None:
    identity_of(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(StateDamaged, match="missing") as damaged:
        StateFolder(tmp_path)
    assert damaged.value.remedy == NEW_IDENTITY
    assert not (tmp_path / lost).exists()


def test_the_memory_of_another_client_is_refused(tmp_path: Path) -> None:
    identity_of(tmp_path / "anna")
    identity_of(tmp_path / "bert")
    (tmp_path / "bert" / MEMORY_FILE).replace(tmp_path / "anna" / MEMORY_FILE)
    with pytest.raises(StateDamaged, match="another client's"):
        StateFolder(tmp_path / "anna")


def test_a_first_start_that_was_cut_short_is_begun_again_or_ended(tmp_path: Path) -> None:
    identity_of(tmp_path / "state")
    young = tmp_path / "state" / f".{MEMORY_FILE}.new"
    (tmp_path / "state" / MEMORY_FILE).replace(young)  # the key was written, the memory not yet named
    first = identity_of(tmp_path / "state")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f".{MEMORY_FILE}.new").write_bytes(b"half a memory")  # the key was not written
    assert identity_of(tmp_path / "other") != first


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from fedn_py.client.state_folder import StateFolder\n"
        "folder = StateFolder(Path(sys.argv[1])); print(folder.registration.client, flush=True); sys.stdin.read()"
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
    assert identity_of(tmp_path) == client
