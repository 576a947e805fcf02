from pathlib import Path

import pytest

from fedn_py.api import InvalidProfile, find_profile, load_profile
from fedn_py.api.profile import SANDBOX_PROFILE


def test_a_profile_names_reducer_token_and_authority(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("fedn1.secret\n")
    (tmp_path / "profile.yaml").write_text("url: https://host:8090/\ntoken_file: token\nauthority_file: ca.pem\n")
    profile = load_profile(tmp_path / "profile.yaml")
    assert profile.urls == ("https://host:8090",)
    assert profile.token == "fedn1.secret"
    assert profile.authority_file == tmp_path / "ca.pem"
    assert "secret" not in repr(profile)


def test_a_profile_names_every_reducer_where_others_stand_by(tmp_path: Path) -> None:
    (tmp_path / "profile.yaml").write_text("url: [https://north:8090, https://south:8090/]\ntoken: secret\n")
    assert load_profile(tmp_path / "profile.yaml").urls == ("https://north:8090", "https://south:8090")


def test_a_token_s_file_with_a_join_credential_serves_too(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("fedn1.secret\nfedn-join-1:AAAA\n")
    (tmp_path / "profile.yaml").write_text("url: https://host:8090\ntoken_file: token\n")
    assert load_profile(tmp_path / "profile.yaml").token == "fedn1.secret"


def test_all_faults_of_a_profile_are_told(tmp_path: Path) -> None:
    (tmp_path / "profile.yaml").write_text("url: http://host\nca: x\n")
    with pytest.raises(InvalidProfile) as caught:
        load_profile(tmp_path / "profile.yaml")
    for words in ("ca is no key", "url must be https", "either token or token_file"):
        assert words in caught.value.message


@pytest.mark.parametrize(
    "text", ["[", "- a", "", "url: https://h\ntoken: 1\n", "url: https://h\ntoken_file: none\n", "url: []\ntoken: t\n"]
)
def test_a_file_that_is_no_profile_is_a_fault(tmp_path: Path, text: str) -> None:
    (tmp_path / "profile.yaml").write_text(text)
    with pytest.raises(InvalidProfile):
        load_profile(tmp_path / "profile.yaml")


def test_the_profile_given_comes_first_then_the_environment_then_the_sandbox(tmp_path: Path) -> None:
    sandbox = tmp_path / SANDBOX_PROFILE
    sandbox.parent.mkdir(parents=True)
    sandbox.write_text("")
    environ = {"FEDN_PROFILE": "elsewhere.yaml"}
    assert find_profile(Path("given.yaml"), environ, tmp_path) == Path("given.yaml")
    assert find_profile(None, environ, tmp_path) == Path("elsewhere.yaml")
    assert find_profile(None, {}, tmp_path) == sandbox


def test_no_profile_at_all_is_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    with pytest.raises(InvalidProfile) as caught:
        find_profile(None, {}, tmp_path)
    assert "fedn-py sandbox" in caught.value.remedy
