import asyncio
from pathlib import Path

import pytest

from fedn_py.execution.environment import own_environment
from fedn_py.execution.packing import package_files
from fedn_py.execution.projects import (
    FRAMEWORKS,
    DataNotPrepared,
    TargetExists,
    UnknownFramework,
    copy_project,
    prepare_data,
    project_folder,
)
from fedn_py.execution.trial import Step, try_package

EXAMPLES = Path(__file__).resolve().parent.parent


def first_step_of_a_trial(project: Path, scratch: Path) -> Step:
    async def only_the_first() -> Step:
        return await anext(try_package(project, scratch))

    scratch.mkdir()
    return asyncio.run(only_the_first())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_new_project_bears_its_own_name(framework: str, tmp_path: Path) -> None:
    project = copy_project(framework, tmp_path / "My Project")
    packed = first_step_of_a_trial(project, tmp_path / "scratch")  # of all of its steps: system/test_examples.py
    assert (packed.name, packed.fault) == ("package", None)
    assert packed.result.startswith("my-project 1.0.0")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_package_holds_what_runs_and_not_what_explains_it(framework: str) -> None:
    files = package_files(project_folder(framework))
    assert {"fedn.yaml", "model.py", "prepare.py", "python_env.yaml"} <= set(files)
    assert not {"README.md", "test_project.py", "participant.py"} & set(files)


@pytest.mark.parametrize("name", ["digits-sklearn", "mnist-keras", "mnist-pytorch"])
def test_every_example_is_complete(name: str) -> None:
    for file in ("README.md", "fedn.yaml", "python_env.yaml", "prepare.py", "central.py", "test_project.py"):
        assert (EXAMPLES / name / file).is_file()


def test_an_existing_folder_is_not_overwritten_and_an_unknown_framework_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    copy_project("sklearn", tmp_path / "mine")
    with pytest.raises(TargetExists):
        copy_project("sklearn", tmp_path / "mine")
    with pytest.raises(UnknownFramework) as fault:
        copy_project("fortran", tmp_path / "other")
    assert "sklearn, keras" in fault.value.remedy


def test_data_is_prepared_for_each_client(tmp_path: Path) -> None:
    made = prepare_data(
        project_folder("sklearn"), 3, tmp_path / "data", python=own_environment(), options=["--split", "dirichlet"]
    )
    parts = asyncio.run(made)
    assert [part.name for part in parts] == ["client-1", "client-2", "client-3"]
    assert all((part / "train.npz").is_file() for part in parts)


@pytest.mark.parametrize(
    ("script", "why"),
    [("raise SystemExit('no such data')", "exit code"), ("pass", "made no client-1"), (None, "exit code")],
)
def test_data_that_cannot_be_prepared_is_named(tmp_path: Path, script: str | None, why: str) -> None:
    if script is not None:
        (tmp_path / "prepare.py").write_text(script)
    with pytest.raises(DataNotPrepared, match=why):
        asyncio.run(prepare_data(tmp_path, 2, tmp_path / "out", python=own_environment()))
