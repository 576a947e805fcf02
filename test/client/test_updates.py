"""The client's update and the owner's copies: whole or not there."""

import asyncio
import errno
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_plan
from safetensors.numpy import load_file, save_file

from fedn_py.client import updates
from fedn_py.client.ports import Learned
from fedn_py.client.updates import KeptUpdate, UpdateFolder
from fedn_py.identity import ClientName, Generation
from fedn_py.masking.fixed_point import Encoding
from fedn_py.model.vector import NotFinite


def models(folder: Path, trained: Any = 1.5) -> tuple[Path, Path]:
    base, new = folder / "base.safetensors", folder / "new.safetensors"
    save_file({"w": np.full(5, 0.5, np.float32), "steps": np.array([1], np.int64)}, base)
    save_file({"w": np.full(5, trained, np.float32), "steps": np.array([2], np.int64)}, new)
    return base, new


def an_update_folder(folder: Path, copies: Path | None = None) -> UpdateFolder:
    (folder / "updates").mkdir(exist_ok=True)
    return UpdateFolder(folder / "updates", ClientName("anna"), copies)


def made(folder: UpdateFolder, base: Path, new: Path, **plan: Any) -> KeptUpdate:
    return asyncio.run(folder.make(a_plan(**plan), base, new, Learned(7, {"loss": 0.5})))


def content_of(kept: KeptUpdate) -> bytes:
    """What is sent of it."""
    return b"".join(part for chunk in kept.values.chunks(0) for part in chunk)


def test_an_update_is_the_difference_with_its_size_and_hash(tmp_path: Path) -> None:
    kept = made(an_update_folder(tmp_path), *models(tmp_path))
    content = content_of(kept)
    assert list(np.frombuffer(content, "<f4")) == [1.0] * 5
    header = kept.header(Generation(3), "mean")
    assert (header.size, header.sha256) == (20, hashlib.sha256(content).hexdigest())
    assert (header.generation, header.samples, header.metrics, header.release) == (3, 7, {"loss": 0.5}, "mean")
    assert kept.header(Generation(3), "none").metrics == {}
    assert kept.header(Generation(4), "mean").upload_id == header.upload_id


def test_a_model_in_memory_makes_the_update_and_the_copy_that_its_file_would(tmp_path: Path) -> None:
    base, new = models(tmp_path)
    in_memory = Learned(7, {"loss": 0.5}, tensors=load_file(new))
    new.unlink()

    folder = an_update_folder(tmp_path, tmp_path / "copies")
    encoding = Encoding(5, clip=2.0, n_max=8, weight_cap=10)
    kept = asyncio.run(folder.make(a_plan(), base, folder.new_model_path(), in_memory, encoding=encoding))

    assert list(np.frombuffer(content_of(kept), "<f4")) == [1.0] * 5
    assert kept.largest == 1.0
    assert list((tmp_path / "updates").iterdir()) == []  # it takes no room on disk
    (copy,) = (tmp_path / "copies" / "anna").glob("*.safetensors")
    assert {name: values.tolist() for name, values in load_file(copy).items()} == {"w": [1.5] * 5, "steps": [2]}


def test_an_update_that_is_to_be_masked_is_hashed_only_for_a_copy_of_it(tmp_path: Path) -> None:
    encoding = Encoding(5, clip=2.0, n_max=8, weight_cap=10)

    def sha256(copies: Path | None) -> str | None:
        folder = an_update_folder(tmp_path, copies)
        base, new = models(tmp_path)
        return asyncio.run(folder.make(a_plan(), base, new, Learned(7, {}), encoding=encoding)).sha256

    assert sha256(None) is None
    assert sha256(tmp_path / "copies") == hashlib.sha256(np.ones(5, "<f4").tobytes()).hexdigest()


def test_one_update_is_kept_and_an_unfit_model_makes_none(tmp_path: Path) -> None:
    folder = an_update_folder(tmp_path)
    first = made(folder, *models(tmp_path))
    asyncio.run(folder.drop(first))
    second = made(folder, *models(tmp_path, trained=2.5))
    assert [load_file(kept)["w"][0] for kept in (tmp_path / "updates").iterdir()] == [2.5]
    asyncio.run(folder.drop(second))
    with pytest.raises(NotFinite, match="'w'"):
        made(folder, *models(tmp_path, trained=np.nan))
    assert list((tmp_path / "updates").iterdir()) == []


def test_an_update_is_the_same_bytes_however_often_and_whatever_became_of_its_models_names(tmp_path: Path) -> None:
    folder = an_update_folder(tmp_path)
    base, new = models(tmp_path)
    kept = made(folder, base, new.rename(folder.new_model_path()))
    base.unlink()
    models(tmp_path, trained=9.0)[1].rename(folder.new_model_path())  # another one is trained meanwhile
    assert content_of(kept) == content_of(kept) == np.ones(5, "<f4").tobytes()


def test_the_owner_s_copies_are_whole_and_named_after_their_round(tmp_path: Path) -> None:
    folder = an_update_folder(tmp_path, tmp_path / "copies")
    kept = made(folder, *models(tmp_path), round_number=3, attempt=2)
    made(folder, *models(tmp_path), round_number=4)
    stem = tmp_path / "copies" / "anna" / "session-1-round-3-attempt-2"
    assert (load_file(f"{stem}.safetensors")["w"] == 1.5).all()
    assert json.loads(Path(f"{stem}.json").read_text()) == {
        "client": "anna",
        "session": a_plan().session,
        "round": 3,
        "attempt": 2,
        "base_model": a_plan().base_model,
        "num_samples": 7,
        "update_sha256": kept.sha256,
    }
    assert len(list((tmp_path / "copies" / "anna").iterdir())) == 4


def test_a_copy_that_a_full_disk_cuts_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = tmp_path / "copies" / "anna"
    copies.mkdir(parents=True)
    (copies / ".session-1-round-1-attempt-1.safetensors.partial").write_bytes(b"left by a life that was killed")

    def cut(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(updates.shutil, "copyfile", cut)  # the disk, which cannot be filled here
    with pytest.raises(OSError, match="No space left"):
        made(an_update_folder(tmp_path, tmp_path / "copies"), *models(tmp_path))
    assert list(copies.iterdir()) == []
