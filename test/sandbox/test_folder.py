"""The sandbox's folder: everything that its processes need, valid, kept over restarts, and nobody else's."""

import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from fedn_py.protocol.masked.certificates import JoinCredential, Policy
from fedn_py.protocol.masked.issuing import enter_client, issue_server, issue_token, operator_key, sign_policy
from fedn_py.protocol.masked.registry import Trust, accept_policy, verify_chain, verify_server
from fedn_py.runtime.credential_files import (
    TokenFile,
    read_operator,
    read_policy,
    read_server,
    read_token_file,
    write_policy,
    write_server,
    write_token_file,
)
from fedn_py.sandbox.folder import HOST, Ports, PortTaken, SandboxFolder, SandboxInUse, Where
from fedn_py.settings import ClientSettings, CombinerSettings, ReducerSettings, load_settings
from fedn_py.transport.certificates import check_server_certificate

PORTS = Ports(18090, 22070, (22080, 22081))
NOW_S, DAY_S = int(time.time()), 86_400
SERVERS = ["reducer", "combiner-1", "combiner-2"]


@contextmanager
def listening(port: int = 0) -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind((HOST, port))
        taken.listen()
        found: int = taken.getsockname()[1]
        yield found


def prepared(path: Path, where: Where = Where()) -> SandboxFolder:  # noqa: B008 - a value
    folder = SandboxFolder(path)
    folder.write_certificates(SERVERS)
    folder.write_operator(SERVERS)
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
    assert (client.name, client.reducer) == ("client-1", ("localhost:22070",))
    assert client.data_path == tmp_path / "data" / "client-1"
    assert client.keep_updates == tmp_path / "copies"
    assert client.token_file.read_text().startswith("token of client 1\nfedn-join-1:")
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
    secrets += [folder.operator.key, *(folder.operator.credential(name) for name in SERVERS)]
    assert len(secrets) == 4 + 4 + 4
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


# ---- the operator


def test_everybody_in_a_sandbox_is_there_by_its_operator(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    operator = read_operator(folder.operator.key)
    trust = Trust(operator_key(operator), operator.deployment)
    policy, _ = accept_policy(read_policy(folder.operator.policy), trust, None, NOW_S)
    assert (set(policy.modes), policy.g_min, policy.metrics, policy.n_draw_min) == ({"pet", "none"}, 3, "client", 1)
    reducer = load_settings(ReducerSettings, folder.settings("reducer"), {})
    assert reducer.masking is not None
    assert reducer.masking.policy_file == folder.operator.policy
    held = read_server(reducer.masking.credential_file)
    assert verify_server(held.certificate, trust, "reducer", policy, NOW_S).name == "reducer"
    for name in ("combiner-1", "combiner-2"):
        combiner = load_settings(CombinerSettings, folder.settings(name), {})
        assert combiner.masking_credential_file is not None
        held = read_server(combiner.masking_credential_file)
        assert verify_server(held.certificate, trust, "combiner", policy, NOW_S).name == name
        assert read_token_file(combiner.token_file).join is None
    join = joins(folder)
    client = verify_chain(enter_client(join, SigningKey.generate(), 0), trust)
    assert (client.site, client.uses) == ("client-1", 1)
    assert client.not_after > NOW_S + 300 * DAY_S


def joins(folder: SandboxFolder, name: str = "client-1") -> JoinCredential:
    join = read_token_file(folder.token(name)).join
    assert join is not None
    return join


def test_the_operator_and_all_it_issued_stay_over_restarts_and_only_bearers_change(tmp_path: Path) -> None:
    before = operator_files(prepared(tmp_path))
    join = joins(SandboxFolder(tmp_path))
    again = SandboxFolder(tmp_path)
    again.write_operator([*SERVERS, "combiner-3"])
    for name in ("client-1", "client-2"):
        again.write_token(name, f"another token of {name}")
    after = operator_files(again)
    assert {name: text for name, text in after.items() if name in before} == before
    assert set(after) - set(before) == {"combiner-3.credential"}
    assert read_token_file(again.token("client-1")) == TokenFile("another token of client-1", join)
    assert joins(again, "client-2").token != join.token


def operator_files(folder: SandboxFolder) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.operator.key.parent.iterdir()}


def test_a_credential_that_no_longer_serves_is_made_anew(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    before, join = operator_files(folder), joins(folder)
    operator = read_operator(folder.operator.key)
    ended = {"role": "combiner", "name": "combiner-1", "not_after": NOW_S - DAY_S}
    write_server(
        folder.operator.credential("combiner-1"),
        issue_server(operator, server_secret=bytes(32), **ended),  # type: ignore[arg-type]
        replace=True,
    )
    folder.operator.credential("reducer").write_text("damaged")
    folder.write_operator(SERVERS)
    after = operator_files(folder)
    assert {name for name in after if after[name] != before[name]} == {"combiner-1.credential", "reducer.credential"}
    trust = Trust(operator_key(operator), operator.deployment)
    policy, _ = accept_policy(read_policy(folder.operator.policy), trust, None, NOW_S)
    for name, role in (("combiner-1", "combiner"), ("reducer", "reducer")):
        verify_server(read_server(folder.operator.credential(name)).certificate, trust, role, policy, NOW_S)
    old = issue_token(
        operator, token_secret=bytes(32), token_id=bytes(16), site="client-1", uses=1, not_after=NOW_S - DAY_S
    )
    write_token_file(folder.token("client-1"), TokenFile("bearer", old), replace=True)
    folder.write_token("client-1", "bearer")
    assert joins(folder).token not in {old.token, join.token}


def test_a_policy_that_has_ended_is_followed_by_the_next_version(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    operator = read_operator(folder.operator.key)
    ended = replace(Policy.decode(read_policy(folder.operator.policy).body), not_after=NOW_S - DAY_S, g_min=5)
    write_policy(folder.operator.policy, sign_policy(operator, ended), replace=True)
    folder.write_operator(SERVERS)
    policy = Policy.decode(read_policy(folder.operator.policy).body)
    assert (policy.version, policy.g_min) == (2, 5)
    assert policy.not_after > NOW_S + 300 * DAY_S


def test_a_lost_operator_s_key_makes_everything_anew(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    before, join = operator_files(folder), joins(folder)
    folder.operator.key.unlink()
    folder.write_operator(SERVERS)
    folder.write_token("client-1", "bearer")
    after = operator_files(folder)
    assert {name for name in after if after[name] == before[name]} == set()
    operator = read_operator(folder.operator.key)
    trust = Trust(operator_key(operator), operator.deployment)
    assert joins(folder).operator_key != join.operator_key
    verify_chain(enter_client(joins(folder), SigningKey.generate(), 0), trust)
    accept_policy(read_policy(folder.operator.policy), trust, None, NOW_S)
