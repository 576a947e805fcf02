"""Credentials in files: read as they were written, for their owner alone, and never lost by a second writing."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import masked_world as world
import pytest

from fedn_py.protocol.masked.certificates import OperatorSecret
from fedn_py.protocol.masked.issuing import first_policy, issue_server, issue_token, sign_policy
from fedn_py.runtime.credential_files import (
    CredentialExists,
    CredentialUnreadable,
    TokenFile,
    kind_of,
    read_operator,
    read_policy,
    read_server,
    read_token_file,
    write_operator,
    write_policy,
    write_server,
    write_token_file,
)
from fedn_py.runtime.secret_files import bearer_of

OPERATOR = OperatorSecret(bytes(world.OPERATOR), world.DEPLOYMENT, world.EPOCH_SEED)
SERVER = issue_server(OPERATOR, server_secret=b"s" * 32, role="reducer", name="north", not_after=world.NOW_S)
JOIN = issue_token(
    OPERATOR, token_secret=b"t" * 32, token_id=b"i" * 16, site="ward 7", uses=2, not_after=world.NOW_S
)  # fmt: skip
POLICY = sign_policy(OPERATOR, first_policy(OPERATOR, world.NOW_S))
TOKEN = TokenFile("fedn1.secret", JOIN)

Write = Callable[..., None]
Read = Callable[[Path], Any]

KINDS: dict[str, tuple[Write, Read, Any]] = {
    "operator": (write_operator, read_operator, OPERATOR),
    "server": (write_server, read_server, SERVER),
    "policy": (write_policy, read_policy, POLICY),
    "token": (write_token_file, read_token_file, TOKEN),
}
each = pytest.mark.parametrize("kind", KINDS)
SECRET = [kind for kind in KINDS if kind != "policy"]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@each
def test_what_is_written_is_read_back_and_known_by_its_kind(kind: str, tmp_path: Path) -> None:
    write, read, value = KINDS[kind]
    file = tmp_path / "new" / "file"
    write(file, value)
    assert read(file) == value
    assert kind_of(file) == kind
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_files_are_lines_of_text_that_say_what_they_are(tmp_path: Path) -> None:
    for kind in ("operator", "server", "policy"):
        write, _, value = KINDS[kind]
        write(tmp_path / kind, value)
        assert (tmp_path / kind).read_text().startswith(f"fedn-{kind}-1:")
        assert (tmp_path / kind).read_text().count("\n") == 1
    write_token_file(tmp_path / "token", TOKEN)
    first, second = (tmp_path / "token").read_text().splitlines()
    assert first == "fedn1.secret"
    assert second.startswith("fedn-join-1:")


@pytest.mark.parametrize("kind", SECRET)
def test_what_is_secret_is_its_owner_s_alone(kind: str, tmp_path: Path) -> None:
    write, _, value = KINDS[kind]
    write(tmp_path / "file", value)
    assert mode_of(tmp_path / "file") == 0o600


@each
def test_a_file_is_replaced_only_where_that_is_asked_for(kind: str, tmp_path: Path) -> None:
    write, read, value = KINDS[kind]
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CredentialExists) as refused:
        write(tmp_path / "file", value)
    assert (tmp_path / "file").read_text() == "precious"
    assert str(tmp_path / "file") in refused.value.message
    write(tmp_path / "file", value, replace=True)
    assert read(tmp_path / "file") == value
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["operator", "server"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_get_at_is_refused_with_the_command_that_helps(
    kind: str, mode: int, tmp_path: Path
) -> None:
    write, read, value = KINDS[kind]
    write(tmp_path / "key", value)
    (tmp_path / "key").chmod(mode)
    with pytest.raises(CredentialUnreadable, match=f"read by others .mode {mode:04o}") as refused:
        read(tmp_path / "key")
    assert f"chmod 600 {tmp_path / 'key'}" in refused.value.remedy


@each
def test_a_file_that_is_not_there_is_told(kind: str, tmp_path: Path) -> None:
    with pytest.raises(CredentialUnreadable, match="No such file"):
        KINDS[kind][1](tmp_path / "none")


@pytest.mark.parametrize("kind", ["operator", "server", "policy"])
@pytest.mark.parametrize(
    "damage", ["", "x", "fedn-other-1:AAAA\n", "fedn-{}-2:AAAA\n", "fedn-{}-1:A*\n", "fedn-{}-1:AAAA\n"]
)
def test_a_file_of_another_kind_or_with_damage_is_told_with_the_command_that_makes_one(
    kind: str, damage: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text(damage.format(kind))
    (tmp_path / "file").chmod(0o600)
    with pytest.raises(CredentialUnreadable) as refused:
        KINDS[kind][1](tmp_path / "file")
    assert "fedn-py operator" in refused.value.remedy


@pytest.mark.parametrize("kind", SECRET)
def test_no_fault_shows_a_secret(kind: str, tmp_path: Path) -> None:
    write, read, value = KINDS[kind]
    write(tmp_path / "file", value)
    kept = (tmp_path / "file").read_text().rstrip()
    (tmp_path / "file").write_text(kept[:-8])
    with pytest.raises(CredentialUnreadable) as refused:
        read(tmp_path / "file")
    assert kept.splitlines()[-1][20:60] not in refused.value.message + refused.value.remedy


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    with pytest.raises(CredentialUnreadable, match="not text"):
        read_policy(tmp_path / "file")


# ---- tokens


@pytest.mark.parametrize("text", ["fedn1.secret", "fedn1.secret\n", "\nfedn1.secret \n\n"])
def test_a_token_alone_joins_no_masked_round(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)
    assert read_token_file(tmp_path / "token") == TokenFile("fedn1.secret", None)


@pytest.mark.parametrize("text", ["", "\n", "a\nb\nc\n"])
def test_a_file_that_is_no_token_s_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(CredentialUnreadable, match="is no token's file"):
        read_token_file(tmp_path / "token")


def test_a_join_credential_is_not_taken_for_a_token(tmp_path: Path) -> None:
    write_token_file(tmp_path / "token", TOKEN)
    (tmp_path / "token").write_text((tmp_path / "token").read_text().splitlines()[1])
    with pytest.raises(CredentialUnreadable, match="is no token's file"):
        read_token_file(tmp_path / "token")


def test_a_second_line_that_is_no_join_credential_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("fedn1.secret\nnotes\n")
    with pytest.raises(CredentialUnreadable, match="join credential") as refused:
        read_token_file(tmp_path / "token")
    assert "token create --operator-key" in refused.value.remedy


def test_the_bearer_is_the_first_line_and_is_not_printed(tmp_path: Path) -> None:
    write_token_file(tmp_path / "token", TOKEN)
    assert bearer_of((tmp_path / "token").read_text()) == "fedn1.secret"
    assert [bearer_of(text) for text in ("", "a", " a \r\nb\r\n")] == ["", "a", "a"]
    assert "secret" not in repr(TokenFile("fedn1.secret"))
