"""The sandbox command: what its processes are given, and who may start it."""

import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from fedn_py.sandbox.command import Sandbox, Stopped, _environment, _stoppable, run_sandbox
from fedn_py.sandbox.folder import SandboxFolder, SandboxInUse
from fedn_py.sandbox.options import SandboxOptions


def a_console() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_store_keys_are_for_those_who_have_stores_and_no_other_setting_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = {"FEDN_MINIO_ACCESS_KEY", "FEDN_MINIO_SECRET_KEY", "FEDN_MINIO__SECRET_KEY"}
    others = {"FEDN_MONGODB__URI", "FEDN_MONGODB_URI", "FEDN_TOKEN", "FEDN_PROFILE", "FEDN_STATE_DIR"}
    for name in keys | others:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert {name for name in _environment(stores=False) if name.startswith("FEDN_")} == set()
    with_stores = _environment(stores=True)
    assert {name for name in with_stores if name.startswith("FEDN_")} == keys
    assert with_stores["PATH"] == os.environ["PATH"]
    assert (with_stores["OMP_NUM_THREADS"], with_stores["MKL_NUM_THREADS"]) == ("3", "1")


def test_a_second_sandbox_on_the_same_folder_starts_nothing(tmp_path: Path) -> None:
    with SandboxFolder(tmp_path).held():
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SandboxInUse):
            run_sandbox(SandboxOptions(dir=tmp_path), a_console())
        assert sorted(tmp_path.rglob("*")) == before


def test_data_is_prepared_once_and_anew_where_it_was_cut_short(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    manifest = "name: project\nversion: 1.0.0\nentry_points:\n"
    manifest += "  train: {command: python prepare.py}\n  validate: {command: python prepare.py}\n"
    (project / "fedn.yaml").write_text(manifest)
    (project / "prepare.py").write_text(
        "import argparse, pathlib\n"
        "p = argparse.ArgumentParser()\n"
        "for name in ('--clients', '--out', '--split'): p.add_argument(name)\n"
        "a = p.parse_args()\n"
        "for n in range(1, int(a.clients) + 1):\n"
        "    f = pathlib.Path(a.out) / f'client-{n}'\n"
        "    f.mkdir(parents=True, exist_ok=True)\n"
        "    with (f / 'made').open('a') as file: file.write(a.split)\n"
    )
    sandbox = Sandbox(SandboxOptions(dir=tmp_path / "state", project=project, clients=2), a_console())
    parts = sandbox._prepare_data(project)
    assert [part.name for part in parts] == ["client-1", "client-2"]
    assert sandbox._prepare_data(project) == parts
    assert (parts[0] / "made").read_text() == "iid"
    (parts[0].parent / ".whole").unlink()
    (parts[1] / "made").write_text("cut sh")
    assert sandbox._prepare_data(project) == parts
    assert (parts[1] / "made").read_text() == "iid"
    with (project / "prepare.py").open("a") as script:
        script.write("# another way to split\n")
    anew = sandbox._prepare_data(project)
    assert anew != parts
    assert (anew[0] / "made").read_text() == "iid"


def test_the_first_ctrl_c_stops_and_further_ones_do_not_disturb(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with _stoppable():
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
