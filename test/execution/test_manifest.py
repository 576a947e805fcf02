import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.execution.manifest import Command, InvalidManifest, Manifest, parse_manifest

WHOLE = b"""
name: digits
version: 1.0
entry_points:
  startup: {command: python model.py startup}
  train:
    command: [python, my model.py, train]
    timeout_s: 60
  validate: {command: "python 'my model.py' validate"}
  predict: {command: ./predict.sh}
worker: {command: python model.py serve}
python_env: python_env.yaml
"""


def test_a_whole_manifest_is_read() -> None:
    assert parse_manifest(WHOLE) == Manifest(
        name="digits",
        version="1.0",
        startup=Command(("python", "model.py", "startup")),
        train=Command(("python", "my model.py", "train"), 60.0),
        validate=Command(("python", "my model.py", "validate")),
        predict=Command(("./predict.sh",)),
        worker=Command(("python", "model.py", "serve")),
        python_env="python_env.yaml",
    )


def test_startup_predict_worker_and_python_env_may_be_missing() -> None:
    manifest = parse_manifest(b"name: a\nversion: '1'\nentry_points: {train: {command: t}, validate: {command: v}}")
    assert set(manifest.commands()) == {"train", "validate"}


def test_all_faults_are_told_at_once_with_line_and_nearest_name() -> None:
    with pytest.raises(InvalidManifest) as fault:
        parse_manifest(
            b"name: Bad Name\nentry_point: {}\nentry_points:\n  train: {comand: x}\n  valdate: {command: y}\n"
            b"worker: {command: w, timeout_s: -1}\npython_env: ../env.yaml\n"
        )
    message = "\n".join(fault.value.faults)
    for expected in (
        "line 1: name must have",
        "line 2: unknown key 'entry_point' in the file (did you mean 'entry_points'?)",
        "line 4: unknown key 'comand' in entry_points.train (did you mean 'command'?)",
        "line 4: entry_points.train has no 'command'",
        "line 5: unknown key 'valdate' in entry_points (did you mean 'validate'?)",
        "the file has no 'version'",
        "entry_points has no 'validate'",
        "line 6: worker.timeout_s must be",
        "line 7: python_env must have",
    ):
        assert expected in message


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"- a list",
        b"name: [",
        b"\xff\xfe\x00",
        b"[" * 30_000,
        b"x" * 70_000,
        b"a: &a [*a]",
        b"name: !!python/object/apply:os.system [id]\nversion: 1\nentry_points: 3",
        b"name: a\nname: b\nversion: 1\nentry_points: {train: {command: 't'}, validate: {command: 'v'}}",
        b"name: a\nversion: 1\nentry_points: {train: {command: ''}, validate: {command: 'un\"closed'}}",
        b"name: a\nversion: 1\nentry_points: {train: {command: []}, validate: {command: {a: b}}}",
        b"? [a, b]\n: c",
    ],
)
def test_what_is_no_manifest_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(InvalidManifest):
        parse_manifest(text)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_any_bytes_are_a_manifest_or_refused_by_name(text: bytes) -> None:
    with contextlib.suppress(InvalidManifest):
        parse_manifest(text)
