"""The sandbox's folder: everything that its processes need, valid, kept over restarts, and nobody else's."""

import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fedn_py.sandbox.folder import HOST, Ports, PortTaken, SandboxFolder, SandboxInUse, Where
from fedn_py.settings import ClientSettings, CombinerSettings, ReducerSettings, load_settings
from fedn_py.transport.certificates import check_server_certificate

PORTS = Ports(18090, 22070, (22080, 22081))


@contextmanager
def listening(port: int = 0) -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind((HOST, port))
        taken.listen()
        found: int = taken.getsockname()[1]
        yield found


def prepared(path: Path, where: Where = Where()) -> SandboxFolder:  # noqa: B008 - a value
    folder = SandboxFolder(path)
    folder.write_certificates(["reducer", "combiner-1", "combiner-2"])
    folder.write_reducer(PORTS, where)
    for number in (1, 2):
        folder.write_token(folder.write_combiner(number, PORTS, where), f"token of combiner {number}")
    data = path / "data" / "client-1"
    data.mkdir(parents=True)
    folder.write_token(folder.write_client(1, PORTS, data, path / "copies"), "token of client 1")
    folder.write_profile(PORTS)
    return folder


# ---- ports


def test_a_port_that_was_asked_for_and_is_taken_is_refused(tmp_path: Path) -> None:
    with listening() as taken, pytest.raises(PortTaken, match=str(taken)):
        SandboxFolder(tmp_path).choose_ports(2, taken)


def test_busy_ports_are_left_alone_and_free_ones_are_kept_over_restarts(tmp_path: Path) -> None:
    with ExitStack() as stack:
        chosen = SandboxFolder(tmp_path).choose_ports(2, 0)
        ports = [chosen.web, chosen.grpc, *chosen.combiners]
        assert len(set(ports)) == 4
        for port in ports:
            stack.enter_context(listening(port))  # they are free indeed

    again = SandboxFolder(tmp_path)
    assert again.choose_ports(2, None) == chosen
    more = again.choose_ports(3, None)
    assert (more.web, more.grpc, more.combiners[:2]) == (chosen.web, chosen.grpc, chosen.combiners)
    assert again.choose_ports(1, None).combiners == chosen.combiners[:1]
    with listening(chosen.web):
        moved = again.choose_ports(2, None)
    assert moved.web != chosen.web
    assert moved.combiners[0] == chosen.combiners[0]


def test_ports_asked_for_follow_each_other(tmp_path: Path) -> None:
    with listening() as free:
        pass
    chosen = SandboxFolder(tmp_path).choose_ports(1, free)
    assert chosen.web == free


def test_port_0_is_any_that_is_free(tmp_path: Path) -> None:
    chosen = SandboxFolder(tmp_path).choose_ports(1, 0)
    assert all(port > 0 for port in (chosen.web, chosen.grpc, *chosen.combiners))


def test_the_last_port_there_is_has_no_successor(tmp_path: Path) -> None:
    chosen = SandboxFolder(tmp_path).choose_ports(2, 65_535)
    assert all(0 < port <= 65_535 for port in (chosen.web, chosen.grpc, *chosen.combiners))


@pytest.mark.parametrize("damage", ["", "{", "{}", '["a", "b", "c"]', "[true, 1, 2]"])
def test_a_damaged_list_of_ports_is_made_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / "ports.json").write_text(damage)
    chosen = SandboxFolder(tmp_path).choose_ports(1, None)
    assert all(port > 1 for port in (chosen.web, chosen.grpc, *chosen.combiners))
    assert SandboxFolder(tmp_path).choose_ports(1, None) == chosen


# ---- the lock


def test_a_second_sandbox_in_the_same_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with SandboxFolder(tmp_path).held():
        said = r"another sandbox runs in .* \(process \d+\)"
        with pytest.raises(SandboxInUse, match=said) as refused, SandboxFolder(tmp_path).held():
            pass
        assert "--dir" in refused.value.remedy
        with SandboxFolder(tmp_path / "other").held():
            pass
    with SandboxFolder(tmp_path).held():
        pass


# ---- files


def test_the_settings_of_every_role_are_valid(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    reducer = load_settings(ReducerSettings, folder.settings("reducer"), {})
    assert (reducer.listen_web, reducer.listen_grpc) == ("127.0.0.1:18090", "127.0.0.1:22070")
    combiner = load_settings(CombinerSettings, folder.settings("combiner-2"), {})
    assert (combiner.name, combiner.listen, combiner.advertise) == ("combiner-2", "127.0.0.1:22081", "localhost:22081")
    assert combiner.token_file.read_text() == "token of combiner 2\n"
    client = load_settings(ClientSettings, folder.settings("client-1"), {})
    assert (client.name, client.reducer) == ("client-1", "localhost:22070")
    assert client.data_path == tmp_path / "data" / "client-1"
    assert client.keep_updates == tmp_path / "copies"
    states = {settings.state_dir for settings in (reducer, combiner, client)}
    assert len(states) == 3
    assert all(tmp_path in state.parents for state in states)


def test_stores_of_one_s_own_stand_in_the_settings_without_their_secrets(tmp_path: Path) -> None:
    where = Where("mongodb://someone:topsecret@127.0.0.1/", "http://127.0.0.1:9000")
    folder = prepared(tmp_path, where)
    keys = {"FEDN_MINIO_ACCESS_KEY": "access", "FEDN_MINIO_SECRET_KEY": "topsecret"}
    reducer = load_settings(ReducerSettings, folder.settings("reducer"), keys)
    assert reducer.mongodb is not None
    assert reducer.mongodb.uri.get_secret_value() == where.mongodb
    for found in (reducer, load_settings(CombinerSettings, folder.settings("combiner-1"), keys)):
        assert found.minio is not None
        assert found.minio.secret_key.get_secret_value() == "topsecret"
    for file in (tmp_path / "config").iterdir():
        assert "topsecret" not in file.read_text()


def test_what_is_secret_is_its_owner_s_alone(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "sandbox", Where(mongodb="mongodb://someone:topsecret@127.0.0.1/"))
    assert mode_of(folder.path) == 0o700
    secrets = [*(folder.path / "tokens").iterdir(), *folder.certificates.glob("*.key")]
    assert len(secrets) == 4 + 4
    assert {mode_of(file) for file in secrets} == {0o600}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_certificates_stay_over_restarts_and_one_that_no_longer_serves_is_made_anew(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    before = {file.name: file.read_bytes() for file in folder.certificates.iterdir()}
    (folder.certificates / "combiner-1.pem").write_bytes(b"damaged")
    SandboxFolder(tmp_path).write_certificates(["reducer", "combiner-1", "combiner-2", "combiner-3"])
    after = {file.name: file.read_bytes() for file in folder.certificates.iterdir()}
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"combiner-1.pem", "combiner-1.key", "combiner-3.pem", "combiner-3.key"}
    for name in ("reducer", "combiner-1", "combiner-3"):
        certificate = (folder.certificates / f"{name}.pem").read_bytes()
        authority = folder.authority_file.read_bytes()
        check_server_certificate(certificate, hosts=("localhost", HOST), authority_pem=authority)
