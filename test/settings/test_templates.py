"""The templates in config/ and the models say the same."""

import re
from pathlib import Path

import pytest
import yaml

from fedn_py.settings import ROLES, load_settings
from fedn_py.settings.fields import Section
from fedn_py.settings.sources import leaf_keys, section_of

CONFIG = Path(__file__).parents[2] / "config"


def with_all_keys(role: str) -> dict[str, object]:
    text = (CONFIG / f"{role}.yaml").read_text()
    return yaml.safe_load(re.sub(r"(?m)^#(?! \S)(?=.)", "", text))  # type: ignore[no-any-return]


def flat(values: dict[str, object], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    leaves: dict[tuple[str, ...], object] = {}
    for name, value in values.items():
        leaves.update(flat(value, (*prefix, name)) if isinstance(value, dict) else {(*prefix, name): value})
    return leaves


def default_of(model: type[Section], key: tuple[str, ...]) -> tuple[bool, object]:
    for part in key[:-1]:
        section = section_of(model.model_fields[part].annotation)
        assert section is not None
        model = section
    described = model.model_fields[key[-1]]
    return described.is_required(), described.default


@pytest.mark.parametrize("role", ROLES)
def test_the_template_has_every_key_of_the_model_and_no_other(role: str) -> None:
    assert set(flat(with_all_keys(role))) == set(leaf_keys(ROLES[role]))


@pytest.mark.parametrize("role", ROLES)
def test_the_template_shows_the_defaults(role: str) -> None:
    for key, shown in flat(with_all_keys(role)).items():
        required, default = default_of(ROLES[role], key)
        if not required and default is not None:
            assert str(shown) == str(default) or shown == default, key


@pytest.mark.parametrize("role", ROLES)
def test_the_template_is_valid_as_it_is(role: str, tmp_path: Path) -> None:
    text = (CONFIG / f"{role}.yaml").read_text()
    for name in re.findall(r"(?m)^ *(?:\w+_file): (\S+)", text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "settings.yaml").write_text(text)
    assert load_settings(ROLES[role], tmp_path / "settings.yaml", {}).model_dump()["name"]


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_says_what_it_is(role: str) -> None:
    def described(model: type[Section]) -> None:
        for field in model.model_fields.values():
            assert field.description
            section = section_of(field.annotation)
            if section:
                described(section)

    described(ROLES[role])
