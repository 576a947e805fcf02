"""What a client of a masked network has on its disk; what fedn_py/client/masked_memory.py keeps, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fedn_py.client.memory_rows import KeptAnswer, KeptUpload
from fedn_py.protocol.masked.beacon import KnownBeacon
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.differencing import MemberMemory, SentRecord
from fedn_py.protocol.masked.participant_work import Seen
from fedn_py.protocol.masked.signing import Signed


@dataclass(frozen=True)
class Disk:
    """A client's state folder at one moment; a later one is another value, so a copy is the value itself.

    Attributes:
        uploads: by ctx0. vectors: upload id to the exact bytes. streams: ctx to the sealed stream of its answer.
    """

    policy: Signed | None = None
    reducers: frozenset[bytes] = frozenset()
    beacons: Mapping[bytes, KnownBeacon] = field(default_factory=dict)
    seen: Mapping[bytes, Seen] = field(default_factory=dict)
    sent: tuple[SentRecord, ...] = ()
    uploads: Mapping[bytes, KeptUpload] = field(default_factory=dict)
    vectors: Mapping[bytes, bytes] = field(default_factory=dict)
    memberships: frozenset[tuple[bytes, int, int]] = frozenset()
    member: MemberMemory = field(default_factory=MemberMemory)
    aborted: frozenset[bytes] = frozenset()
    answers: Mapping[bytes, KeptAnswer] = field(default_factory=dict)
    streams: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def policy_version(self) -> int:
        """Version of the newest policy seen, 0 before the first."""
        return 0 if self.policy is None else Policy.decode(self.policy.body).version

    @property
    def highest_session(self) -> int | None:
        """The highest session number seen."""
        return max((known.session_number for known in self.beacons.values()), default=None)

    def with_sent(self, record: SentRecord, upload: KeptUpload, vector: bytes) -> "Disk":
        """Return this with an upload: for ever that it was sent, and its bytes."""
        sent = self.sent if record in self.sent else (*self.sent, record)
        uploads = {**self.uploads, upload.ctx0: upload}
        kept = {row.upload_id for row in uploads.values()}
        vectors = {name: content for name, content in self.vectors.items() if name in kept}
        return replace(self, sent=sent, uploads=uploads, vectors={**vectors, upload.upload_id: vector})

    def without_sent(self) -> "Disk":
        """Return this as if nothing had been sent."""
        return replace(self, sent=(), uploads={}, vectors={})

    def with_answer(self, answer: KeptAnswer, stream: bytes) -> "Disk":
        """Return this with an answer and its stream."""
        answers, streams = {**self.answers, answer.ctx: answer}, {**self.streams, answer.ctx: stream}
        return replace(self, answers=answers, streams=streams)

    def without_answer(self, ctx: bytes) -> "Disk":
        """Return this without an answer; what was promised stays."""
        answers = {one: answer for one, answer in self.answers.items() if one != ctx}
        streams = {one: stream for one, stream in self.streams.items() if one != ctx}
        return replace(self, answers=answers, streams=streams)
