"""Reading the settings of one process: file and environment in, one checked frozen model out, or every fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr, ValidationError

from fedn_py.settings.faults import InvalidSettings, SettingFault, nearest
from fedn_py.settings.fields import Section
from fedn_py.settings.sources import (
    Gathered,
    Key,
    leaf_keys,
    read_environment,
    read_file,
    read_secret_files,
    section_of,
    variable,
)

SettingsT = TypeVar("SettingsT", bound=Section)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force.

    Attributes:
        value: as text; a secret shows as stars.
        origin: ``file:line``, ``variable NAME`` or ``default``.
    """

    key: str
    value: str
    origin: str


def load_settings(model: type[SettingsT], file: Path | None, environ: Mapping[str, str]) -> SettingsT:
    """Return the settings of one process.

    Args:
        model: the role's model.
        file: YAML; None for the environment alone. Relative paths in it, and in variables, start at its folder.
        environ: the process's environment.

    Raises:
        InvalidSettings: holding every fault, each with its key, place and what is allowed.
    """
    return _load(model, file, environ)[0]


def explain_settings(model: type[Section], file: Path | None, environ: Mapping[str, str]) -> list[Setting]:
    """Return every setting in force with where it came from; raises InvalidSettings as load_settings does."""
    settings, gathered = _load(model, file, environ)
    return [
        Setting(".".join(key), _shown(settings, key), gathered.origin(key) or "default") for key in leaf_keys(model)
    ]


def _load(model: type[SettingsT], file: Path | None, environ: Mapping[str, str]) -> tuple[SettingsT, Gathered]:
    gathered = Gathered()
    folder = (file.parent if file else Path()).absolute()
    if file is not None:
        read_file(file, gathered)
        if gathered.faults and not gathered.values:
            raise InvalidSettings(gathered.faults)
    read_environment(model, environ, gathered)
    read_secret_files(model, folder, gathered)
    try:
        settings = model.model_validate(gathered.values, context={"folder": folder})
    except ValidationError as invalid:
        faults = [_fault(model, error, file, gathered) for error in invalid.errors(include_url=False)]
        raise InvalidSettings([*gathered.faults, *faults]) from None
    if gathered.faults:
        raise InvalidSettings(gathered.faults)
    return _with_default_paths_located(settings, folder), gathered


def _with_default_paths_located(settings: SettingsT, folder: Path) -> SettingsT:
    relative = {
        name: folder / value
        for name, value in settings
        if isinstance(value, Path) and not value.is_absolute() and name not in settings.model_fields_set
    }
    return settings.model_copy(update=relative) if relative else settings


def _fault(model: type[Section], error: Mapping[str, object], file: Path | None, gathered: Gathered) -> SettingFault:
    key: Key = tuple(str(part) for part in error["loc"])  # type: ignore[attr-defined]
    dotted = ".".join(key)
    kind, message = error["type"], str(error["msg"])
    if kind == "missing":
        text = f"is missing: {_description(model, key)}. Write it there or set {variable(key)}."
        return SettingFault(dotted, gathered.origin(key[:-1]) or str(file or "environment"), text)
    if kind == "extra_forbidden":
        return SettingFault(dotted, gathered.origin(key), f"is no setting{nearest(key[-1], _siblings(model, key))}")
    allowed = message.removeprefix("Value error, ").replace("Input should be", "must be")
    given = "" if _is_secret(key) or isinstance(error["input"], dict) else f", not {str(error['input'])[:80]!r}"
    return SettingFault(dotted, gathered.origin(key), f"{allowed}{given} ({_description(model, key)})")


def _section_at(model: type[Section], key: Key) -> type[Section] | None:
    section: type[Section] | None = model
    for part in key:
        if section is None or part not in section.model_fields:
            return None
        section = section_of(section.model_fields[part].annotation)
    return section


def _description(model: type[Section], key: Key) -> str:
    section = _section_at(model, key[:-1])
    described = section.model_fields.get(key[-1]) if section else None
    return (described.description if described else None) or "a setting"


def _siblings(model: type[Section], key: Key) -> list[str]:
    section = _section_at(model, key[:-1])
    return list(section.model_fields) if section else []


def _is_secret(key: Key) -> bool:
    return key[-1] in {"secret_key", "access_key", "uri"}


def _shown(settings: Section, key: Key) -> str:
    value: object = settings
    for part in key:
        value = getattr(value, part, None)
    if value is None:
        return ""
    if isinstance(value, SecretStr) or (_is_secret(key) and value):
        return "********"
    return str(value)
