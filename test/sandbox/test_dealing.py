"""The clients' data, as the project's own script deals it out."""

from pathlib import Path

from fedn_py.sandbox.dealing import deal
from fedn_py.sandbox.folder import SandboxFolder


def test_data_is_prepared_once_and_anew_where_it_was_cut_short(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    manifest = "name: project\nversion: 1.0.0\nentry_points:\n"
    manifest += "  train: {command: python prepare.py}\n  validate: {command: python prepare.py}\n"
    (project / "fedn.yaml").write_text(manifest)
    (project / "prepare.py").write_text(
        "import argparse, pathlib\n"
        "p = argparse.ArgumentParser()\n"
        "for name in ('--clients', '--out', '--split'): p.add_argument(name)\n"
        "a = p.parse_args()\n"
        "for n in range(1, int(a.clients) + 1):\n"
        "    f = pathlib.Path(a.out) / f'client-{n}'\n"
        "    f.mkdir(parents=True, exist_ok=True)\n"
        "    with (f / 'made').open('a') as file: file.write(a.split)\n"
    )
    folder = SandboxFolder(tmp_path / "state")
    parts = deal(folder, project, 2, "iid")
    assert [part.name for part in parts] == ["client-1", "client-2"]
    assert deal(folder, project, 2, "iid") == parts
    assert (parts[0] / "made").read_text() == "iid"
    (parts[0].parent / ".whole").unlink()
    (parts[1] / "made").write_text("cut sh")
    assert deal(folder, project, 2, "iid") == parts
    assert (parts[1] / "made").read_text() == "iid"
    with (project / "prepare.py").open("a") as script:
        script.write("# another way to split\n")
    anew = deal(folder, project, 2, "iid")
    assert anew != parts
    assert (anew[0] / "made").read_text() == "iid"
