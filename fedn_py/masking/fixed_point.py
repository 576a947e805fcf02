"""Updates as integers modulo 2**32: clipped, weighted, scaled, rounded without bias, with words that show garbage.

    M = floor(2**30 / n_max) - 1,    s = M / clip                     one bit of headroom below 2**31
    w = min(samples / unit, weight_cap),  omega = w / weight_cap      the weight, an exact integer of its own
    m[c] = floor(clip(x[c], -clip, clip) * omega * s + u)             float64; u in [0, 1) from the rounding stream
    words = [ m[0..d-1] | w | metrics | 8 guard words of 0 ]          L = d + 1 + n_metrics + 8

uint32 wrap-around is the group: sums of masked words modulo 2**32 need no reduction. A sum over n clients is taken
for true only if the guards are 0, n <= W <= n * weight_cap, and every other word is within n * (M + 1): any wrong
seed, list or slot shows as a random word, and random words do not pass.

Errors of the mean: at most n / (s * W / weight_cap) a value, sqrt(n / 6) / (s * W / weight_cap) in root mean square.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedn_py.errors import PeerFault
from fedn_py.masking.keystream import CHUNK_WORDS, Keystream, Words
from fedn_py.model.vector import NotFinite

GUARD_WORDS = 8
MOST_WORDS = 2**32 - 1
"""A vector's length is a 32-bit number in its header."""

_SUM_BITS = 30

Floats = npt.NDArray[np.float64]
Reals = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32] | npt.NDArray[np.int64]


class CannotHold(PeerFault):
    """The sum of so many updates could overflow its words."""


class UnmaskCheckFailed(PeerFault):
    """An opened sum is not the sum of what it should be; it is never used.

    Attributes:
        check: "guards", "weight" or "range".
    """

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(
            f"the opened sum is garbage: {detail}", remedy="The cell is left out; the round is tried again."
        )
        self.check = check


@dataclass(frozen=True, slots=True)
class Encoding:
    """How updates become words; the same for everybody in a round.

    Attributes:
        n_parameters: floats of an update, d.
        clip: values are clipped to +-clip, in model units, above 0.
        n_max: the largest number of clients in one opened sum.
        weight_cap: the largest weight of one client; larger ones count as this.
        metric_bounds: values of metric i are within +-metric_bounds[i].
        weight_unit: samples for a weight of 1, where sample counts are beyond what weight_cap can be.

    Raises:
        CannotHold: with the numbers.
    """

    n_parameters: int
    clip: float
    n_max: int
    weight_cap: int
    metric_bounds: tuple[float, ...] = ()
    weight_unit: int = 1

    def __post_init__(self) -> None:
        wrong = []
        if not 1 <= self.n_max <= 2**_SUM_BITS // 2:
            wrong.append(f"n_max is {self.n_max}, must be from 1 to {2**_SUM_BITS // 2}")
        if not (math.isfinite(self.clip) and self.clip > 0):
            wrong.append(f"clip is {self.clip}, must be a finite number above 0")
        if self.weight_cap < 1 or self.weight_cap * self.n_max > 2**_SUM_BITS:
            wrong.append(
                f"weight_cap {self.weight_cap} times n_max {self.n_max} is {self.weight_cap * self.n_max}, "
                f"must be from 1 to 2**{_SUM_BITS} = {2**_SUM_BITS}"
            )
        if self.weight_unit < 1:
            wrong.append(f"weight_unit is {self.weight_unit}, must be at least 1")
        if any(not (math.isfinite(bound) and bound > 0) for bound in self.metric_bounds):
            wrong.append("every bound of a metric must be a finite number above 0")
        if self.n_parameters < 1 or self.n_words > MOST_WORDS:
            wrong.append(f"an update of {self.n_parameters} parameters cannot be masked")
        if wrong:
            raise CannotHold(
                "; ".join(wrong), remedy="Choose a smaller n_max, or count weight in units of several samples."
            )

    @property
    def largest(self) -> int:
        """M: the largest integer that a full value becomes, before rounding."""
        return int(2**_SUM_BITS) // self.n_max - 1

    @property
    def scale(self) -> float:
        """Steps per model unit, s = M / clip."""
        return self.largest / self.clip

    @property
    def n_words(self) -> int:
        """Words of an encoded update, L."""
        return self.n_parameters + 1 + len(self.metric_bounds) + GUARD_WORDS

    def weight(self, samples: int) -> int:
        """Return the weight of an update over so many samples: from 1 to ``weight_cap``."""
        if samples < 1:
            raise ValueError(f"an update cannot count for {samples} samples")
        return min(-(-samples // self.weight_unit), self.weight_cap)

    def word_bound(self, clients: int) -> int:
        """Return the largest size of a word of a true sum over ``clients`` clients, weight and guards aside."""
        return clients * (self.largest + 1)

    def error_bound(self, clients: int, weight: int) -> float:
        """Return the largest error of a value of the mean over ``clients`` clients, in model units.

        Args:
            weight: the opened sum of their weights, W.
        """
        return clients / (self.scale * weight / self.weight_cap)


class Encoder:
    """Encodes one client's update, chunk by chunk, in any order.

    Attributes:
        clipped: how many values were beyond the clip, in the chunks so far.

    Args:
        samples: of the training.
        metrics: one value for each of the encoding's bounds.
        rounding_seed: 32 fresh random bytes, of this update alone and of nothing else.

    Raises:
        NotFinite: a metric is NaN or infinite.
    """

    def __init__(self, encoding: Encoding, samples: int, metrics: tuple[float, ...], rounding_seed: bytes) -> None:
        if len(metrics) != len(encoding.metric_bounds):
            raise ValueError(f"{len(metrics)} metrics for {len(encoding.metric_bounds)} bounds")
        self._encoding = encoding
        self._weight = encoding.weight(samples)
        self._omega = self._weight / encoding.weight_cap
        self._rounding = Keystream(rounding_seed)
        # Whole chunks: numpy's price for a call is that of a thousand values.
        self._values = np.empty(CHUNK_WORDS, np.float64)
        self._fractions = np.empty(CHUNK_WORDS, np.float64)
        self._random = np.empty(CHUNK_WORDS, np.uint32)
        self._tail = self._encoded_tail(metrics)
        self.clipped = 0

    def chunk(self, number: int, values: Reals, out: Words) -> None:
        """Write the words of chunk ``number`` into ``out``.

        Args:
            values: the update's floats that fall into this chunk, in model units; fewer than ``out`` in the chunks
                that the weight, the metrics and the guards fall into.
            out: uint32[the chunk's words].

        Raises:
            NotFinite: nothing of the update may be sent.
        """
        count, start = len(values), number * CHUNK_WORDS
        parameters = max(0, min(self._encoding.n_parameters - start, CHUNK_WORDS))
        words = max(0, min(self._encoding.n_words - start, CHUNK_WORDS))
        if (count, len(out)) != (parameters, words):
            raise ValueError(
                f"chunk {number} is {words} words of {parameters} values, not {len(out)} words of {count} values"
            )
        if count:
            self._encode(number, values, out[:count])
        if count < len(out):
            begin = start + count - self._encoding.n_parameters
            out[count:] = self._tail[begin : begin + len(out) - count]

    def _encode(self, number: int, values: Reals, out: Words) -> None:
        """Compute floor(clip(x) * omega * s + u) in this order of operations: other orders give other last bits."""
        clip = self._encoding.clip
        lowest, highest = float(np.minimum.reduce(values)), float(np.maximum.reduce(values))
        if not (math.isfinite(lowest) and math.isfinite(highest)):  # a NaN is the minimum of whatever holds it
            raise NotFinite("the update")
        x, u, random = self._values[: len(values)], self._fractions[: len(values)], self._random[: len(values)]
        self._rounding.chunk(number, random)
        np.copyto(x, values)
        if lowest < -clip or highest > clip:
            self.clipped += int(np.count_nonzero(np.abs(x) > clip))
            np.clip(x, -clip, clip, out=x)
        if self._omega != 1.0:
            np.multiply(x, self._omega, x)
        np.multiply(x, self._encoding.scale, x)
        np.copyto(u, random)
        np.multiply(u, 2.0**-32, u)
        np.add(x, u, x)
        np.floor(x, x)
        # int32 seen as uint32: two's complement is arithmetic modulo 2**32.
        np.copyto(out.view(np.int32), x, casting="unsafe")

    def _encoded_tail(self, metrics: tuple[float, ...]) -> Words:
        """Return the words behind the parameters: weight, metrics, guards."""
        encoding = self._encoding
        tail = np.zeros(encoding.n_words - encoding.n_parameters, np.uint32)
        tail[0] = self._weight
        fractions = self._fractions_of(encoding.n_parameters + 1, len(metrics))
        for index, (value, bound) in enumerate(zip(metrics, encoding.metric_bounds, strict=True), start=1):
            if not math.isfinite(value):
                raise NotFinite(f"metric {index} of the update")
            scaled = min(max(value * encoding.clip / bound, -encoding.clip), encoding.clip)
            word = math.floor(scaled * self._omega * encoding.scale + fractions[index - 1])
            tail[index] = word & 0xFFFFFFFF
        return tail

    def _fractions_of(self, start: int, count: int) -> list[float]:
        """Return u of ``count`` words from the one at ``start`` on."""
        fractions: list[float] = []
        while len(fractions) < count:
            number, offset = divmod(start + len(fractions), CHUNK_WORDS)
            end = min(offset + count - len(fractions), CHUNK_WORDS)
            self._rounding.chunk(number, self._random[:end])
            fractions += (float(word) * 2.0**-32 for word in self._random[offset:end])
        return fractions


@dataclass(frozen=True, slots=True)
class OpenedTail:
    """What an opened sum says beside its parameters.

    Attributes:
        weight: the sum of the weights, W.
        metrics: the sums of the encoded metrics.
    """

    weight: int
    metrics: tuple[int, ...]


def check_tail(encoding: Encoding, clients: int, tail: Words) -> OpenedTail:
    """Read the words behind the parameters of an opened sum over ``clients`` clients.

    Args:
        tail: uint32[1 + n_metrics + 8].

    Raises:
        UnmaskCheckFailed: a guard is not 0, or the weight or a metric cannot be.
    """
    signed = tail.view(np.int32)
    if signed[-GUARD_WORDS:].any():
        raise UnmaskCheckFailed("guards", "a guard word is not 0")
    weight = int(signed[0])
    if not clients <= weight <= clients * encoding.weight_cap:
        raise UnmaskCheckFailed("weight", f"a weight of {weight} cannot come from {clients} clients")
    metrics = signed[1:-GUARD_WORDS]
    check_range(encoding, clients, metrics)
    return OpenedTail(weight, tuple(int(value) for value in metrics))


def check_range(encoding: Encoding, clients: int, values: npt.NDArray[np.int32]) -> None:
    """Raise UnmaskCheckFailed unless every opened word is within what so many clients can sum to."""
    if not len(values):
        return
    bound = encoding.word_bound(clients)
    if int(np.minimum.reduce(values)) < -bound or int(np.maximum.reduce(values)) > bound:
        raise UnmaskCheckFailed("range", f"a word is beyond {bound}, which {clients} clients cannot reach")


def decoded_mean(encoding: Encoding, sums: Integers, weight: int, out: Floats | None = None) -> Floats:
    """Return the weighted mean in model units: sums / s / (weight / weight_cap), in this order.

    Args:
        sums: opened sums, added as int64 over the cells of the same encoding.
        weight: the sum of their weights.
        out: where to write it, float64 of the same length; a fresh array where None.
    """
    mean = np.empty(len(sums), np.float64) if out is None else out
    np.copyto(mean, sums)
    np.divide(mean, encoding.scale, mean)
    np.divide(mean, weight / encoding.weight_cap, mean)
    return mean


def decoded_metrics(encoding: Encoding, sums: tuple[int, ...], weight: int) -> tuple[float, ...]:
    """Return the weighted means of the metrics, in their own units."""
    share = weight / encoding.weight_cap
    return tuple(
        value / encoding.scale / share * bound / encoding.clip
        for value, bound in zip(sums, encoding.metric_bounds, strict=True)
    )
