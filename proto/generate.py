"""Turn proto/ into fedn_py/wire: run after every change of a .proto file, and commit what it writes.

``python proto/generate.py`` writes; ``python proto/generate.py --check`` writes nothing and exits 1 when the
committed files differ from what the .proto files give (other versions of the generator excepted).
"""

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("fedn_py/wire/v1")
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")

# The generator writes its own version into what it makes; only that may differ between two installations.
VERSION_LINES = re.compile(
    r"^(# Protobuf Python Version: .*|GRPC_GENERATED_VERSION = .*|    (?:[0-9]+|''),)$",
    re.MULTILINE,
)


def generate(into: Path) -> list[Path]:
    """Write the Python modules of every .proto file below ``into`` and return their paths, relative to it."""
    sources = sorted((ROOT / "proto" / PACKAGE).glob("*.proto"))
    builtin = str(files("grpc_tools").joinpath("_proto"))
    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{builtin}", *outputs, *map(str, sources)]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc refused the .proto files; its reason stands above.")
    # A file without a service gives an empty grpc module; they are all kept, so that the list is a rule.
    return [PACKAGE / f"{source.stem}{suffix}" for source in sources for suffix in SUFFIXES]


def differing(fresh: Path, written: list[Path]) -> list[Path]:
    """Return which of the generated files are missing, stale or left over in the repository."""
    committed = {path.relative_to(ROOT) for suffix in SUFFIXES for path in (ROOT / PACKAGE).glob(f"*{suffix}")}
    stale = [path for path in written if path not in committed or _text(fresh / path) != _text(ROOT / path)]
    return stale + sorted(committed - set(written))


def _text(path: Path) -> str:
    return VERSION_LINES.sub("", path.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    """Generate, or with ``--check`` compare; the exit status is what make wants."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: generate.py [--check]\n")
        return 2
    if not arguments:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        wrong = differing(Path(folder), generate(Path(folder)))
    for path in wrong:
        sys.stderr.write(f"{path} is not what proto/ gives: run 'make proto' and commit it.\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
