"""The commands that need no reducer, the help, and the shape of the whole."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from fedn_py.cli.exits import MEANING, Exit
from fedn_py.cli.main import build
from fedn_py.transport.certificates import check_server_certificate


def fedn_py(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedn_py", *map(str, words)], capture_output=True, text=True, check=False, cwd=cwd
    )


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))  # type: ignore[arg-type]
        else:
            yield " ".join((*path, name)), command


EVERY = dict(commands(typer.main.get_command(build())))  # type: ignore[arg-type]


def test_these_are_the_commands() -> None:
    assert set(EVERY) == set(
        textwrap.dedent("""\
        sandbox|new|status|open|config check|run reducer|run combiner|run client
        package create|package validate|package upload|package list|package files
        model upload|model list|model download|model verify|model tensors
        backup create|backup verify|backup restore
        session start|session wait|session pause|session resume|session stop|session list|session show
        session change|session privacy|round validations|event show|client show|client revoke
        round list|round show|client list|combiner list|event list
        token create|token list|token revoke|certificate authority|certificate issue|bench masking|bench web
        bench round|bench limits|bench idle|bench targets|bench scale
        operator init|operator certify|operator policy|operator show""")
        .replace("\n", "|")
        .split("|")
    )


@pytest.mark.parametrize("name", EVERY)
def test_every_command_teaches_by_an_example(name: str) -> None:
    assert f"Example: fedn-py {name}" in (EVERY[name].help or "")


@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith(("run ", "sandbox"))])
def test_every_command_that_prints_data_prints_json(name: str) -> None:
    assert "--json" in {option for parameter in EVERY[name].params for option in parameter.opts}


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANING) == set(Exit)


def test_help_loads_none_of_the_heavy_libraries() -> None:
    code = "import sys; from fedn_py.cli.main import build; build(); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("'numpy'", "'grpc'", "'pydantic'", "'flask'", "'pymongo'", "'minio'", "'cryptography'"):
        assert heavy not in loaded


def test_where_a_fault_arose_is_shown_to_those_who_ask_anywhere_in_the_line(tmp_path: Path) -> None:
    assert "Traceback" in fedn_py("package", "create", tmp_path, "-v").stderr
    assert "Traceback" in fedn_py("-v", "package", "create", tmp_path).stderr


def test_a_reader_who_leaves_early_is_no_fault() -> None:
    script = f"{sys.executable} -m fedn_py sandbox --help | head -1"
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False)
    assert "Traceback" not in ended.stderr


def test_the_version_is_told() -> None:
    assert fedn_py("--version").stdout.startswith("fedn-py 0.")


def test_an_authority_issues_a_certificate_for_all_hosts(tmp_path: Path) -> None:
    made = fedn_py("certificate", "authority", "-o", "ca", "--json", cwd=tmp_path)
    assert len(json.loads(made.stdout)["data"]["sha256"]) == 64
    words = ("certificate", "issue", "combiner-1", "localhost", "10.0.0.7", "--authority", "ca", "-o", "out")
    assert fedn_py(*words, cwd=tmp_path).returncode == 0
    check_server_certificate(
        (tmp_path / "out" / "combiner-1.pem").read_bytes(),
        hosts=["localhost", "10.0.0.7"],
        authority_pem=(tmp_path / "ca" / "authority.pem").read_bytes(),
    )
    again = fedn_py(*words, cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_settings_are_checked_with_every_fault(tmp_path: Path) -> None:
    (tmp_path / "client.yaml").write_text("name: anna\nreduce: localhost:12070\nheartbeat_s: 3\n")
    ended = fedn_py("config", "check", "-c", "client.yaml", "--role", "client", "--json", cwd=tmp_path)
    assert ended.returncode == 2
    for words in ("client.yaml:2: reduce: is no setting; did you mean reducer?", "token_file: is missing", ":3:"):
        assert words in ended.stderr
    assert json.loads(ended.stdout)["error"]["code"] == "InvalidSettings"


def test_sound_settings_are_shown_with_their_origin(tmp_path: Path) -> None:
    for name in ("a.pem", "t"):
        (tmp_path / name).write_text("x")
    (tmp_path / "client.yaml").write_text("name: anna\nreducer: h:1\nauthority_file: a.pem\ntoken_file: t\n")
    shown = json.loads(
        fedn_py("config", "check", "-c", "client.yaml", "--role", "client", "--json", cwd=tmp_path).stdout
    )
    assert {"key": "name", "value": "anna", "origin": "client.yaml:1"} in shown["data"]


def test_a_process_with_wrong_settings_does_not_start(tmp_path: Path) -> None:
    ended = fedn_py("run", "combiner", "-c", "none.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    assert "cannot be read" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_is_packed_and_one_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = fedn_py("package", "create", "empty", cwd=tmp_path)
    assert ended.returncode == 1
    assert "fedn.yaml" in ended.stderr
    made = fedn_py("new", "mine", "--framework", "sklearn", "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "fedn.yaml" in json.loads(made.stdout)["data"]["files"]
    packed = json.loads(fedn_py("package", "create", "mine", "--json", cwd=tmp_path).stdout)["data"]
    assert (tmp_path / "mine.tar.gz").stat().st_size == packed["size"]


def test_a_package_is_tried_step_by_step(tmp_path: Path) -> None:
    (tmp_path / "fedn.yaml").write_text("name: x\nversion: '1'\nentry_points: {}\n")
    ended = fedn_py("package", "validate", ".", "--json", cwd=tmp_path)
    assert ended.returncode == 1
    data = json.loads(ended.stdout)["data"]
    assert data["passed"] is False
    assert data["steps"][0]["fault"]
    assert "FAILED" in ended.stderr
