"""Bad input on a running network: its person is told what to do, where that person looks, and the rest goes on."""

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from running_network import UNEQUAL, RunningNetwork, fedn_py

FAULTY_TRAIN = """
import os, sys
import numpy as np
from fedn_py.package import load_task, save_metrics, save_model

def train(in_model, out_model):
    kind = (load_task().data / "kind").read_text() if (load_task().data / "kind").exists() else ""
    if kind == "wrong shape":
        save_model(out_model, {"mean": np.zeros(7, np.float32), "double": np.zeros((2, 3)), "steps": np.zeros(2, int)})
        save_metrics(out_model, num_samples=5)
    elif kind == "nan":
        model = dict(original.load_model(in_model))
        model["mean"] = np.full(6, np.nan, np.float32)
        save_model(out_model, model)
        save_metrics(out_model, num_samples=5)
    elif kind == "empty":
        open(out_model, "w").close()
        save_metrics(out_model, num_samples=5)
    elif kind == "exit":
        print("row 17 of this site is malformed")
        os._exit(9)
    else:
        original.train(in_model, out_model)
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """A network whose first client trains well while others do not."""
    running = RunningNetwork(tmp_path_factory.mktemp("bad-input"))
    try:
        running.start_combiner(1)
        running.await_combiners(1)
        yield running
    finally:
        running.stop()


@pytest.fixture
def command(network: RunningNetwork) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs a command of the command line on the network."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return fedn_py(*arguments, FEDN_PROFILE=str(network.folder.profile))

    return run


def archive_with(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def manifest() -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo("fedn.yaml"), (UNEQUAL / "fedn.yaml").read_bytes()


def test_a_package_without_fedn_yaml_is_refused(
    tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    package = archive_with(tmp_path / "package.tar.gz", (tarfile.TarInfo("model.py"), b"print()\n"))
    done = command("package", "upload", str(package))
    assert done.returncode not in {0, 3}
    assert "fedn.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_that_reaches_out_of_its_root_is_refused(
    tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    package = archive_with(tmp_path / "up.tar.gz", manifest(), (tarfile.TarInfo("../evil"), b"x"))
    done = command("package", "upload", str(package))
    assert done.returncode not in {0, 3}
    assert "../evil" in done.stderr

    link = tarfile.TarInfo("model.py")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    package = archive_with(tmp_path / "link.tar.gz", manifest(), (link, b""))
    done = command("package", "upload", str(package))
    assert done.returncode not in {0, 3}
    assert "link" in done.stderr


def test_a_model_that_is_no_safetensors_file_is_refused(
    tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"PK\x03\x04 this is a zip archive")
    done = command("model", "upload", str(model))
    assert done.returncode not in {0, 3}
    assert "safetensors" in done.stderr


def test_unfit_updates_are_named_in_the_event_log_and_the_others_make_the_model(
    network: RunningNetwork, tmp_path: Path
) -> None:
    project = tmp_path / "faulty"
    shutil.copytree(UNEQUAL, project)
    (project / "original.py").write_text((UNEQUAL / "model.py").read_text())
    (project / "model.py").write_text(
        "import original\nfrom original import startup, validate\nfrom fedn_py.package import main\n"
        + FAULTY_TRAIN
        + "\nmain({'startup': startup, 'train': train, 'validate': validate})\n"
    )
    kinds = ("", "wrong shape", "nan", "empty", "exit")
    for number, (kind, data) in enumerate(zip(kinds, network.prepared(project, len(kinds)), strict=True), start=1):
        (data / "kind").write_text(kind)
        network.start_client(number, data)
    network.await_clients(len(kinds))
    package, seed = network.uploaded(project)

    ended = network.run_session(package, seed, rounds=2, clients_required=1)

    assert ended.status == "finished"
    for done in network.network.rounds(ended.id):
        assert [client.name for client in done.clients] == ["client-1"]
        excluded = {one.name: one for one in done.excluded}
        assert sorted(excluded) == ["client-2", "client-3", "client-4", "client-5"]
        assert "'mean'" in excluded["client-2"].reason
        assert "NaN" in excluded["client-3"].reason
        assert "Empty" in excluded["client-4"].reason
        assert "row 17 of this site is malformed" in excluded["client-5"].log
    for name in ("client-2", "client-3", "client-4", "client-5"):
        network.await_event("update.refused", name)
    network.children.check()  # every client lives on


def test_a_second_client_under_a_connected_name_is_refused_and_told_so(network: RunningNetwork) -> None:
    before = network.network.status().clients
    (data, *_) = network.prepared(UNEQUAL, 1)
    name = network.start_client(90, data)
    network.await_clients(before + 1)

    network.start_client(91, data, name=name)

    network.await_event("client.refused", "NameTaken")
    log = network.await_log("client-91", "NameTaken")
    assert "another name" in log
    assert network.network.status().clients == before + 1


def test_a_client_with_a_revoked_token_is_cut_off_and_told_so(network: RunningNetwork) -> None:
    before = network.network.status().clients
    (data, *_) = network.prepared(UNEQUAL, 1)
    network.start_client(92, data)
    network.await_clients(before + 1)
    token = next(one for one in network.network.tokens() if one.label == "client-92")

    network.network.revoke_token(token.id)

    network.await_clients(before)
    network.await_log("client-92", "TokenRevoked")


def test_every_wrong_settings_key_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "client.yaml"
    file.write_text(yaml.safe_dump({"nam": "a", "reducer": "nowhere", "authority_file": "missing.pem"}))
    done = fedn_py("run", "client", "-c", str(file))
    assert done.returncode == 2
    for fault in ("nam", "reducer", "missing.pem", "token_file"):
        assert fault in done.stderr
    assert "name" in done.stderr  # the key that was meant
    assert "Traceback" not in done.stderr


def test_an_unreachable_mongodb_ends_the_start_with_what_to_do(network: RunningNetwork, tmp_path: Path) -> None:
    settings = yaml.safe_load(network.folder.settings("reducer").read_text())
    settings |= {
        "state_dir": str(tmp_path / "state"),
        "listen_web": "127.0.0.1:0",
        "listen_grpc": "127.0.0.1:0",
        "mongodb": {"uri": "mongodb://operator:topsecret@127.0.0.1:9/"},
    }
    file = tmp_path / "reducer.yaml"
    file.write_text(yaml.safe_dump(settings))
    done = fedn_py("run", "reducer", "-c", str(file))
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "what to do" in done.stderr
    assert "topsecret" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system (root on Linux)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_at_a_client_is_told_and_the_others_go_on(
    network: RunningNetwork, tiny_disk: Path, tmp_path: Path
) -> None:
    project = tmp_path / "large"
    shutil.copytree(UNEQUAL, project)
    text = (project / "model.py").read_text()
    # 2 MB of model, a new one and an update of it: more than the small disk holds.
    (project / "model.py").write_text(text.replace('"steps"', '"large": np.zeros(500_000, np.float32), "steps"', 1))
    before = network.network.status().clients
    parts = network.prepared(project, 2)
    network.start_client(80, parts[0])
    network.start_client(81, parts[1], state_dir=str(tiny_disk))
    network.await_clients(before + 2)
    package, seed = network.uploaded(project)

    ended = network.run_session(package, seed, rounds=1, clients_required=1)

    assert ended.status == "finished"
    (done,) = network.network.rounds(ended.id)
    assert "client-80" in [client.name for client in done.clients]
    (reason,) = [one.reason for one in done.excluded if one.name == "client-81"]
    assert "disk" in reason.lower() or "no space left" in reason.lower()
    network.children.check()


def test_a_full_disk_at_the_reducer_refuses_the_upload_and_nothing_else(
    network: RunningNetwork, tiny_disk: Path, tmp_path: Path
) -> None:
    import numpy as np

    from fedn_py.api.faults import RemoteRefusal
    from fedn_py.package import save_model

    small = RunningNetwork(tmp_path / "small")
    try:
        small.children.stop()
        small.start("reducer", "reducer", state_dir=str(tiny_disk))
        token = small.awaited("its token", lambda: next(iter(tiny_disk.glob("admin.token")), None))
        small.folder.admin_token.write_text(token.read_text())
        reached = small.awaited("the reducer", small.reached)
        model = tmp_path / "large.safetensors"
        save_model(model, {"large": np.zeros(2_000_000, np.float32)})
        with pytest.raises(RemoteRefusal) as refusal:
            reached.upload_seed_model(model)
        assert "full" in str(refusal.value).lower() or "room" in str(refusal.value).lower()
        save_model(model, {"small": np.zeros(10, np.float32)})
        assert reached.upload_seed_model(model).size < 1_000
    finally:
        small.stop()


def test_nothing_of_this_left_a_traceback_in_a_log(network: RunningNetwork) -> None:
    for log in network.folder.path.glob("logs/*.log"):
        text = log.read_text(errors="replace")
        # What a package's own training printed stands inside a line; a fault of ours would begin one.
        assert not re.search(r"^Traceback", text, re.MULTILINE), f"{log.name}: {text[-3000:]}"
