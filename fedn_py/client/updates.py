"""The client's update: made from the new model, kept until its round is committed or given up."""

import hashlib
import json
import math
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedn_py.client.durable_files import in_the_making
from fedn_py.client.ports import Learned
from fedn_py.client.update_sealing import PlainUpdate, weight_facts
from fedn_py.client.update_values import UpdateValues
from fedn_py.identity import ClientName, Digest, Generation
from fedn_py.masking.fixed_point import Encoding
from fedn_py.model.dtypes import largest_magnitude
from fedn_py.model.vector import Tensor
from fedn_py.package.models import save_model
from fedn_py.protocol.messages import Metrics, MetricsRelease, RoundPlan, UpdateHeader
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

    values: UpdateValues
    upload_id: str
    sha256: Digest | None
    learned: Learned
    before: Metrics = field(default_factory=dict)
    largest: float = math.inf

    def to_mask(self, release: MetricsRelease) -> PlainUpdate:
        """Return what is masked of it; metrics only as far as the site releases them."""
        if release == "none":
            return PlainUpdate(self.values, self.learned.samples, largest=self.largest)
        return PlainUpdate(self.values, self.learned.samples, self.learned.metrics, self.before, self.largest)

    def header(self, generation: Generation, release: MetricsRelease) -> UpdateHeader:
        """Return what is said of a plain one under a generation; metrics only as far as the site releases them."""
        assert self.sha256 is not None
        metrics = {} if release == "none" else self.learned.metrics
        samples, size = self.learned.samples, self.values.size
        return UpdateHeader(generation, self.upload_id, size, self.sha256, samples, metrics, release)


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

        It is made of both models whenever it is needed, and holds them until it is dropped.

        Args:
            before: metrics of the base model.
            encoding: how a masked plan will have it encoded.

        Raises:
            WrongShape, MissingTensor, NotFinite: the new model is not of the base's form.
        """
        return await in_thread(self._make, plan, base, model, learned, before=before or {}, encoding=encoding)

    async def drop(self, kept: KeptUpdate) -> None:
        """Remove an update, which frees what its models take, in memory or on disk."""
        await in_thread(self._drop, kept)

    def _drop(self, kept: KeptUpdate) -> None:
        kept.values.close()
        self._place_of(kept.upload_id).unlink(missing_ok=True)

    def _place_of(self, upload_id: str) -> Path:
        return self._folder / f"trained-{upload_id}.safetensors"

    def _make(
        self,
        plan: RoundPlan,
        base: Path,
        model: Path,
        learned: Learned,
        *,
        before: Metrics,
        encoding: Encoding | None,
    ) -> KeptUpdate:
        for older in self._folder.glob("trained-*"):
            older.unlink(missing_ok=True)
        upload_id = secrets.token_hex(16)
        values: UpdateValues | None = None
        try:
            if learned.tensors is None:
                model = model.rename(self._place_of(upload_id))  # the next may be trained while this is still needed
            values = UpdateValues(base, model if learned.tensors is None else learned.tensors)
            kept = self._looked_through(values, upload_id, learned, before, is_masked=encoding is not None)
            if self._copies is not None:
                self._copy(self._copies / self._name, plan, model, kept, encoding=encoding, tensors=learned.tensors)
        except BaseException:
            if values is not None:
                values.close()
            self._place_of(upload_id).unlink(missing_ok=True)
            raise
        return kept

    def _looked_through(
        self, values: UpdateValues, upload_id: str, learned: Learned, before: Metrics, *, is_masked: bool
    ) -> KeptUpdate:
        digest = None if is_masked and self._copies is None else hashlib.sha256()
        largest = 0.0 if is_masked else math.inf
        for piece in values.pieces():
            if digest is not None:
                digest.update(piece.data)
            if is_masked:
                largest = max(largest, largest_magnitude(piece))
        sha256 = None if digest is None else Digest(digest.hexdigest())
        return KeptUpdate(values, upload_id, sha256, replace(learned, tensors=None), before, largest)

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
