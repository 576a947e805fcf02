import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedn_py.execution.outcome import (
    EmptyOutput,
    MalformedOutput,
    Results,
    check_seed_model,
    check_trained_model,
    read_results,
)
from fedn_py.package import save_model

TENSORS = {"w": np.ones((2, 3), "f4"), "b": np.zeros(3, "f2"), "steps": np.array([3], "i8")}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The model that a training began with."""
    save_model(tmp_path / "base", TENSORS)
    return tmp_path / "base"


def test_a_sound_model_passes(base: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "out", {**TENSORS, "w": TENSORS["w"] + 1, "steps": np.array([9], "i8")})
    assert check_trained_model(tmp_path / "out", base).n_parameters == 9
    assert check_seed_model(tmp_path / "out").n_parameters == 9


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"w": np.full((2, 3), np.nan, "f4")}, "'w' holds a value"),
        ({"b": np.array([1, np.inf, 1], "f2")}, "'b' holds a value"),
        ({"w": np.ones((3, 2), "f4")}, "'w' is of shape"),
        ({"w": np.ones((2, 3), "f8")}, "'w' is of type F64"),
        ({"more": np.ones(1, "f4")}, "'more'"),
    ],
)
def test_a_model_that_does_not_fit_its_base_is_refused_with_the_log(
    base: Path, tmp_path: Path, change: dict[str, np.ndarray], why: str
) -> None:
    save_model(tmp_path / "out", {**TENSORS, **change})
    with pytest.raises(MalformedOutput, match=why) as fault:
        check_trained_model(tmp_path / "out", base, log="epoch 1")
    assert fault.value.log == "epoch 1"
    assert fault.value.remedy


def test_a_missing_tensor_is_refused(base: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "out", {"w": TENSORS["w"]})
    with pytest.raises(MalformedOutput, match="has no tensor"):
        check_trained_model(tmp_path / "out", base)


def test_a_bfloat16_model_with_a_nan_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    for name, values in (("base", b"\x80\x3f\x80\x3f"), ("out", b"\x80\x3f\xc0\x7f")):
        (tmp_path / name).write_bytes(struct.pack("<Q", len(header)) + header + values)
    check_trained_model(tmp_path / "base", tmp_path / "base")
    with pytest.raises(MalformedOutput, match="'a' holds a value"):
        check_trained_model(tmp_path / "out", tmp_path / "base")
    with pytest.raises(MalformedOutput, match="'a' holds a value"):
        check_seed_model(tmp_path / "out")


def test_a_seed_model_with_nothing_to_train_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "out", {"steps": np.array([1], "i8")})
    with pytest.raises(MalformedOutput, match="no float parameters"):
        check_seed_model(tmp_path / "out")


def hide_behind_a_link(path: Path) -> None:
    path.with_name("target").write_bytes(path.with_name("base").read_bytes())
    path.symlink_to(path.with_name("target"))


WRITERS: list[tuple[Callable[[Path], object], type[Exception]]] = [
    (lambda path: None, EmptyOutput),
    (lambda path: path.touch(), EmptyOutput),
    (lambda path: path.write_text("PK\x03\x04 what pickle and zip begin with"), MalformedOutput),
    (lambda path: path.write_bytes(b"\xff" * 100), MalformedOutput),
    (lambda path: path.mkdir(), MalformedOutput),
    (hide_behind_a_link, MalformedOutput),
    (os.mkfifo, MalformedOutput),
]


@pytest.mark.parametrize(("write", "fault"), WRITERS)
def test_what_is_no_model_file_is_refused(
    base: Path, tmp_path: Path, write: Callable[[Path], object], fault: type[Exception]
) -> None:
    write(tmp_path / "out")
    with pytest.raises(fault):
        check_trained_model(tmp_path / "out", base)
    with pytest.raises(fault):
        read_results("train", tmp_path / "out")


def test_samples_and_metrics_are_read(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"num_samples": 7, "accuracy": 0.5, "epochs": 2}')
    assert read_results("train", tmp_path / "m.json") == Results(7, {"accuracy": 0.5, "epochs": 2.0})


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "[1]",
        "{}",
        '{"accuracy": 1}',
        '{"num_samples": 0}',
        '{"num_samples": -5}',
        '{"num_samples": 1.5}',
        '{"num_samples": true}',
        '{"num_samples": "7"}',
        '{"num_samples": 999999999999999999999}',
        '{"num_samples": 7, "loss": NaN}',
        '{"num_samples": 7, "loss": -Infinity}',
        '{"num_samples": 7, "loss": 1e999}',
        '{"num_samples": 7, "loss": "low"}',
        '{"num_samples": 7, "loss": null}',
        '{"num_samples": 7, "loss": true}',
        '{"num_samples": 7, "loss": {"a": 1}}',
        '{"num_samples": 7, "": 1}',
        '{"num_samples": 7, "a\\nb": 1}',
        '{"num_samples": 7, "loss": %s}' % ("9" * 4_000),
        '{"num_samples": 7, "loss": 1%s}' % ("0" * 400),
        "[" * 100_000,
        '{"num_samples": 7, "%s": 1}' % ("x" * 2_000_000),
        json.dumps({"num_samples": 7, **{f"m{number}": 1 for number in range(2_000)}}),
        "\udcff",
    ],
)
def test_what_are_no_metrics_is_refused_with_the_log(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text, errors="surrogateescape")
    with pytest.raises(MalformedOutput) as fault:
        read_results("validate", tmp_path / "m.json", log="the log")
    assert fault.value.log == "the log"
