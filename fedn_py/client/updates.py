"""The client's update: made from the new model, kept until its round is committed or given up."""

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedn_py.client.ports import Learned
from fedn_py.client.update_sealing import PlainUpdate, weight_facts
from fedn_py.identity import ClientName, Digest, Generation
from fedn_py.masking.fixed_point import Encoding
from fedn_py.model.vector import difference
from fedn_py.protocol.messages import Metrics, MetricsRelease, RoundPlan, UpdateHeader
from fedn_py.runtime.model_files import mapped_model
from fedn_py.transport.completion import in_thread


@dataclass(frozen=True, slots=True)
class KeptUpdate:
    """An update that is ready to be sent, as often as it is asked for.

    Attributes:
        upload_id: names these bytes; it stays the same over cuts and retries.
        before: metrics of the model that was trained from, where the plan asks for some.
    """

    path: Path
    upload_id: str
    size: int
    sha256: Digest
    learned: Learned
    before: Metrics = field(default_factory=dict)

    def to_mask(self, release: MetricsRelease) -> PlainUpdate:
        """Return what is masked of it; metrics only as far as the site releases them."""
        if release == "none":
            return PlainUpdate(self.path, self.learned.samples)
        return PlainUpdate(self.path, self.learned.samples, self.learned.metrics, self.before)

    def header(self, generation: Generation, release: MetricsRelease) -> UpdateHeader:
        """Return what is said of it under a generation; metrics only as far as the site releases them."""
        metrics = {} if release == "none" else self.learned.metrics
        return UpdateHeader(generation, self.upload_id, self.size, self.sha256, self.learned.samples, metrics, release)


class UpdateFolder:
    """Makes updates and keeps the one that counts.

    Args:
        folder: empty at the start.
        copies: where a copy of each trained model is kept for its owner, None for nowhere.
    """

    def __init__(self, folder: Path, name: ClientName, copies: Path | None) -> None:
        self._folder = folder
        self._name = name
        self._copies = copies

    def new_model_path(self) -> Path:
        """Return where the next trained model goes."""
        return self._folder / "model.safetensors"

    async def make(
        self,
        plan: RoundPlan,
        base: Path,
        model: Path,
        learned: Learned,
        *,
        before: Metrics | None = None,
        encoding: Encoding | None = None,
    ) -> KeptUpdate:
        """Make the update that leads from the base model to the new one, in the place of the one before.

        Args:
            before: metrics of the base model.
            encoding: how a masked plan will have it encoded.

        Raises:
            WrongShape, MissingTensor, NotFinite: the new model is not of the base's form.
        """
        kept = replace(await in_thread(self._make, base, model, learned), before=before or {})
        if self._copies is not None:
            await in_thread(self._copy, self._copies / self._name, plan, model, kept, encoding)
        return kept

    async def drop(self, kept: KeptUpdate) -> None:
        """Remove an update."""
        await in_thread(kept.path.unlink, missing_ok=True)

    def _make(self, base: Path, model: Path, learned: Learned) -> KeptUpdate:
        for older in self._folder.glob("update-*"):
            older.unlink(missing_ok=True)
        upload_id = secrets.token_hex(16)
        path = self._folder / f"update-{upload_id}"
        digest, size = hashlib.sha256(), 0
        with (
            _whole(path) as partial,
            mapped_model(base) as (old, old_layout),
            mapped_model(model) as (new, new_layout),
            partial.open("wb") as file,
        ):
            for piece in difference(new, old, new_layout, old_layout):
                content = piece.tobytes()
                digest.update(content)
                file.write(content)
                size += len(content)
        return KeptUpdate(path, upload_id, size, Digest(digest.hexdigest()), learned)

    def _copy(self, folder: Path, plan: RoundPlan, model: Path, kept: KeptUpdate, encoding: Encoding | None) -> None:
        """Keep the trained model and what was said of it, named so that any program can find its round."""
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.partial"):  # by a life that ended in the middle
            left.unlink(missing_ok=True)
        stem = f"session-{plan.session_number}-round-{plan.round_number}-attempt-{plan.attempt}"
        with _whole(folder / f"{stem}.safetensors") as file:
            shutil.copyfile(model, file)
        facts: dict[str, object] = {
            "client": self._name,
            "session": plan.session,
            "round": plan.round_number,
            "attempt": plan.attempt,
            "base_model": plan.base_model,
            "num_samples": kept.learned.samples,
            "update_sha256": kept.sha256,
        }
        if encoding is not None:
            # What leaves of it, under its mask, is clipped and weighted like this.
            facts["masked"] = weight_facts(encoding, kept.learned.samples)
        # Last: who finds it finds the model too.
        with _whole(folder / f"{stem}.json") as file:
            file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """Give a file to write to that gets its name when it is whole, and is gone where it does not get that far."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
