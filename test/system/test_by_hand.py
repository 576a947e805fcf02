"""The how-to pages hold: their commands, taken from the pages themselves, are run as a person pastes them."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pymongo
import pytest
import yaml
from minio import Minio
from running_network import ROOT, RunningNetwork
from safetensors.numpy import load, load_file
from servers.running import S3Server, free_port

from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.signing import read_signed
from fedn_py.runtime.credential_files import read_operator, read_policy, read_server, read_token_file
from fedn_py.settings import CombinerSettings, ReducerSettings, load_settings

HOW_TO = ROOT / "docs" / "how-to"
LIMIT_S = 170.0


def blocks(page: str, language: str) -> list[str]:
    """Return a page's fenced blocks of one language, in order."""
    text = (HOW_TO / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def lines(page: str, *commands: str) -> list[str]:
    """Return a page's indented lines that begin with one of these commands, in order."""
    text = (HOW_TO / page).read_text(encoding="utf-8")
    found = re.findall(r"^ {4}(fedn-py .*)$", text, re.MULTILINE)
    return [line for line in found if line.startswith(tuple(f"fedn-py {command}" for command in commands))]


def paste(script: Sequence[str], **environ: str) -> str:
    """Run blocks as one script in the checkout, each line of which must succeed; return what it printed.

    Processes that a script which fails leaves behind are ended.
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FEDN_")}
    process = subprocess.Popen(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(script)],
        cwd=ROOT,
        env={**plain, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=LIMIT_S)
    finally:
        for _ in living(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
            break
    assert process.returncode == 0, printed
    return printed


def living(group: int) -> Iterator[int]:
    """Give the processes of a group that have not ended."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            yield int(entry.parent.name)


def test_the_network_that_the_page_has_one_start_by_hand_finishes_its_session(tmp_path: Path) -> None:
    network = tmp_path / "network"
    ports = {f"{name}_PORT": str(free_port()) for name in ("WEB", "GRPC", "COMBINER_1", "COMBINER_2")}
    *work, stop = blocks("run-a-network-by-hand.md", "bash")
    assert "kill" in stop
    shown = ["fedn-py session show --json > session.json", "fedn-py round list --json > rounds.json"]

    printed = paste([*work, *shown, stop, 'test -z "$(jobs -r)"'], NETWORK=str(network), **ports)

    def data(file: str) -> Any:
        return json.loads((network / file).read_text())["data"]

    session, rounds = data("session.json"), data("rounds.json")
    assert session["status"] == "finished", printed
    assert [one["number"] for one in sorted(rounds, key=lambda one: one["number"])] == [1, 2, 3]
    clients = [f"client-{number}" for number in range(1, 7)]
    for one in rounds:
        assert sorted(client["name"] for client in one["clients"]) == clients
        assert sorted(one["combiners"]) == ["combiner-1", "combiner-2"]
        assert one["metrics"]["accuracy"] > 0.85
    assert load_file(network / "trained.safetensors")["coef_"].shape == (10, 64)
    for log in network.glob("*.log"):
        assert not re.search(r"^Traceback", log.read_text(), re.MULTILINE), log.read_text()


HERE = 'export PATH="$PWD/.venv/bin:$PATH"; mkdir -p "$FOLDER"; cd "$FOLDER"'


def test_the_commands_of_the_page_on_masking_make_what_its_settings_name(
    start_network: Callable[..., RunningNetwork], tmp_path: Path
) -> None:
    network, folder = start_network(combiners=0), tmp_path / "operator"
    page = "set-up-masking.md"

    printed = paste(
        [HERE, *lines(page, "operator", "token")], FOLDER=str(folder), FEDN_PROFILE=str(network.folder.profile)
    )

    policy = read_signed(read_policy(folder / "policy.signed"), Policy)
    assert (policy.version, policy.g_min, policy.modes) == (3, 8, ("pet",))
    assert [token.hex() for token in policy.revoked_tokens] == ["0123456789abcdef0123456789abcdef"]
    token = read_token_file(folder / "hospital-a.token")
    assert token.join is not None
    assert token.join.deployment == read_operator(folder / "operator.key").deployment
    assert token.bearer not in printed
    reducer, combiner = (yaml.safe_load(block) for block in blocks(page, "yaml"))
    assert read_server(folder / reducer["masking"]["credential_file"]).deployment == token.join.deployment
    assert read_policy(folder / reducer["masking"]["policy_file"])
    assert read_server(folder / combiner["masking_credential_file"]).deployment == token.join.deployment
    assert set(reducer) <= set(ReducerSettings.model_fields)
    assert set(combiner) <= set(CombinerSettings.model_fields)


def test_the_commands_of_the_page_on_several_hosts_make_each_file_that_it_sends_somewhere(
    start_network: Callable[..., RunningNetwork], tmp_path: Path
) -> None:
    network, folder = start_network(combiners=0), tmp_path / "trusted"
    page = "run-across-hosts.md"

    paste(
        [HERE, *lines(page, "certificate", "operator", "token")],
        FOLDER=str(folder),
        FEDN_PROFILE=str(network.folder.profile),
    )

    made = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert made == {
        "authority/authority.key",
        "authority/authority.pem",
        "reducer/reducer.pem",
        "reducer/reducer.key",
        "combiner-1/combiner-1.pem",
        "combiner-1/combiner-1.key",
        "operator.key",
        "policy.signed",
        "reducer.credential",
        "combiner-1.credential",
        "combiner-1.token",
        "hospital-a.token",
        "auditor.token",
    }
    public = {file for file in made if file.endswith(".pem")} | {"policy.signed"}
    for file in made - public:
        assert (folder / file).stat().st_mode & 0o777 == 0o600, file


@pytest.mark.services
def test_the_sandbox_of_the_page_on_mongodb_and_minio_leaves_documents_and_objects_there_alone(
    tmp_path: Path, mongodb_uri: str, minio_server: S3Server
) -> None:
    keys = {"FEDN_MINIO_ACCESS_KEY": minio_server.access_key, "FEDN_MINIO_SECRET_KEY": minio_server.secret_key}
    found = {"MONGODB_URI": mongodb_uri, "MINIO_URL": minio_server.url, "NETWORK": str(tmp_path / "network")}

    paste(blocks("use-mongodb-and-minio.md", "bash"), **found, **keys)

    summary = json.loads((tmp_path / "network" / "out.json").read_text())
    assert summary["status"] == "finished"
    with pymongo.MongoClient(mongodb_uri) as client:
        rounds = list(client["fedn_py"]["rounds"].find({"content.session": summary["session"]}))
    stored = {one["content"]["number"]: one["content"]["record"]["model"] for one in rounds}
    assert stored == {one["number"]: one["model"] for one in summary["rounds"]}
    store = Minio(
        endpoint=minio_server.url.removeprefix("http://"),
        access_key=minio_server.access_key,
        secret_key=minio_server.secret_key,
        secure=False,
    )
    names = [str(one.object_name) for one in store.list_objects("fedn-py", recursive=True)]
    (name,) = [name for name in names if name.endswith(summary["final_model"])]
    model = load(store.get_object(bucket_name="fedn-py", object_name=name).read())
    assert np.isfinite(model["coef_"]).all()
    # Nothing was put into the embedded stores beside them.
    assert not list((tmp_path / "network" / "state" / "reducer").rglob("*.sqlite"))


def test_the_settings_of_the_page_on_mongodb_and_minio_load(tmp_path: Path) -> None:
    (section,) = (yaml.safe_load(block) for block in blocks("use-mongodb-and-minio.md", "yaml"))
    files = {"uri_file": "mongodb://localhost:27017", "access_key_file": "key", "secret_key_file": "secret"}
    for name, content in files.items():
        file = tmp_path / name
        file.touch(mode=0o600)
        file.write_text(content)
        section["mongodb" if name == "uri_file" else "minio"][name] = str(file)
    for name in ("certificate_file", "key_file", "authority_file"):
        (tmp_path / name).touch(mode=0o600)
    section["minio"]["ca_file"] = str(tmp_path / "authority_file")
    others = {
        "name": "reducer",
        "deployment": "test",
        "state_dir": str(tmp_path / "state"),
        "certificate": {name: str(tmp_path / name) for name in ("certificate_file", "key_file", "authority_file")},
    }
    file = tmp_path / "reducer.yaml"
    file.write_text(yaml.safe_dump(others | section))

    settings = load_settings(ReducerSettings, file, {})

    assert settings.mongodb is not None
    assert settings.mongodb.database == "fedn_py"
    assert settings.minio is not None
    assert settings.minio.bucket == "fedn-py"
