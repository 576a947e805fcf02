"""The sandbox's desk: a real socket, real processes, and a reducer's REST API in front of a control in memory."""

import asyncio
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_network import AUTHORITY
from web_server import Served

from fedn_py.api.network import Network
from fedn_py.runtime.credential_files import read_token_file
from fedn_py.runtime.desk import DeskRefused
from fedn_py.sandbox.desk import Desk, desk_place
from fedn_py.sandbox.fleet import Fleet
from fedn_py.sandbox.folder import Ports, SandboxFolder
from fedn_py.sandbox.options import SandboxOptions
from fedn_py.sandbox.processes import Children
from fedn_py.web.sandbox_desk import SocketDesk

DEALT = (
    "import argparse, pathlib\n"
    "p = argparse.ArgumentParser()\n"
    "for name in ('--clients', '--out', '--split'): p.add_argument(name)\n"
    "a = p.parse_args()\n"
    "for n in range(1, int(a.clients) + 1): (pathlib.Path(a.out) / f'client-{n}').mkdir(parents=True)\n"
)


def a_project(folder: Path) -> Path:
    folder.mkdir()
    manifest = "name: project\nversion: 1.0.0\nentry_points:\n"
    manifest += "  train: {command: python prepare.py}\n  validate: {command: python prepare.py}\n"
    (folder / "fedn.yaml").write_text(manifest)
    (folder / "prepare.py").write_text(DEALT)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> SandboxFolder:
    folder = SandboxFolder(tmp_path / "b")
    folder.certificates.mkdir()
    folder.authority_file.write_bytes(AUTHORITY.certificate_pem)
    folder.write_operator(["reducer"])
    return folder


@pytest.fixture
def desk(folder: SandboxFolder, served: Served, tmp_path: Path) -> Iterator[SocketDesk]:
    """Serve a sandbox of one client whose reducer answers REST alone."""
    network = Network(f"https://localhost:{served.port}", served.control.let_in("admin"), served.authority_file)
    children, options = Children(), SandboxOptions(dir=folder.path, project=a_project(tmp_path / "project"))
    fleet = Fleet(folder, children, options, Ports(served.port, 1, ()), network)
    with desk_place(folder) as place:
        opened = Desk(place, folder, children, fleet, network)
        opened.open()
        try:
            fleet.start_client(1, tmp_path)
            yield SocketDesk(place)
        finally:
            opened.close()
            children.stop()


def running(desk: SocketDesk) -> dict[str, bool]:
    return {view.name: view.runs for view in asyncio.run(desk.processes())}


def await_log(file: Path, text: str, times: int = 1) -> None:
    while not file.exists() or file.read_text().count(text) < times:
        time.sleep(0.02)


def test_a_client_is_killed_as_by_a_power_cut_and_started_again_with_its_state(
    desk: SocketDesk, folder: SandboxFolder
) -> None:
    await_log(folder.log("client-1"), "client started")
    key = (folder.state("client-1") / "identity.key").read_text()
    asyncio.run(desk.kill("client-1"))
    (ended,) = asyncio.run(desk.processes())
    assert (ended.exit_code, ended.runs) == (-9, False)
    asyncio.run(desk.start_again("client-1"))
    await_log(folder.log("client-1"), "client started", times=2)
    assert running(desk) == {"client-1": True}
    assert (folder.state("client-1") / "identity.key").read_text() == key


def test_only_what_this_sandbox_started_is_touched_and_only_where_it_makes_sense(desk: SocketDesk) -> None:
    for work, code in (
        (desk.kill("reducer"), "NotOfTheFleet"),
        (desk.kill("../client-1"), "NotOfTheFleet"),
        (desk.start_again("client-7"), "NotOfTheFleet"),
        (desk.start_again("client-1"), "AlreadySo"),
        (desk.masked_update("client-1"), "NothingMasked"),
        (desk.make_seed("ab" * 32), "UnknownPackage"),
        (desk.make_seed("no digest"), "InvalidName"),
        (desk.make_token("a" * 300, 1.0), "LabelRefused"),
    ):
        with pytest.raises(DeskRefused) as refused:
            asyncio.run(work)
        assert refused.value.code == code
        assert refused.value.remedy
    assert running(desk) == {"client-1": True}


def test_one_more_client_gets_the_next_number_a_token_and_data(desk: SocketDesk, folder: SandboxFolder) -> None:
    assert asyncio.run(desk.add_client()) == "client-2"
    await_log(folder.log("client-2"), "client started")
    assert running(desk) == {"client-1": True, "client-2": True}
    assert read_token_file(folder.token("client-2")).join is not None


def test_a_token_comes_with_a_join_credential_of_the_operator(
    desk: SocketDesk, folder: SandboxFolder, served: Served, tmp_path: Path
) -> None:
    made = asyncio.run(desk.make_token("hospital-a", 30.0))
    (tmp_path / "token").write_text(made.text)
    read = read_token_file(tmp_path / "token")
    assert read.join is not None
    assert [view.label for view in served.control.token_views.values()] == ["client-1", "hospital-a"]
    assert len(bytes.fromhex(made.join_id)) == 16


def test_the_socket_is_for_this_user_alone_and_is_gone_afterwards(desk: SocketDesk, folder: SandboxFolder) -> None:
    place = folder.path / "desk" / "socket"
    if not place.exists():
        pytest.skip("the folder's name is too long for a socket here")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


def test_a_folder_with_a_long_name_has_its_socket_elsewhere(tmp_path: Path) -> None:
    with desk_place(SandboxFolder(tmp_path / ("long" * 30))) as place:
        assert len(str(place)) < 100
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert not place.parent.exists()
