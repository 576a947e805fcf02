"""An update made unreadable for all but the sum: encoded, masked and its seeds sealed, into a file.

A few chunks are in memory at a time, whatever the update's size. Blocking, for a worker thread.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from fedn_py.client.durable_files import whole
from fedn_py.client.registration import Registration
from fedn_py.client.secret_bytes import DrawnForUpload
from fedn_py.client.update_values import UpdateValues
from fedn_py.errors import OwnFault
from fedn_py.masking.fixed_point import Encoder, Encoding, Reals
from fedn_py.masking.keystream import CHUNK_WORDS, chunk_sizes
from fedn_py.masking.scheme import Masking
from fedn_py.masking.schemes import SCHEMES
from fedn_py.model.pieces import Elements, gathered
from fedn_py.protocol.masked.boxes import seal_seeds, update_header
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.round_messages import MetricBound
from fedn_py.protocol.masked.words import MaskedUpload

CLIP_FRACTION = "clip_fraction"
WEIGHT_CAPPED = "weight_capped"
OF_VALIDATION = "validate."
"""Begins the name of a metric of the model that was trained from."""

HAS = "has "
"""Begins the name of the word that says whether a client gives a metric."""


class UpdateNotOfPlan(OwnFault):
    """The kept update has another length than the plan's."""


@dataclass(frozen=True, slots=True)
class PlainUpdate:
    """An update before it is masked.

    Attributes:
        training: its metrics, as far as the site gives them.
        validation: those of the model that it was trained from.
        largest: magnitude of any of its values, or more.
    """

    values: UpdateValues
    samples: int
    training: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    largest: float = math.inf

    @property
    def metrics(self) -> dict[str, float]:
        """All of them, by the names that plans know them by."""
        return {**self.training, **{f"{OF_VALIDATION}{name}": value for name, value in self.validation.items()}}


@dataclass(frozen=True, slots=True)
class SealedUpdate:
    """A masked update in its file, with what is sent before it.

    Attributes:
        sha256: of the file, as its size is.
    """

    upload: MaskedUpload
    size: int
    sha256: bytes


def seal_update(
    plain: PlainUpdate,
    terms: CellTerms,
    committee: Committee,
    registration: Registration,
    *,
    drawn: DrawnForUpload,
    upload_id: bytes,
    into: Path,
) -> SealedUpdate:
    """Mask an update into a file.

    Args:
        drawn: fresh; the caller erases it.
        into: there whole, or not at all.

    Raises:
        NotFinite, CannotHold, UpdateNotOfPlan: it cannot be masked.
    """
    registered = registration.registered
    assert registered is not None
    client_id = registered.client_id
    encoding, seeds = terms.encoding, [bytes(seed) for seed in drawn.seeds]
    values = plain.values
    if values.count != encoding.n_parameters:
        raise UpdateNotOfPlan(
            f"the update has {values.count} parameters, the plan is for {encoding.n_parameters}",
            remedy="The global model is not the one that the plan was made for; the round is tried again.",
        )
    metrics = metric_words(terms.plan.metrics, {**plain.metrics, **_about(plain, encoding)})
    if terms.plan.metrics_release == "none":
        metrics = tuple(0.0 for _ in metrics)
    encoder = Encoder(encoding, plain.samples, metrics, bytes(drawn.rounding))
    masking = SCHEMES[terms.plan.mode].masking(encoder, committee.ctx, client_id, seeds)
    sha256 = _write(masking, values, encoding, into)
    sealed = seal_seeds(committee, client_id, seeds, [bytes(secret) for secret in drawn.ephemeral])
    header = update_header(
        committee, client_id, sealed, upload_id=upload_id, vector_hash=sha256, n_words=encoding.n_words
    )
    upload = MaskedUpload(registered.chain, registration.signed(header), sealed.boxes)
    return SealedUpdate(upload, 4 * encoding.n_words, sha256)


def metric_words(bounds: Sequence[MetricBound], given: Mapping[str, float]) -> tuple[float, ...]:
    """Return the values of a plan's metric words: 0 for what is not given, which its "has" word shows."""
    return tuple(_word(bound.name, given) for bound in bounds)


def weight_facts(encoding: Encoding, samples: int) -> dict[str, float]:
    """Return what a masked update says of its weight, for the site's own eyes."""
    return {
        "weight": encoding.weight(samples),
        "weight_cap": encoding.weight_cap,
        "weight_unit": encoding.weight_unit,
        "clip": encoding.clip,
        "n_max": encoding.n_max,
    }


def _word(name: str, given: Mapping[str, float]) -> float:
    if name not in given and name.startswith(HAS):
        return float(name.removeprefix(HAS) in given)
    return float(given.get(name, 0.0))


def _about(plain: PlainUpdate, encoding: Encoding) -> dict[str, float]:
    beyond = 0
    if plain.largest > encoding.clip:
        beyond = sum(int(np.count_nonzero(np.abs(piece) > encoding.clip)) for piece in plain.values.pieces())
    capped = math.ceil(plain.samples / encoding.weight_unit) > encoding.weight_cap
    return {CLIP_FRACTION: beyond / encoding.n_parameters, WEIGHT_CAPPED: float(capped)}


def _write(masking: Masking, values: UpdateValues, encoding: Encoding, into: Path) -> bytes:
    """Write the masked words and return their sha256."""
    sha256 = hashlib.sha256()
    out, chunks = np.empty(CHUNK_WORDS, np.uint32), gathered(values.pieces(), CHUNK_WORDS)
    with whole(into) as file:
        for number, size in enumerate(chunk_sizes(encoding.n_words)):
            masking.chunk(number, _joined(next(chunks, [])), out[:size])
            content = out[:size].astype("<u4", copy=False).data.cast("B")
            sha256.update(content)
            file.write(content)
    return sha256.digest()


def _joined(pieces: Sequence[Elements]) -> Reals:
    joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces) if pieces else np.empty(0, np.float32)
    return cast("Reals", joined)
