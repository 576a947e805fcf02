"""The client's update: made from the new model, kept until its round is committed or given up."""

import hashlib
import json
import math
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedn_py.client.durable_files import in_the_making, whole
from fedn_py.client.ports import Learned
from fedn_py.client.update_sealing import PlainUpdate, weight_facts
from fedn_py.identity import ClientName, Digest, Generation
from fedn_py.masking.fixed_point import Encoding
from fedn_py.model.dtypes import largest_magnitude
from fedn_py.model.pieces import Elements
from fedn_py.model.vector import Tensor, difference, difference_in_memory
from fedn_py.package.models import save_model
from fedn_py.protocol.messages import Metrics, MetricsRelease, RoundPlan, UpdateHeader
from fedn_py.runtime.model_files import mapped_model
from fedn_py.transport.completion import in_thread


@dataclass(frozen=True, slots=True)
class KeptUpdate:
    """An update that is ready to be sent, as often as it is asked for.

    Attributes:
        upload_id: names these bytes; it stays the same over cuts and retries.
        sha256: of these bytes; None of one that is to be masked and of which no copy is kept: nobody is told of it.
        before: metrics of the model that was trained from, where the plan asks for some.
        largest: magnitude of any of its values, for who masks it; infinite for a plain one, where nobody has looked.
    """

    path: Path
    upload_id: str
    size: int
    sha256: Digest | None
    learned: Learned
    before: Metrics = field(default_factory=dict)
    largest: float = math.inf

    def to_mask(self, release: MetricsRelease) -> PlainUpdate:
        """Return what is masked of it; metrics only as far as the site releases them."""
        if release == "none":
            return PlainUpdate(self.path, self.learned.samples, largest=self.largest)
        return PlainUpdate(self.path, self.learned.samples, self.learned.metrics, self.before, self.largest)

    def header(self, generation: Generation, release: MetricsRelease) -> UpdateHeader:
        """Return what is said of a plain one under a generation; metrics only as far as the site releases them."""
        assert self.sha256 is not None
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
        made = await in_thread(self._make, base, model, learned, is_masked=encoding is not None)
        kept = replace(made, before=before or {})
        if self._copies is not None:
            copies = self._copies / self._name
            await in_thread(self._copy, copies, plan, model, kept, encoding=encoding, tensors=learned.tensors)
        # What is sent is the update: the model that it was made from would only take as much room again.
        await in_thread(self.new_model_path().unlink, missing_ok=True)
        return kept

    async def drop(self, kept: KeptUpdate) -> None:
        """Remove an update."""
        await in_thread(kept.path.unlink, missing_ok=True)

    def _make(self, base: Path, model: Path, learned: Learned, *, is_masked: bool) -> KeptUpdate:
        for older in self._folder.glob("update-*"):
            older.unlink(missing_ok=True)
        upload_id = secrets.token_hex(16)
        path = self._folder / f"update-{upload_id}"
        digest = None if is_masked and self._copies is None else hashlib.sha256()
        size, largest = 0, 0.0 if is_masked else math.inf
        with whole(path) as file:
            for piece in _update(base, model, learned):
                content = piece.data
                if digest is not None:
                    digest.update(content)
                file.write(content)
                size += content.nbytes
                if is_masked:
                    largest = max(largest, largest_magnitude(piece))
        said = replace(learned, tensors=None)  # they are not needed any more, and take the model's room
        sha256 = None if digest is None else Digest(digest.hexdigest())
        return KeptUpdate(path, upload_id, size, sha256, said, largest=largest)

    def _copy(
        self,
        folder: Path,
        plan: RoundPlan,
        model: Path,
        kept: KeptUpdate,
        *,
        encoding: Encoding | None,
        tensors: Mapping[str, Tensor] | None,
    ) -> None:
        """Keep the trained model and what was said of it, named so that any program can find its round."""
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.partial"):  # by a life that ended in the middle
            left.unlink(missing_ok=True)
        stem = f"session-{plan.session_number}-round-{plan.round_number}-attempt-{plan.attempt}"
        with in_the_making(folder / f"{stem}.safetensors") as file:
            if tensors is None:
                shutil.copyfile(model, file)
            else:
                save_model(file, tensors)
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
        with in_the_making(folder / f"{stem}.json") as file:
            file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _update(base: Path, model: Path, learned: Learned) -> Iterator[Elements]:
    """Yield the update in pieces: from memory where the trained model is there, else from its file."""
    with mapped_model(base) as (old, old_layout):
        if learned.tensors is not None:
            yield from difference_in_memory(learned.tensors, old, old_layout)
            return
        with mapped_model(model) as (new, new_layout):
            yield from difference(new, old, new_layout, old_layout)
