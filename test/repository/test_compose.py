"""The compose file fits the rest: its settings load, its files are there, its ports are the promised ones."""

import re
import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from fedn_py.api import load_profile
from fedn_py.settings import ROLES, ReducerSettings, load_settings

Service = dict[str, Any]
IMAGE_FILES = "config/docker"
ONE_SHOT = {"certificates", "credentials", "tokens", "operator"}
SERVERS = {"mongodb", "mongo-express", "minio", "reducer", "combiner-1", "combiner-2"}


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "docker-compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Service]:
    return compose["services"]


@pytest.fixture(scope="module")
def run_client(root: Path) -> ModuleType:
    loader = SourceFileLoader("run_client", str(root / IMAGE_FILES / "bin/run-client"))
    spec = spec_from_loader("run_client", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def environment(service: Service) -> dict[str, str]:
    return {key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for key, value in service.get("environment", {}).items()}


def in_folder(text: str, folder: Path) -> str:
    """Move the container's folders below one of the test's, and make the files that the text names there."""
    for path in re.findall(r"(?<![\w.])/(?:network|state|sites)/\S+", text):
        file = folder / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch() if file.suffix else file.mkdir(exist_ok=True)
    return re.sub(r"(?<![\w.])/(network|state|sites)/", rf"{folder}/\1/", text)


def settings_of(service: Service, role: str, root: Path, folder: Path, **more: str) -> Any:
    file = folder / f"{role}.yaml"
    file.write_text(in_folder((root / IMAGE_FILES / file.name).read_text(encoding="utf-8"), folder), encoding="utf-8")
    variables = {key: in_folder(value, folder) for key, value in {**environment(service), **more}.items()}
    return load_settings(ROLES[role], file, variables)


def test_the_ports_that_people_use_are_open_and_only_to_this_machine(services: dict[str, Service]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {
        "mongo-express": ["127.0.0.1:8081:8081"],
        "minio": ["127.0.0.1:9000:9000", "127.0.0.1:9001:9001"],
        "reducer": ["127.0.0.1:8090:8090", "127.0.0.1:12070:12070"],
    }


@pytest.mark.parametrize(
    ("name", "role"), [("reducer", "reducer"), ("combiner-1", "combiner"), ("combiner-2", "combiner")]
)
def test_the_settings_of_each_server_load(
    name: str, role: str, services: dict[str, Service], root: Path, tmp_path: Path
) -> None:
    settings = settings_of(services[name], role, root, tmp_path)
    assert settings.name == name
    assert settings.minio.url == "http://minio:9000"
    assert settings.state_dir == tmp_path / "state" / role


def test_each_server_has_a_credential_of_its_own_for_masked_rounds(
    services: dict[str, Service], root: Path, tmp_path: Path
) -> None:
    masking = tmp_path / "network" / "masking"
    reducer: ReducerSettings = settings_of(services["reducer"], "reducer", root, tmp_path)
    assert reducer.masking is not None
    assert reducer.masking.credential_file == masking / "reducer.credential"
    assert reducer.masking.policy_file == masking / "policy.signed"
    for name in ("combiner-1", "combiner-2"):
        combiner = settings_of(services[name], "combiner", root, tmp_path)
        assert combiner.masking_credential_file == masking / f"{name}.credential"


def test_the_settings_of_a_client_load_with_what_its_entry_script_adds(
    services: dict[str, Service], root: Path, tmp_path: Path
) -> None:
    state = "/state/clients/client-1"
    added = {
        "FEDN_NAME": "client-1",
        "FEDN_TOKEN_FILE": "/sites/client-1.token",
        "FEDN_STATE_DIR": state,
        "FEDN_DATA_PATH": f"{state}/shares",
    }
    settings = settings_of(services["client"], "client", root, tmp_path, **added)
    script = (root / IMAGE_FILES / "bin/run-client").read_text(encoding="utf-8")
    assert set(re.findall(r'environ\["(FEDN_[A-Z_]+)"\] =', script)) == set(added)
    assert settings.reducer == ("reducer:12070",)


def test_servers_listen_where_the_compose_file_expects_them(
    services: dict[str, Service], root: Path, tmp_path: Path
) -> None:
    reducer: ReducerSettings = settings_of(services["reducer"], "reducer", root, tmp_path)
    assert (reducer.listen_web, reducer.listen_grpc) == ("0.0.0.0:8090", "0.0.0.0:12070")
    for name in ("combiner-1", "combiner-2"):
        combiner = settings_of(services[name], "combiner", root, tmp_path)
        assert combiner.advertise == f"{name}:{combiner.listen.rpartition(':')[2]}"


def test_everything_that_keeps_running_is_restarted_and_everything_that_serves_says_when_it_is_ready(
    services: dict[str, Service],
) -> None:
    for name, service in services.items():
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name
    assert {name for name, service in services.items() if "healthcheck" in service} == {
        "mongodb",
        "minio",
        "reducer",
        "combiner-1",
        "combiner-2",
    }


def test_a_service_is_waited_for_by_a_condition_that_it_can_fulfil(services: dict[str, Service]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} needs {needed}"
            else:
                assert services[needed]["restart"] == "no", f"{name} needs {needed}"


@pytest.fixture(scope="module")
def mounts(services: dict[str, Service]) -> dict[str, dict[str, str]]:
    """Service to its volumes, each with where it is and how."""
    return {
        name: {volume: where for volume, _, where in (v.partition(":") for v in service.get("volumes", []))}
        for name, service in services.items()
    }


def test_volumes_are_declared_and_used(compose: dict[str, Any], mounts: dict[str, dict[str, str]]) -> None:
    assert set().union(*mounts.values()) == set(compose["volumes"])


def test_the_key_of_the_authority_is_in_one_service_only(mounts: dict[str, dict[str, str]]) -> None:
    assert {name for name, volumes in mounts.items() if "authority" in volumes} == {"certificates"}


def test_the_operator_s_key_is_where_it_is_made_and_used_and_no_server_has_it_or_a_site_s_token(
    mounts: dict[str, dict[str, str]],
) -> None:
    holders = {name: volumes["operator-key"] for name, volumes in mounts.items() if "operator-key" in volumes}
    assert holders == {"credentials": "/operator-key", "tokens": "/operator-key:ro"}
    sites = {name: volumes["sites"] for name, volumes in mounts.items() if "sites" in volumes}
    assert sites == {"tokens": "/sites", "client": "/sites:ro"}
    assert not SERVERS & (set(holders) | set(sites))


def test_there_is_a_token_for_each_share_of_the_data(services: dict[str, Service]) -> None:
    tokens, client = environment(services["tokens"]), environment(services["client"])
    assert tokens["FEDN_PY_SHARES"] == client["FEDN_PY_SHARES"] == "8"


def test_every_folder_that_a_volume_is_mounted_at_belongs_to_the_user_that_the_image_runs_as(
    services: dict[str, Service], mounts: dict[str, dict[str, str]], root: Path
) -> None:
    text = (root / IMAGE_FILES / "fedn-py.Dockerfile").read_text(encoding="utf-8")
    made = set(re.search(r"install -d -o fedn -g fedn (.*)$", text, re.MULTILINE).group(1).split())  # type: ignore[union-attr]
    ours = [name for name, service in services.items() if service.get("image") == "fedn_py:local"]
    assert {where.removesuffix(":ro") for name in ours for where in mounts[name].values()} <= made


def test_passwords_in_the_file_say_that_they_are_for_the_sandbox(root: Path) -> None:
    text = (root / "docker-compose.yaml").read_text(encoding="utf-8")
    defaults = set(re.findall(r"\$\{\w*PASSWORD:-([^}]*)\}", text))
    assert defaults == {"sandbox-only-change-me"}
    assert not re.findall(r"PASSWORD: (?!\$\{)\S+", text)


def test_every_image_is_named_or_built_from_a_file_that_is_here(services: dict[str, Service], root: Path) -> None:
    for name, service in services.items():
        if "build" in service:
            context = root / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file(), name


@pytest.mark.parametrize("dockerfile", ["fedn-py.Dockerfile", "minio.Dockerfile"])
def test_what_an_image_copies_is_here_and_it_does_not_run_as_root(dockerfile: str, root: Path) -> None:
    text = (root / IMAGE_FILES / dockerfile).read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert list(root.glob(source.rstrip("/"))), source
    assert re.search(r"^USER (?!root)\w+$", text, re.MULTILINE)


def test_the_image_has_all_that_the_wheel_is_built_from(root: Path) -> None:
    dockerfile = (root / IMAGE_FILES / "fedn-py.Dockerfile").read_text(encoding="utf-8")
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    for folder in re.findall(r'^"(test/[^"]+)" = "fedn_py/projects/', project, re.MULTILINE):
        assert f"COPY {folder} {folder}" in dockerfile


def test_entry_scripts_are_there_run_and_have_no_fault_of_syntax(services: dict[str, Service], root: Path) -> None:
    folder = root / IMAGE_FILES / "bin"
    named = {service["entrypoint"][0] for service in services.values() if "entrypoint" in service}
    assert named | {"ready"} == {script.name for script in folder.iterdir() if script.is_file()}
    for script in folder.glob("*[!_]"):
        if not script.is_file():
            continue
        assert script.stat().st_mode & 0o111, script.name
        text = script.read_text(encoding="utf-8")
        if text.startswith("#!/bin/sh"):
            subprocess.run(["sh", "-n", str(script)], check=True)
        else:
            compile(text, script.name, "exec")


def test_a_replica_has_the_number_that_the_name_server_calls_it_by(run_client: ModuleType) -> None:
    assert run_client.number_in("fedn_py-client-1.fedn_py_default") == 1
    assert run_client.number_in("fedn_py_client_9.fedn_py_default") == 9
    assert run_client.number_in("localhost") is None
    assert run_client.number_in("") is None


def test_a_replica_without_a_number_takes_the_first_that_no_other_one_has(
    run_client: ModuleType, tmp_path: Path
) -> None:
    taken = [run_client.first_free(tmp_path, 3) for _ in range(4)]
    assert taken == [1, 2, 3, None]


def test_the_operator_finds_the_reducer_where_it_serves_and_its_token_where_it_writes_it(
    services: dict[str, Service], root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text(in_folder((root / IMAGE_FILES / "profile.yaml").read_text(encoding="utf-8"), tmp_path))
    profile = load_profile(file)
    reducer: ReducerSettings = settings_of(services["reducer"], "reducer", root, tmp_path)
    assert profile.urls == (f"https://reducer:{reducer.listen_web.rpartition(':')[2]}",)
    assert profile.authority_file == reducer.certificate.authority_file
    assert yaml.safe_load(file.read_text())["token_file"] == str(reducer.state_dir / "admin.token")
