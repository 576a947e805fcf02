from pathlib import Path

from fedn_py.execution.environment import PythonEnvironment, entry_point_variables, find_program, own_environment


def test_only_listed_variables_are_passed_on() -> None:
    outside = {"HOME": "/home/anna", "PATH": "/usr/bin", "OMP_NUM_THREADS": "2", "FEDN_TOKEN": "x", "AWS_KEY": "y"}
    python = PythonEnvironment(Path("/env/bin/python"))
    variables = entry_point_variables(python, scratch=Path("/tmp/run"), data_path=Path("/data"), outside=outside)
    assert variables == {
        "HOME": "/home/anna",
        "OMP_NUM_THREADS": "2",
        "PATH": "/env/bin:/usr/bin",
        "TMPDIR": "/tmp/run",
        "FEDN_DATA_PATH": "/data",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }


def test_a_relative_data_path_is_made_absolute_as_the_package_runs_elsewhere() -> None:
    variables = entry_point_variables(own_environment(), scratch=Path("/tmp"), data_path=Path("data"))
    assert variables["FEDN_DATA_PATH"] == str(Path.cwd() / "data")


def test_python_is_the_environments_and_a_path_is_the_packages(tmp_path: Path) -> None:
    python = PythonEnvironment(Path("/env/bin/python"))
    (tmp_path / "run.sh").touch(mode=0o755)
    assert find_program(["python3", "x.py"], python, cwd=tmp_path, path="") == "/env/bin/python"
    assert find_program(["./run.sh"], python, cwd=tmp_path, path="") == str(tmp_path / "run.sh")
    assert find_program(["run.sh"], python, cwd=tmp_path, path=str(tmp_path)) == str(tmp_path / "run.sh")
    assert find_program(["run.sh"], python, cwd=tmp_path, path="/nowhere") is None
