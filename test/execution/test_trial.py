import asyncio
from pathlib import Path

from fedn_py.execution.packing import create_package
from fedn_py.execution.trial import Step, try_package


def trial_of(source: Path, scratch: Path, seed_model: Path | None = None) -> list[Step]:
    async def gather() -> list[Step]:
        return [step async for step in try_package(source, scratch, seed_model=seed_model)]

    scratch.mkdir()
    return asyncio.run(gather())


def test_every_step_of_a_sound_package_passes_from_folder_and_from_file(folder: Path, tmp_path: Path) -> None:
    create_package(folder, tmp_path / "package.tar.gz")
    for number, source in enumerate((folder, tmp_path / "package.tar.gz")):
        steps = trial_of(source, tmp_path / f"scratch{number}")
        assert [step.name for step in steps] == ["package", "startup", "train", "validate"]
        assert not any(step.fault for step in steps)
        assert steps[1].result == "a model of 2 tensors, 4 parameters"
        assert steps[2].result == "10 samples, loss 0.5"
        assert steps[2].log == "training in round 1\n"


def test_a_trial_ends_with_the_step_that_failed_and_its_log(folder: Path, tmp_path: Path) -> None:
    text = (folder / "model.py").read_text()
    (folder / "model.py").write_text(text.replace("accuracy=float(", "accuracy=float('nan'), x=float("))
    steps = trial_of(folder, tmp_path / "scratch")
    assert [step.name for step in steps if not step.fault] == ["package", "startup", "train"]
    assert steps[-1].name == "validate"
    assert "InvalidMetrics" in steps[-1].log


def test_without_a_startup_a_seed_model_is_needed(folder: Path, tmp_path: Path) -> None:
    trial_of(folder, tmp_path / "first")
    manifest = (folder / "fedn.yaml").read_text()
    (folder / "fedn.yaml").write_text(manifest.replace("  startup: {command: python model.py startup}\n", ""))
    steps = trial_of(folder, tmp_path / "second")
    assert steps[-1].name == "startup"
    assert steps[-1].fault is not None
    steps = trial_of(folder, tmp_path / "third", seed_model=tmp_path / "first" / "seed.safetensors")
    assert steps[-1].name == "validate"
    assert steps[-1].fault is None


def test_a_project_with_prepare_is_tried_on_data_that_it_makes(folder: Path, tmp_path: Path) -> None:
    (folder / "prepare.py").write_text(
        "import pathlib, sys\n"
        "for number in range(int(sys.argv[2])): pathlib.Path(sys.argv[4], f'client-{number + 1}').mkdir(parents=True)\n"
    )
    steps = trial_of(folder, tmp_path / "scratch")
    assert [step.name for step in steps] == ["package", "data", "startup", "train", "validate"]


def test_a_broken_manifest_is_the_first_step(folder: Path, tmp_path: Path) -> None:
    (folder / "fedn.yaml").write_text("nonsense: 1")
    steps = trial_of(folder, tmp_path / "scratch")
    assert [step.name for step in steps] == ["package"]
    assert "nonsense" in str(steps[0].fault)
