import os
from pathlib import Path

import pytest

from fedn_py.execution.archive import PackageWithoutManifest, inspect_archive, unpack
from fedn_py.execution.manifest import InvalidManifest
from fedn_py.execution.packing import UnpackableFolder, create_package, package_files


def test_equal_files_give_equal_bytes_whenever_they_were_written(folder: Path, tmp_path: Path) -> None:
    first = create_package(folder, tmp_path / "first.tar.gz")
    os.utime(folder / "model.py", (1, 1))
    second = create_package(folder, tmp_path / "other-name.tar.gz")
    assert first == second == inspect_archive(tmp_path / "first.tar.gz").digest


def test_a_packed_folder_passes_the_check_and_comes_back(folder: Path, tmp_path: Path) -> None:
    (folder / "long").mkdir()
    (folder / "long" / ("x" * 200)).write_text("long names too")
    (folder / "run.sh").write_text("#!/bin/sh")
    (folder / "run.sh").chmod(0o755)
    create_package(folder, tmp_path / "p.tar.gz")
    unpacked = unpack(tmp_path / "p.tar.gz", tmp_path / "cache").folder
    assert package_files(unpacked) == package_files(folder)
    assert os.access(unpacked / "run.sh", os.X_OK)
    assert not os.access(unpacked / "model.py", os.X_OK)


def test_caches_environments_hidden_and_ignored_files_stay_out(folder: Path) -> None:
    for name in (
        "__pycache__/x.pyc",
        ".venv/pyvenv.cfg",
        "env/pyvenv.cfg",
        "env/lib.py",
        ".git/config",
        "data/big.npz",
        "sub/data/other",
        "notes.txt",
        "data.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / ".fednignore").write_text("# what stays here\ndata/\n*.txt\n\n")
    assert package_files(folder) == ["data.py", "fedn.yaml", "model.py"]


def test_the_package_itself_is_not_packed_into_itself(folder: Path) -> None:
    first = create_package(folder, folder / "package.tar.gz")
    assert create_package(folder, folder / "package.tar.gz") == first


def test_a_link_a_missing_folder_and_a_missing_manifest_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(UnpackableFolder, match="link"):
        create_package(folder, tmp_path / "p.tar.gz")
    with pytest.raises(UnpackableFolder, match="no folder"):
        create_package(folder / "missing", tmp_path / "p.tar.gz")
    (folder / "fedn.yaml").unlink()
    with pytest.raises(PackageWithoutManifest):
        create_package(folder, tmp_path / "p.tar.gz")
    assert not (tmp_path / "p.tar.gz").exists()


def test_a_manifest_that_names_an_ignored_file_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / ".fednignore").write_text("model.py")
    with pytest.raises(InvalidManifest, match=r"train runs 'model\.py'"):
        create_package(folder, tmp_path / "p.tar.gz")
