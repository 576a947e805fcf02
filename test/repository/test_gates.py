"""The static rules hold: layers point down, and the generated code is what the protocol files give."""

import subprocess
import sys
from pathlib import Path


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)


def test_imports_point_down_only(root: Path) -> None:
    outcome = run(root, str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert outcome.returncode == 0, outcome.stdout


def test_the_wire_code_is_what_the_proto_files_give(root: Path) -> None:
    outcome = run(root, sys.executable, "proto/generate.py", "--check")
    assert outcome.returncode == 0, outcome.stderr
