"""Finds or builds the real servers that the tests run on: ``python test/servers/build.py``.

Each is taken from PATH, else from ``.cache/servers/``, else built there from its Go module at a pinned version. A built
file's name holds a hash of what it was built from, so a new pin is a new build.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILT = HERE.parents[1] / ".cache" / "servers"

MODULES = {
    "minio": "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
    "versitygw": "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
}
NAMES = ("mongod", *MODULES)
BUILD_LIMIT_S = 1_800


class NotBuilt(Exception):
    """A server is not there and cannot be built; the message says why and what to do."""


def find(name: str) -> Path | None:
    """Return a server's executable if there is one, without building anything."""
    on_path = shutil.which(name)
    if on_path is not None:
        return Path(on_path)
    return _target(name) if _target(name).exists() else None


def build(name: str) -> Path:
    """Return a server's executable, building it if there is none, or raise NotBuilt."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once build it once
        found = find(name)
        if found is not None:
            return found
        if shutil.which("go") is None:
            raise NotBuilt(f"needs Go 1.24 or newer to build {name}, or {name} on PATH")
        print(f"building {name}: some minutes the first time", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=BUILT) as scratch:
            _run_go(name, Path(scratch))
            (Path(scratch) / name).replace(_target(name))
        print(f"built {name} in {time.monotonic() - began:.0f} s", flush=True)
    return _target(name)


def _run_go(name: str, folder: Path) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(folder)}
    if name in MODULES:
        command, run_in = ["go", "install", MODULES[name]], folder  # outside of any module, so that only the pin counts
    else:
        command, run_in = ["go", "build", "-o", str(folder / name), "."], HERE / name
    try:
        subprocess.run(command, cwd=run_in, env=environment, check=True, timeout=BUILD_LIMIT_S)
    except (subprocess.SubprocessError, OSError) as error:
        raise NotBuilt(f"needs {name} on PATH: building it by Go failed ({error})") from error


def _target(name: str) -> Path:
    if name in MODULES:
        source = MODULES[name].encode()
    else:
        source = b"".join((HERE / name / file).read_bytes() for file in ("go.mod", "go.sum", "main.go"))
    return BUILT / f"{name}-{hashlib.sha256(source).hexdigest()[:12]}"


def main() -> int:
    """Build what is missing; return the exit status."""
    status = 0
    for name in NAMES:
        try:
            print(f"{name}: {build(name)}", flush=True)
        except NotBuilt as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
