import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from fedn_py.execution.python_env import (
    EnvironmentNotBuilt,
    InvalidPythonEnv,
    PythonRequirements,
    build_environment,
    parse_python_env,
)

WANTED = PythonRequirements("", ("scikit-learn>=1.6",))


def an_installer(folder: Path, script: str) -> list[str]:
    """Stands for pip: notes what it was asked to install."""
    return [
        sys.executable,
        "-c",
        f"import sys; open({str(folder / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10)); {script}",
    ]


def test_requirements_are_read() -> None:
    text = b"name: a\npython: '3.11'\nbuild_dependencies: [pip]\ndependencies:\n  - numpy\n  - jax[cpu] >=0.5,<1\n"
    assert parse_python_env(text) == PythonRequirements("3.11", ("numpy", "jax[cpu] >=0.5,<1"))
    assert parse_python_env(b"name: a") == PythonRequirements("", ())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[",
        b"- numpy",
        b"depends: [numpy]",
        b"dependencies: numpy",
        b"dependencies: [--index-url=https://elsewhere]",
        b"dependencies: ['numpy --pre']",
        b"dependencies: ['x @ https://elsewhere/x.whl']",
        b"dependencies: [./local]",
        b"dependencies: [{pip: [numpy]}]",
        b"python: 3.1x",
        b"dependencies: [" + b"a, " * 40_000 + b"]",
    ],
)
def test_what_cannot_be_followed_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidPythonEnv):
        parse_python_env(text)


def test_an_environment_is_built_once_and_has_the_authors_side(tmp_path: Path) -> None:
    async def both() -> None:
        first, second = await asyncio.gather(
            *(build_environment(WANTED, tmp_path / "envs", installer=an_installer(tmp_path, "pass")) for _ in range(2))
        )
        assert first == second

    asyncio.run(both())
    python = asyncio.run(build_environment(WANTED, tmp_path / "envs", installer=an_installer(tmp_path, "pass")))
    assert (tmp_path / "asked").read_text() == "numpy>=2.0 safetensors>=0.5 scikit-learn>=1.6\n"
    found = subprocess.run(
        [
            python.interpreter,
            "-c",
            "import fedn_py.errors, importlib.util; print(importlib.util.find_spec('fedn_py.package').origin)",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={},
    ).stdout
    assert found.startswith(str(tmp_path))


def test_another_list_is_another_environment_and_a_failed_one_does_not_count(tmp_path: Path) -> None:
    failing = an_installer(tmp_path, "sys.exit('no such release')")
    with pytest.raises(EnvironmentNotBuilt) as fault:
        asyncio.run(build_environment(WANTED, tmp_path / "envs", installer=failing))
    assert "no such release" in fault.value.log
    assert [path.suffix for path in (tmp_path / "envs").iterdir()] == [".lock"]
    first = asyncio.run(build_environment(WANTED, tmp_path / "envs", installer=an_installer(tmp_path, "pass")))
    other = asyncio.run(
        build_environment(PythonRequirements("", ()), tmp_path / "envs", installer=an_installer(tmp_path, "pass"))
    )
    assert first.interpreter != other.interpreter


def test_another_version_of_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentNotBuilt, match=r"Python 3\.2"):
        asyncio.run(build_environment(PythonRequirements("3.2", ()), tmp_path))
