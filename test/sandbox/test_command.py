"""The sandbox command: what its processes are given, and who may start it."""

import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from fedn_py.sandbox.command import SandboxFailed, run_sandbox
from fedn_py.sandbox.fleet import environment
from fedn_py.sandbox.folder import SandboxFolder, SandboxInUse
from fedn_py.sandbox.options import SandboxOptions
from fedn_py.sandbox.stopping import Stopped, stoppable


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
    assert {name for name in environment(stores=False) if name.startswith("FEDN_")} == set()
    with_stores = environment(stores=True)
    assert {name for name in with_stores if name.startswith("FEDN_")} == keys
    assert with_stores["PATH"] == os.environ["PATH"]
    assert (with_stores["OMP_NUM_THREADS"], with_stores["MKL_NUM_THREADS"]) == ("3", "1")


def test_a_second_sandbox_on_the_same_folder_starts_nothing(tmp_path: Path) -> None:
    with SandboxFolder(tmp_path).held():
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SandboxInUse):
            run_sandbox(SandboxOptions(dir=tmp_path), a_console())
        assert sorted(tmp_path.rglob("*")) == before


def test_without_a_session_there_is_none_to_end_with(tmp_path: Path) -> None:
    with pytest.raises(SandboxFailed, match="without a session"):
        run_sandbox(SandboxOptions(dir=tmp_path, session=False, exit_when_done=True), a_console())
    assert not (tmp_path / "state").exists()


def test_the_first_ctrl_c_stops_and_further_ones_do_not_disturb(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with stoppable():
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
