from pathlib import Path

import pytest

from fedn_py.settings import (
    ClientSettings,
    CombinerSettings,
    InvalidSettings,
    ReducerSettings,
    explain_settings,
    load_settings,
)
from fedn_py.settings.fields import Section


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("reducer.pem", "reducer.key", "authority.pem", "token"):
        (tmp_path / name).write_text("x")
    return tmp_path


CERTIFICATE = "certificate: {certificate_file: reducer.pem, key_file: reducer.key, authority_file: authority.pem}\n"


def load_reducer(folder: Path, text: str, **environ: str) -> ReducerSettings:
    file = folder / "reducer.yaml"
    file.write_text(text)
    return load_settings(ReducerSettings, file, environ)


def faults(folder: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        load_reducer(folder, text, **environ)
    return [str(fault).replace(str(folder), "") for fault in caught.value.faults]


def test_keys_not_given_have_their_defaults_and_relative_paths_start_at_the_file(folder: Path) -> None:
    settings = load_reducer(folder, CERTIFICATE)
    assert settings.listen_web == "0.0.0.0:8090"
    assert settings.mongodb is None
    assert settings.minio is None
    assert settings.state_dir == folder / "state" / "reducer"
    assert settings.certificate.key_file == folder / "reducer.key"
    assert settings.logging.level == "info"


def test_masked_rounds_need_both_files_and_are_off_without_them(folder: Path) -> None:
    assert load_reducer(folder, CERTIFICATE).masking is None
    for name in ("reducer.credential", "policy.signed"):
        (folder / name).write_text("x")
    masking = "masking: {credential_file: reducer.credential, policy_file: policy.signed}\n"
    settings = load_reducer(folder, CERTIFICATE + masking)
    assert settings.masking is not None
    assert settings.masking.credential_file == folder / "reducer.credential"
    assert settings.masking.policy_file == folder / "policy.signed"
    (missing,) = faults(folder, CERTIFICATE + "masking: {credential_file: reducer.credential}\n")
    assert "masking.policy_file: is missing" in missing
    (absent,) = faults(folder, CERTIFICATE + masking.replace("policy.signed", "none"))
    assert "there is no file /none" in absent


def test_the_environment_wins_over_the_file(folder: Path) -> None:
    settings = load_reducer(
        folder,
        CERTIFICATE + "heartbeat_s: 5\nlogging: {level: error}\n",
        FEDN_HEARTBEAT_S="2.5",
        FEDN_LOGGING__FORMAT="json",
        FEDN_LIMITS__MAX_MODEL_BYTES="",
    )
    assert settings.heartbeat_s == 2.5
    assert settings.logging.format == "json"
    assert settings.logging.level == "error"


def test_a_process_can_be_set_by_the_environment_alone(folder: Path) -> None:
    environ = {
        "FEDN_NAME": "anna",
        "FEDN_REDUCER": "localhost:12070",
        "FEDN_AUTHORITY_FILE": str(folder / "authority.pem"),
        "FEDN_TOKEN_FILE": str(folder / "token"),
        "FEDN_RELEASE_LOGS": "false",
        "FEDN_LISTEN_WEB": "0.0.0.0:1",
    }
    settings = load_settings(ClientSettings, None, environ)
    assert settings.name == "anna"
    assert settings.release_logs is False


@pytest.mark.parametrize("in_file", [True, False])
def test_the_packages_that_a_site_runs_are_digests_in_the_file_or_in_a_variable(folder: Path, in_file: bool) -> None:
    (folder / "anna.yaml").write_text(
        "name: anna\nreducer: localhost:12070\nauthority_file: authority.pem\ntoken_file: token\n"
        + (f"allowed_packages: [{'a' * 64}, {'b' * 64}]\n" if in_file else "")
    )
    environ = {} if in_file else {"FEDN_ALLOWED_PACKAGES": f"{'a' * 64}, {'b' * 64}"}
    settings = load_settings(ClientSettings, folder / "anna.yaml", environ)
    assert settings.allowed_packages == ("a" * 64, "b" * 64)
    assert load_settings(ClientSettings, folder / "anna.yaml", {"FEDN_ALLOWED_PACKAGES": ","}).allowed_packages == ()
    with pytest.raises(InvalidSettings, match="is no sha256 digest"):
        load_settings(ClientSettings, folder / "anna.yaml", {"FEDN_ALLOWED_PACKAGES": "digits"})


def test_all_faults_are_told_at_once_each_with_its_place(folder: Path) -> None:
    text = (
        "certificate:\n  certificate_file: reducer.pem\n  key_fil: reducer.key\n  authority_file: nowhere.pem\n"
        "listen_web: 8090\nheartbeat_s: 0\nlogging:\n  level: loud\n"
    )
    assert faults(folder, text, FEDN_HEARTBEATS="3", FEDN_LIMITS__MAX_JSON_BYTES="many") == [
        "variable FEDN_HEARTBEATS is no setting of this role; did you mean FEDN_HEARTBEAT_S?",
        "/reducer.yaml:5: listen_web: must be a valid string, not '8090' (host:port of the REST API and pages (HTTPS))",
        (
            "/reducer.yaml:1: certificate.key_file: is missing: PEM, its private key. "
            "Write it there or set FEDN_CERTIFICATE__KEY_FILE."
        ),
        (
            "/reducer.yaml:4: certificate.authority_file: there is no file /nowhere.pem, not 'nowhere.pem' "
            "(PEM, the authority that combiners' certificates come from)"
        ),
        "/reducer.yaml:3: certificate.key_fil: is no setting; did you mean key_file?",
        (
            "variable FEDN_LIMITS__MAX_JSON_BYTES: limits.max_json_bytes: must be a valid integer, unable to parse "
            "string as an integer, not 'many' (bytes of one JSON body of the REST API)"
        ),
        "/reducer.yaml:6: heartbeat_s: must be greater than 0, not '0' (seconds between signs of life from combiners)",
        (
            "/reducer.yaml:8: logging.level: must be 'debug', 'info', 'warning' or 'error', not 'loud' "
            "(the least severe level shown)"
        ),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [\n", "is not YAML"),
        ("- a\n", "must hold keys and values"),
        (CERTIFICATE + "name: a\nname: b\n", "is there twice"),
        (CERTIFICATE + "logging: console\n", "logging: must be"),
        (CERTIFICATE + "name: Not A Name\n", "cannot be a name"),
        (CERTIFICATE + "sweep: {grace_s: 60.0}\n", "sweep.grace_s: must be greater than or equal to 3600"),
        (CERTIFICATE + "listen_grpc: 'http://x:1'\n", "without a scheme"),
        (CERTIFICATE + "minio: {url: 'localhost:9000', access_key: a, secret_key: b}\n", "must begin with http"),
    ],
)
def test_what_is_wrong_is_said_in_words(folder: Path, text: str, words: str) -> None:
    assert any(words in fault for fault in faults(folder, text))


def test_a_file_that_is_not_there_is_a_fault(folder: Path) -> None:
    with pytest.raises(InvalidSettings, match="cannot be read"):
        load_settings(ReducerSettings, folder / "none.yaml", {})


MINIO = CERTIFICATE + "minio:\n  url: http://localhost:9000\n"


def test_minio_keys_come_from_their_short_variables_only_where_minio_is_used(folder: Path) -> None:
    keys = {"FEDN_MINIO_ACCESS_KEY": "user", "FEDN_MINIO_SECRET_KEY": "pass"}
    minio = load_reducer(folder, MINIO, **keys).minio
    assert minio is not None
    assert minio.access_key == "user"
    assert minio.secret_key.get_secret_value() == "pass"
    assert load_reducer(folder, CERTIFICATE, **keys).minio is None


def test_a_secret_can_be_in_a_file_of_its_own(folder: Path) -> None:
    (folder / "secret").write_text("pass\n")
    text = MINIO + "  access_key: user\n  secret_key_file: secret\n"
    minio = load_reducer(folder, text).minio
    assert minio is not None
    assert minio.secret_key.get_secret_value() == "pass"
    assert "pass" not in repr(minio)


def test_a_secret_given_twice_or_in_a_missing_file_is_a_fault_that_shows_no_secret(folder: Path) -> None:
    (folder / "secret").write_text("pass\n")
    twice = faults(folder, MINIO + "  access_key: u\n  secret_key: hunter2\n  secret_key_file: secret\n")
    assert len(twice) == 1
    assert "give one of the two" in twice[0]
    missing = faults(folder, MINIO + "  access_key: u\n  secret_key_file: nowhere\n")
    assert len(missing) == 1
    assert "there is no file" in missing[0]
    wrong = faults(folder, MINIO + "  access_key: u\n  secret_key: [hunter2]\n")
    assert "hunter2" not in " ".join(wrong + twice)


def test_settings_cannot_be_changed(folder: Path) -> None:
    settings = load_reducer(folder, CERTIFICATE)
    with pytest.raises(ValueError, match="frozen"):
        settings.name = "other"


def test_every_setting_can_be_shown_with_its_origin_and_no_secret(folder: Path) -> None:
    file = folder / "reducer.yaml"
    file.write_text(MINIO + "  access_key: user\n  secret_key: hunter2\n")
    shown = {
        setting.key: (setting.value, setting.origin)
        for setting in explain_settings(ReducerSettings, file, {"FEDN_NAME": "main"})
    }
    assert shown["name"] == ("main", "variable FEDN_NAME")
    assert shown["minio.url"] == ("http://localhost:9000", f"{file}:3")
    assert shown["minio.secret_key"] == ("********", f"{file}:5")
    assert shown["heartbeat_s"] == ("10.0", "default")
    assert "hunter2" not in str(shown)


def test_a_section_is_frozen_and_refuses_unknown_keys() -> None:
    assert Section.model_config["frozen"] is True
    assert Section.model_config["extra"] == "forbid"


def load_combiner(folder: Path, text: str) -> CombinerSettings:
    file = folder / "combiner.yaml"
    file.write_text(
        "{name: east, advertise: 'localhost:12080', reducer: 'localhost:12070', authority_file: authority.pem, "
        f"certificate: {{certificate_file: reducer.pem, key_file: reducer.key}}, token_file: token, {text}}}\n"
    )
    return load_settings(CombinerSettings, file, {})


@pytest.mark.parametrize("listen", ["127.0.0.1:12090", "localhost:12090", "[::1]:12090"])
def test_a_combiner_s_metrics_may_be_read_without_a_token_on_its_own_host(folder: Path, listen: str) -> None:
    assert load_combiner(folder, f"listen_metrics: '{listen}'").listen_metrics == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:12090", "combiner.example.org:12090", "[::]:12090", "10.0.0.1:12090"])
def test_metrics_that_other_hosts_can_read_need_a_token(folder: Path, listen: str) -> None:
    with pytest.raises(InvalidSettings, match=r"listen_metrics: .*set metrics_token_file"):
        load_combiner(folder, f"listen_metrics: '{listen}'")
    settings = load_combiner(folder, f"listen_metrics: '{listen}', metrics_token_file: token")
    assert settings.metrics_token_file == folder / "token"
    with pytest.raises(InvalidSettings) as caught:
        load_combiner(folder, f"listen_metrics: '{listen}', metrics_token_file: nowhere")
    assert [fault.key for fault in caught.value.faults] == ["metrics_token_file"]


def test_only_a_sandbox_has_a_socket_at_which_pages_kill_processes(folder: Path) -> None:
    text = CERTIFICATE + "sandbox_socket: desk/socket\n"
    assert "sandbox_socket: is for the deployment called sandbox alone" in "".join(faults(folder, text))
    assert load_reducer(folder, text + "deployment: sandbox\n").sandbox_socket == folder / "desk" / "socket"
