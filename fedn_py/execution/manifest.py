"""``fedn.yaml``: what a compute package is called and what to run for each of its entry points.

It is read with suspicion, since packages come from strangers: a bounded size, no YAML tags, unknown keys refused, and
all faults told at once with their lines. Described in docs/reference/compute-package.md.
"""

import difflib
import math
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

import yaml

from fedn_py.errors import PeerFault

MANIFEST_NAME = "fedn.yaml"
MAX_MANIFEST_BYTES = 65_536

_TOP_KEYS = ("name", "version", "entry_points", "worker", "python_env")
_ENTRY_POINTS = ("startup", "train", "validate", "predict")
_COMMAND_KEYS = ("command", "timeout_s")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_RELATIVE_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class InvalidManifest(PeerFault):
    """A ``fedn.yaml`` that says something unknown, wrong or too little.

    Attributes:
        faults: one sentence each, with the line where there is one.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(
            f"{MANIFEST_NAME}: " + "; ".join(self.faults),
            remedy=f"Correct {MANIFEST_NAME}; docs/reference/compute-package.md describes every key.",
        )


@dataclass(frozen=True, slots=True)
class Command:
    """What to run.

    Attributes:
        words: the program and its first arguments; the paths of a task follow them.
        timeout_s: the author's own time limit; None leaves it to the round and the site.
    """

    words: tuple[str, ...]
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A compute package's description of itself.

    Attributes:
        startup: makes the seed model, ``OUT_MODEL``; None where seed models come from elsewhere.
        train: ``IN_MODEL OUT_MODEL``; also writes ``OUT_MODEL.json``.
        validate: ``MODEL OUT_JSON``.
        predict: ``MODEL IN OUT``; None where the package does not offer it.
        worker: the resident worker that serves train and validate in one process; None without.
        python_env: the file in the package that lists the Python libraries it needs; None without.
    """

    name: str
    version: str
    train: Command
    validate: Command
    startup: Command | None = None
    predict: Command | None = None
    worker: Command | None = None
    python_env: str | None = None

    def commands(self) -> dict[str, Command]:
        """Return every command that is there, by the name of its key."""
        found = {
            "startup": self.startup,
            "train": self.train,
            "validate": self.validate,
            "predict": self.predict,
            "worker": self.worker,
        }
        return {name: command for name, command in found.items() if command}


def parse_manifest(text: bytes) -> Manifest:
    """Read the content of ``fedn.yaml``.

    Raises:
        InvalidManifest: with every fault that was found.
    """
    if len(text) > MAX_MANIFEST_BYTES:
        raise InvalidManifest([f"it has {len(text):,} bytes, more than {MAX_MANIFEST_BYTES:,}"])
    try:
        root = yaml.compose(text.decode("utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as fault:
        line = f"line {fault.problem_mark.line + 1}: " if fault.problem_mark else ""
        raise InvalidManifest([f"{line}{fault.problem}"]) from fault
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as fault:
        raise InvalidManifest([f"it is no YAML text ({type(fault).__name__})"]) from fault
    return _Reading().manifest(root)


class _Reading:
    """One pass over a manifest's nodes that gathers faults instead of stopping at the first."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def manifest(self, root: yaml.Node | None) -> Manifest:
        top = self.mapping(root, "the file", _TOP_KEYS)
        self.require(top, ("name", "version", "entry_points"), "the file")
        points = self.mapping(top.get("entry_points"), "entry_points", _ENTRY_POINTS)
        if "entry_points" in top:
            self.require(points, ("train", "validate"), "entry_points")
        commands = {name: self.command(node, f"entry_points.{name}") for name, node in points.items()}
        name = self.text(
            top.get("name"), "name", _NAME, "1 to 63 lower-case letters, digits, dots, dashes, underscores"
        )
        version = self.text(top.get("version"), "version", re.compile(r"[^\x00-\x1f]{1,64}"), "1 to 64 characters")
        worker = self.command(top["worker"], "worker") if "worker" in top else None
        python_env = self.python_env(top.get("python_env"))
        train, validate = commands.get("train"), commands.get("validate")
        if self.faults or train is None or validate is None:
            raise InvalidManifest(self.faults)
        return Manifest(
            name, version, train, validate, commands.get("startup"), commands.get("predict"), worker, python_env
        )

    def mapping(self, node: yaml.Node | None, where: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, f"{where} must hold keys and values")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name not in known:
                self.fault(key, f"unknown key {name[:80]!r} in {where}{_near(name, known)}")
            elif name in found:
                self.fault(key, f"{name!r} stands twice in {where}")
            else:
                found[name] = value
        return found

    def require(self, found: dict[str, yaml.Node], names: tuple[str, ...], where: str) -> None:
        self.faults += [f"{where} has no {name!r}" for name in names if name not in found]

    def text(self, node: yaml.Node | None, where: str, form: re.Pattern[str], rule: str) -> str:
        if node is None:
            return ""
        if not isinstance(node, yaml.ScalarNode) or not form.fullmatch(node.value):
            self.fault(node, f"{where} must have {rule}")
            return ""
        return str(node.value)

    def command(self, node: yaml.Node, where: str) -> Command | None:
        parts = self.mapping(node, where, _COMMAND_KEYS)
        if "command" not in parts:
            self.fault(node, f"{where} has no 'command'")
            return None
        words = self.words(parts["command"], where)
        timeout_s = self.seconds(parts["timeout_s"], where) if "timeout_s" in parts else None
        return Command(words, timeout_s) if words else None

    def words(self, node: yaml.Node, where: str) -> tuple[str, ...]:
        words: list[str] = []
        try:
            if isinstance(node, yaml.ScalarNode):
                words = shlex.split(node.value)
            elif isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
                words = [item.value for item in node.value]
        except ValueError as fault:
            self.fault(node, f"{where}.command cannot be split into words: {fault}")
            return ()
        if not words or not words[0] or any("\x00" in word for word in words):
            self.fault(node, f"{where}.command must be a command line, or a list of its words")
            return ()
        return tuple(words)

    def seconds(self, node: yaml.Node, where: str) -> float | None:
        try:
            value = float(node.value) if isinstance(node, yaml.ScalarNode) else math.nan
        except ValueError:
            value = math.nan
        if not (value > 0 and math.isfinite(value)):
            self.fault(node, f"{where}.timeout_s must be a number of seconds above 0")
            return None
        return value

    def python_env(self, node: yaml.Node | None) -> str | None:
        if node is None:
            return None
        return self.text(node, "python_env", _RELATIVE_FILE, "the name of a file beside fedn.yaml") or None

    def fault(self, node: yaml.Node, sentence: str) -> None:
        self.faults.append(f"line {node.start_mark.line + 1}: {sentence}")


def _near(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"
