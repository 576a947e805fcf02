"""What a new site is given along."""

import re
from pathlib import Path

from fedn_py import __version__
from fedn_py.settings import ClientSettings, load_settings
from fedn_py.web.ui.joining import client_settings, start_command, token_command, token_file


def test_a_client_starts_with_the_settings_as_they_are(tmp_path: Path) -> None:
    for name in ("hospital-a", "123", "null", "0x1f", "1e3"):  # the last ones are no texts to YAML
        for file in ("authority.pem", token_file(name)):
            (tmp_path / file).write_text("x")
        (tmp_path / "client.yaml").write_text(client_settings(name, "reducer.example.org:12070"))
        settings = load_settings(ClientSettings, tmp_path / "client.yaml", {})
        assert (settings.name, settings.reducer) == (name, ("reducer.example.org:12070",))
        assert settings.token_file == tmp_path / f"{name}.token"
        assert settings.state_dir == tmp_path / "state"


def test_a_reducer_may_be_called_by_an_address(tmp_path: Path) -> None:
    for file in ("authority.pem", "a.token"):
        (tmp_path / file).write_text("x")
    (tmp_path / "client.yaml").write_text(client_settings("a", "[2001:db8::1]:12070"))
    assert load_settings(ClientSettings, tmp_path / "client.yaml", {}).reducer == ("[2001:db8::1]:12070",)


def test_the_settings_have_no_key_that_the_template_lacks() -> None:
    template = (Path(__file__).parents[3] / "config" / "client.yaml").read_text()
    keys = set(re.findall(r"^#?(\w+):", client_settings("a", "b:1"), re.MULTILINE))
    assert keys <= set(re.findall(r"^#?(\w+):", template, re.MULTILINE))


def test_commands_name_this_version_and_quote_what_they_are_given() -> None:
    assert f"fedn_py-{__version__}-py3-none-any.whl" in start_command("hospital-a", install=True)
    here = start_command("hospital-a", install=False)
    assert here == "chmod 600 hospital-a.token && fedn-py run client -c client.yaml"
    assert "--label hospital-a --days 30 --operator-key operator.key -o hospital-a.token" in token_command(
        "hospital-a", 30
    )
