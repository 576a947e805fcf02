"""The operator's commands: keys, credentials and policies on this machine, and none of their secrets anywhere else."""

import http.client
import json
import re
import shlex
import stat
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey
from web_server import Served

from fedn_py.cli.main import main
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.issuing import enter_client, operator_key, sign_policy
from fedn_py.protocol.masked.registry import Trust, accept_policy, verify_chain, verify_server
from fedn_py.protocol.masked.signing import Signed
from fedn_py.runtime.credential_files import read_operator, read_policy, read_server, read_token_file, write_policy

DAY_S = 86_400


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)["data"]


class Terminal:
    """A person in a folder who runs commands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["fedn-py", *map(str, words)])
        self._capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = self._capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    def policy(self, *words: object) -> Ended:
        return self("operator", "policy", "--operator-key", "operator.key", *words)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(monkeypatch, capsys)


@pytest.fixture
def trust(run: Terminal) -> Trust:
    """What a network trusts in whose operator's key was made here."""
    assert run("operator", "init").code == 0
    operator = read_operator(Path("operator.key"))
    return Trust(operator_key(operator), operator.deployment)


@pytest.fixture
def first(run: Terminal, trust: Trust) -> Policy:
    assert run.policy().code == 0
    return signed_here()


def signed_here(file: str = "policy.signed") -> Policy:
    return Policy.decode(read_policy(Path(file)).body)


# ---- init


def test_an_operator_s_key_is_made_once_and_only_its_public_half_is_told(run: Terminal) -> None:
    made = run("operator", "init", "-o", "mine.key", "--json")
    operator = read_operator(Path("mine.key"))
    assert made.data == {
        "file": "mine.key",
        "operator_key": operator_key(operator).hex(),
        "deployment": operator.deployment.hex(),
    }
    assert "off every server" in made.err
    assert stat.S_IMODE(Path("mine.key").stat().st_mode) == 0o600
    again = run("operator", "init", "-o", "mine.key")
    assert again.code == 1
    assert "is there already" in again.err
    assert read_operator(Path("mine.key")) == operator


def test_two_operators_differ_in_everything(run: Terminal) -> None:
    for name in ("a", "b"):
        run("operator", "init", "-o", name)
    a, b = (read_operator(Path(name)) for name in ("a", "b"))
    assert a.operator_secret != b.operator_secret
    assert a.deployment != b.deployment
    assert a.epoch_seed != b.epoch_seed


# ---- certify


@pytest.mark.parametrize("role", ["reducer", "combiner"])
def test_a_server_that_is_certified_is_one_for_as_long_as_was_said(
    run: Terminal, trust: Trust, first: Policy, role: str
) -> None:
    made = run("operator", "certify", role, "north", "--operator-key", "operator.key", "--days", 2, "--json")
    credential = read_server(Path("north.credential"))
    now_s = int(time.time())
    cert = verify_server(credential.certificate, trust, role, first, now_s)
    assert cert.server_key == bytes(SigningKey(credential.server_secret).verify_key)
    assert (made.data["role"], made.data["name"], made.data["server_key"]) == (role, "north", cert.server_key.hex())
    assert 0 <= now_s + 2 * DAY_S - cert.not_after <= 60
    assert run("operator", "certify", role, "north", "--operator-key", "operator.key").code == 1
    assert read_server(Path("north.credential")) == credential


def test_a_name_or_role_that_cannot_be_is_refused(run: Terminal, trust: Trust) -> None:
    assert run("operator", "certify", "client", "anna", "--operator-key", "operator.key").code == 2
    assert run("operator", "certify", "reducer", "No Name", "--operator-key", "operator.key").code == 1
    assert [file.name for file in Path().iterdir()] == ["operator.key"]


def test_an_operator_s_key_that_others_can_read_is_not_used(run: Terminal, trust: Trust) -> None:
    Path("operator.key").chmod(0o644)
    ended = run("operator", "certify", "reducer", "north", "--operator-key", "operator.key", "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["error"]["code"] == "CredentialUnreadable"
    assert "chmod 600 operator.key" in ended.err


# ---- policy


def test_the_first_policy_has_floors_that_a_small_network_keeps(run: Terminal, trust: Trust, first: Policy) -> None:
    now_s = int(time.time())
    taken, _ = accept_policy(read_policy(Path("policy.signed")), trust, None, now_s)
    assert taken == first
    assert first == Policy(
        deployment=trust.deployment,
        version=1,
        not_after=first.not_after,
        epoch_seed=read_operator(Path("operator.key")).epoch_seed,
        modes=("pet",),
        g_min=3,
        k_min=2,
        r_min=1,
        n_max_max=4096,
        clip_min=1e-6,
        clip_max=1e6,
        weight_cap_max=2**20,
        n_draw_min=1,
        reopen="reducer",
        rework_max=20,
        metrics="sum",
    )
    assert 0 <= now_s + 365 * DAY_S - first.not_after <= 60


EVERY: dict[str, tuple[object, object]] = {
    "g_min": (8, 8),
    "k_min": (3, 3),
    "r_min": (2, 2),
    "n_max_max": (255, 255),
    "clip_min": (0.01, 0.01),
    "clip_max": (10, 10.0),
    "weight_cap_max": (1000, 1000),
    "n_draw_min": (16, 16),
    "reopen": ("strict", "strict"),
    "rework_max": (0, 0),
    "metrics": ("client", "client"),
    "revoke_token": ("ab" * 16, (b"\xab" * 16,)),
    "revoke_client": ("cd" * 32, (b"\xcd" * 32,)),
    "revoke_server": ("ef" * 32, (b"\xef" * 32,)),
}


def test_every_term_of_a_policy_can_be_given_and_stays_until_it_is_given_again(run: Terminal, trust: Trust) -> None:
    words = [word for name, (given, _) in EVERY.items() for word in (f"--{name.replace('_', '-')}", given)]
    assert run.policy(*words, "--allow-plain", "-o", "one").code == 0
    assert run.policy("--previous", "one", "-o", "two").code == 0
    one, two = signed_here("one"), signed_here("two")
    for name, (_, meant) in EVERY.items():
        kept = name.replace("revoke_", "revoked_") + "s" * name.startswith("revoke_")
        assert getattr(one, kept) == getattr(two, kept) == meant, name
    assert one.modes == two.modes == ("pet", "none")
    assert (one.version, two.version) == (1, 2)
    assert one.not_after == two.not_after
    assert run.policy("--previous", "two", "--masked-only", "-o", "three").code == 0
    assert signed_here("three").modes == ("pet",)


def test_what_was_revoked_stays_revoked(run: Terminal, first: Policy) -> None:
    for token in ("aa" * 16, "bb" * 16, "aa" * 16):
        assert run.policy("--previous", "policy.signed", "--revoke-token", token).code == 0
    assert signed_here().revoked_tokens == (b"\xaa" * 16, b"\xbb" * 16)
    assert signed_here().version == 4


def test_a_policy_is_replaced_only_by_the_one_that_follows_it(run: Terminal, first: Policy) -> None:
    refused = run.policy()
    assert refused.code == 2
    assert "--previous policy.signed" in refused.err
    Path("other").write_bytes(Path("policy.signed").read_bytes())
    assert run.policy("--previous", "other").code == 2
    assert signed_here() == first
    assert run.policy("--previous", "policy.signed").code == 0
    assert signed_here().version == 2


def test_an_ended_policy_is_followed_only_by_one_that_says_until_when(run: Terminal, trust: Trust) -> None:
    assert run.policy("--days", 0.001).code == 0
    early = read_policy(Path("policy.signed"))
    ended = ended_long_ago(early)
    refused = run.policy("--previous", ended, "-o", "next")
    assert refused.code == 2
    assert "--days" in refused.err
    assert run.policy("--previous", ended, "-o", "next", "--days", 30).code == 0
    assert signed_here("next").not_after > time.time() + 29 * DAY_S


def ended_long_ago(policy: Signed) -> Path:
    old = replace(Policy.decode(policy.body), not_after=1_000)
    write_policy(Path("ended"), sign_policy(read_operator(Path("operator.key")), old))
    return Path("ended")


def test_another_operator_s_policy_is_not_followed(run: Terminal, first: Policy) -> None:
    run("operator", "init", "-o", "mallory.key")
    ended = run(
        "operator", "policy", "--operator-key", "mallory.key", "--previous", "policy.signed", "-o", "next", "--json"
    )
    assert json.loads(ended.out)["error"]["code"] == "NotThisOperators"
    assert not Path("next").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--g-min", "1"),
        ("--k-min", "1"),
        ("--clip-min", "0"),
        ("--clip-max", "inf"),
        ("--clip-min", "2", "--clip-max", "1"),
        ("--n-max-max", str(2**40)),
        ("--metrics", "all"),
        ("--revoke-token", "abc"),
        ("--revoke-client", "ab" * 16),
    ],
)
def test_a_policy_that_makes_no_sense_is_not_signed(run: Terminal, trust: Trust, words: tuple[str, ...]) -> None:
    assert run.policy(*words).code == 2
    assert not Path("policy.signed").exists()


# ---- tokens


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> bytearray:
    """Every byte that goes into a connection from here on, before TLS."""
    record = bytearray()
    send = http.client.HTTPSConnection.send

    def recorded(connection: http.client.HTTPSConnection, data: Any) -> None:
        record.extend(data)
        send(connection, data)

    monkeypatch.setattr(http.client.HTTPSConnection, "send", recorded)
    return record


@pytest.fixture
def network(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """A reducer that commands find by themselves."""
    file, token = tmp_path / "profile.yaml", served.control.let_in("admin")
    file.write_text(f"url: https://localhost:{served.port}\ntoken: {token}\nauthority_file: {served.authority_file}\n")
    monkeypatch.setenv("FEDN_PROFILE", str(file))
    return served


JOIN = ("token", "create", "--role", "client", "--label", "ward-7", "--operator-key", "operator.key")


def test_a_site_gets_token_and_join_credential_in_one_file(run: Terminal, trust: Trust, network: Served) -> None:
    made = run(*JOIN, "--days", 3, "-o", "ward.token", "--json")
    assert made.code == 0, made.err
    token = read_token_file(Path("ward.token"))
    assert token.bearer in network.control.callers
    assert token.join is not None
    client = verify_chain(enter_client(token.join, SigningKey.generate(), 0), trust)
    assert (client.site, client.uses, client.token_id.hex()) == ("ward-7", 1, made.data["join_id"])
    assert 0 <= time.time() + 3 * DAY_S - client.not_after <= 60
    assert stat.S_IMODE(Path("ward.token").stat().st_mode) == 0o600
    assert made.data["text"] is None


def test_no_server_is_sent_anything_of_a_join_credential(
    run: Terminal, trust: Trust, network: Served, sent: bytearray
) -> None:
    assert run(*JOIN, "-o", "ward.token").code == 0
    join = read_token_file(Path("ward.token")).join
    assert join is not None
    assert b'"ward-7"' in sent  # it was this request
    operator = read_operator(Path("operator.key"))
    line = Path("ward.token").read_text().splitlines()[1]
    for secret in (join.token_secret, operator.operator_secret):
        for spelling in (secret, secret.hex().encode()):
            assert spelling not in sent
    assert all(line[start : start + 24].encode() not in sent for start in range(0, len(line), 24))


def test_without_an_operator_s_key_a_token_is_a_bearer_s_alone_and_that_is_said(run: Terminal, network: Served) -> None:
    made = run("token", "create", "--role", "client", "--label", "ward-7", "-o", "ward.token")
    assert "cannot take part in masked rounds" in made.err
    assert read_token_file(Path("ward.token")).join is None
    assert "masked" not in run("token", "create", "--role", "combiner", "--label", "north").err


def test_a_token_s_file_is_not_overwritten_and_no_token_is_made_for_it(run: Terminal, network: Served) -> None:
    Path("ward.token").write_text("precious")
    before = len(network.control.token_views)
    assert run("token", "create", "--role", "client", "--label", "ward-7", "-o", "ward.token").code == 2
    assert Path("ward.token").read_text() == "precious"
    assert len(network.control.token_views) == before


@pytest.mark.parametrize(
    "words",
    [
        (*JOIN,),
        ("token", "create", "--role", "combiner", "--label", "x", "--operator-key", "operator.key", "-o", "x"),
        ("token", "create", "--role", "client", "--label", "x" * 65, "--operator-key", "operator.key", "-o", "x"),
    ],
)
def test_what_makes_no_join_credential_asks_for_no_token(
    run: Terminal, trust: Trust, network: Served, words: tuple[str, ...]
) -> None:
    before = len(network.control.token_views)
    assert run(*words).code == 2
    assert len(network.control.token_views) == before


# ---- show


def test_show_says_what_every_file_holds_and_never_a_secret(
    run: Terminal, trust: Trust, first: Policy, network: Served
) -> None:
    run("operator", "certify", "combiner", "north", "--operator-key", "operator.key")
    run(*JOIN, "-o", "ward.token")
    run("token", "create", "--role", "client", "--label", "plain", "-o", "plain.token")
    token, operator = read_token_file(Path("ward.token")), read_operator(Path("operator.key"))
    assert token.join is not None
    secrets = [
        operator.operator_secret.hex(),
        read_server(Path("north.credential")).server_secret.hex(),
        token.join.token_secret.hex(),
        token.bearer,
        *(line[20:60] for name in ("operator.key", "north.credential", "ward.token") for line in lines_of(name)),
    ]
    for file, holds in (
        ("operator.key", "operator key"),
        ("north.credential", "server credential"),
        ("policy.signed", "policy"),
        ("ward.token", "token"),
        ("plain.token", "token"),
    ):
        human, machine = run("operator", "show", file), run("operator", "show", file, "--json")
        assert machine.data["holds"] == holds
        if file != "plain.token":
            assert machine.data["operator_key"] == trust.operator_key.hex()
            assert machine.data["deployment"] == trust.deployment.hex()
        for printed in (human.out, human.err, machine.out, machine.err):
            assert not [secret for secret in secrets if secret in printed]
    shown = run("operator", "show", "ward.token", "--json").data
    assert (shown["site"], shown["uses"], shown["masked_rounds"]) == ("ward-7", 1, True)
    assert run("operator", "show", "plain.token", "--json").data["masked_rounds"] is False
    assert run("operator", "show", "policy.signed", "--json").data["g_min"] == 3


def lines_of(name: str) -> list[str]:
    return Path(name).read_text().splitlines()


def test_a_policy_whose_signature_does_not_fit_is_not_shown(run: Terminal, first: Policy) -> None:
    signed = read_policy(Path("policy.signed"))
    write_policy(Path("forged"), replace(signed, body=replace(first, g_min=2).encode()))
    ended = run("operator", "show", "forged", "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["error"]["code"] == "BadSignature"


# ---- the page


def test_the_operator_s_commands_of_the_page_run_in_its_order(run: Terminal, network: Served) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "set-up-masking.md"
    commands = re.findall(r"(?m)^ {4}fedn-py ((?:operator|token) .+)$", page.read_text(encoding="utf-8"))
    assert len(commands) == 8
    for command in commands:
        ended = run(*shlex.split(command))
        assert ended.code == 0, (command, ended.err)
    policy = signed_here()
    assert (policy.version, policy.g_min, len(policy.revoked_tokens)) == (3, 8, 1)
