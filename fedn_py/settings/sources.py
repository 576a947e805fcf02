"""Where settings come from: a YAML file and the environment, each value with its origin.

The environment wins over the file. ``FEDN_<SECTION>__<KEY>`` sets a nested key, ``FEDN_<KEY>`` one at the top; an
empty variable counts as not set. A variable that is another role's setting is left alone, so that one environment
can serve several processes.
"""

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from fedn_py.settings.faults import SettingFault, nearest
from fedn_py.settings.fields import Section
from fedn_py.settings.roles import ROLES

Key = tuple[str, ...]

ALIASES: Mapping[str, Key] = {
    "FEDN_MINIO_ACCESS_KEY": ("minio", "access_key"),
    "FEDN_MINIO_SECRET_KEY": ("minio", "secret_key"),
}
"""Further variable names; each counts only where its section is there without it."""

_NOT_SETTINGS = {"FEDN_PROFILE", "FEDN_TASK", "FEDN_REQUIRE_SERVICES", "FEDN_URL", "FEDN_TOKEN"}
_NOT_SETTINGS_PREFIXES = ("FEDN_TEST_", "FEDN_PY_")


@dataclass(slots=True)
class Gathered:
    """What the sources say, before it is checked.

    Attributes:
        values: nested, as the sources wrote them.
        origins: key to ``file:line`` or ``variable NAME``.
        faults: what is wrong already.
    """

    values: dict[str, object] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    faults: list[SettingFault] = field(default_factory=list)

    def has(self, key: Key) -> bool:
        """Tell whether a source gave this key a value."""
        inner: object = self.values
        for part in key:
            if not isinstance(inner, dict) or inner.get(part) is None:
                return False
            inner = inner[part]
        return True

    def put(self, key: Key, value: object, origin: str) -> None:
        """Set a key, making its sections as needed."""
        inner = self.values
        for part in key[:-1]:
            section = inner.get(part)
            if not isinstance(section, dict):
                section = {}
                inner[part] = section
            inner = section
        inner[key[-1]] = value
        self.origins[key] = origin

    def origin(self, key: Key) -> str:
        """Return where a key, or the nearest section around it, was written; empty when nowhere."""
        while key and key not in self.origins:
            key = key[:-1]
        return self.origins.get(key, "")


def section_of(annotation: object) -> type[Section] | None:
    """Return the section inside a field's annotation (``S`` or ``S | None``), or None for a plain value."""
    members = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    for member in members:
        if isinstance(member, type) and issubclass(member, Section):
            return member
    return None


def leaf_keys(model: type[Section], prefix: Key = ()) -> Iterator[Key]:
    """Go over the keys of all plain values of a model, sections entered."""
    for name, described in model.model_fields.items():
        section = section_of(described.annotation)
        if section is None:
            yield (*prefix, name)
        else:
            yield from leaf_keys(section, (*prefix, name))


def variable(key: Key) -> str:
    """Return the name of the environment variable that sets a key."""
    return "FEDN_" + "__".join(key).upper()


def read_file(file: Path, gathered: Gathered) -> None:
    """Add what a YAML file says."""
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as fault:
        gathered.faults.append(SettingFault("", str(file), f"cannot be read: {fault.strerror}"))
        return
    except UnicodeDecodeError:
        gathered.faults.append(SettingFault("", str(file), "is not UTF-8 text"))
        return
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark else 1
        gathered.faults.append(SettingFault("", f"{file}:{line}", f"is not YAML: {fault.problem}"))
        return
    except yaml.YAMLError as fault:
        gathered.faults.append(SettingFault("", str(file), f"is not YAML: {fault}"))
        return
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        gathered.faults.append(SettingFault("", f"{file}:1", "must hold keys and values (key: value)"))
        return
    gathered.values.update(_mapping(root, (), file, gathered))


def _mapping(node: yaml.MappingNode, prefix: Key, file: Path, gathered: Gathered) -> dict[str, object]:
    values: dict[str, object] = {}
    for key_node, value_node in node.value:
        name = str(key_node.value)
        key = (*prefix, name)
        where = f"{file}:{key_node.start_mark.line + 1}"
        if name in values:
            gathered.faults.append(SettingFault(".".join(key), where, "is there twice"))
        gathered.origins[key] = where
        if isinstance(value_node, yaml.MappingNode):
            values[name] = _mapping(value_node, key, file, gathered)
        else:
            values[name] = _plain(value_node)
    return values


def _plain(node: yaml.Node) -> object:
    # A loader of its own per value: the tree was composed already, only this node's tag is resolved here.
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except yaml.YAMLError:
        return str(getattr(node, "value", ""))
    finally:
        loader.dispose()


def read_environment(model: type[Section], environ: Mapping[str, str], gathered: Gathered) -> None:
    """Add what the environment says."""
    own = {variable(key): key for key in leaf_keys(model)}
    elsewhere = {variable(key) for role in ROLES.values() for key in leaf_keys(role)} | set(ALIASES)
    for name, text in sorted(environ.items()):
        if not text or not name.startswith("FEDN_"):
            continue
        if name in own:
            gathered.put(own[name], text, f"variable {name}")
        elif name not in elsewhere and not _belongs_elsewhere(name):
            hint = nearest(name, own)
            gathered.faults.append(SettingFault("", f"variable {name}", f"is no setting of this role{hint}"))
    for name, key in ALIASES.items():
        if environ.get(name) and key[0] in model.model_fields and gathered.has(key[:-1]) and not gathered.has(key):
            gathered.put(key, environ[name], f"variable {name}")


def _belongs_elsewhere(name: str) -> bool:
    return name in _NOT_SETTINGS or name.startswith(_NOT_SETTINGS_PREFIXES)


def read_secret_files(model: type[Section], folder: Path, gathered: Gathered) -> None:
    """Fill each secret ``x`` from the file that ``x_file`` names."""
    keys = set(leaf_keys(model))
    for key in sorted(keys):
        secret = (*key[:-1], key[-1].removesuffix("_file"))
        if not key[-1].endswith("_file") or secret not in keys or not gathered.has(key):
            continue
        if gathered.has(secret):
            text = f"is given together with {'.'.join(secret)}; give one of the two"
            gathered.faults.append(SettingFault(".".join(key), gathered.origin(key), text))
            continue
        origin = gathered.origin(key)
        path = folder / Path(str(_value_at(gathered, key))).expanduser()
        try:
            gathered.put(secret, path.read_text(encoding="utf-8").strip(), origin)
        except (OSError, UnicodeDecodeError):
            # The check of x_file itself says what is wrong; the secret is only kept from being called missing.
            gathered.put(secret, "unread", origin)


def _value_at(gathered: Gathered, key: Key) -> object:
    inner: object = gathered.values
    for part in key:
        inner = inner[part] if isinstance(inner, dict) else None
    return inner
