"""The bytes that travel by themselves: masked vectors on their way up, and the sealed streams of answers."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from fuzz.kept_networks import KeptNetworks
from fuzz.whole_network import StreamChanges, VectorChanges, WholeNetwork

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, Digest, TokenId
from fedn_py.protocol.messages import UpdateHeader
from fedn_py.reducer.records import RoundRecord
from fedn_py.transport.authentication import Caller
from fedn_py.transport.chunks import UploadStart

Vector = Callable[[UpdateHeader, bytes], tuple[UpdateHeader, bytes]]
Stream = Callable[[UploadStart, bytes], tuple[UploadStart, bytes]]

WITHOUT_IT, WITH_ALL, LATER = "without it", "with everybody", "in a later attempt"


@pytest.fixture(scope="module")
def networks() -> Iterator[KeptNetworks]:
    with KeptNetworks() as kept:
        yield kept


def flipped(content: bytes, place: int = -1) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


def told(header: UpdateHeader, content: bytes) -> tuple[UpdateHeader, bytes]:
    """Other bytes, and a header that says so: their sender is the one who errs."""
    return replace(header, size=len(content), sha256=digest_of(content)), content


def said(start: UploadStart, content: bytes) -> tuple[UploadStart, bytes]:
    """Another stream, and a beginning that says so."""
    return replace(start, size=len(content), sha256=digest_of(content)), content


VECTORS: dict[str, tuple[Vector, str, str]] = {
    "cut off": (lambda header, content: (header, content[:-1]), "UploadIncomplete", WITH_ALL),
    "nothing of it": (lambda header, _: (header, b""), "UploadIncomplete", WITH_ALL),
    "one more byte": (lambda header, content: (header, content + b"\0"), "UploadMismatch", WITHOUT_IT),
    "its first bit": (lambda header, content: (header, flipped(content, 0)), "DigestMismatch", WITHOUT_IT),
    "its last bit": (lambda header, content: (header, flipped(content)), "DigestMismatch", WITHOUT_IT),
    "another vector": (lambda header, content: told(header, flipped(content)), "DigestMismatch", WITHOUT_IT),
    "a shorter vector": (lambda header, content: told(header, content[:-4]), "WrongLength", WITHOUT_IT),
    "a longer vector": (lambda header, content: told(header, content + bytes(4)), "WrongLength", WITHOUT_IT),
    "the vector without its masks": (
        lambda header, content: told(header, bytes(len(content))),
        "DigestMismatch",
        WITHOUT_IT,
    ),
}

STREAMS: dict[str, tuple[Stream, str, str]] = {
    "cut off": (lambda start, content: (start, content[:-1]), "UploadIncomplete", LATER),
    "its first bit": (lambda start, content: (start, flipped(content, 0)), "DigestMismatch", LATER),
    "its last bit": (lambda start, content: (start, flipped(content)), "DigestMismatch", LATER),
    "another stream": (lambda start, content: said(start, flipped(content)), "ObjectMissing", LATER),
    "a shorter stream": (lambda start, content: said(start, content[:-1]), "ObjectMissing", LATER),
    "a longer stream": (lambda start, content: said(start, content + b"\0"), "StreamTooLarge", LATER),
}


class OneOfThem:
    """Picks one client, in one attempt, whose bytes are changed.

    Attributes:
        client: the one. round: in which.
    """

    def __init__(self, network: WholeNetwork, *, member: bool) -> None:
        self._network, self._member = network, member
        self.client: ClientId | None = None
        self.round = 0
        self._attempt = 0

    def is_it(self, client: ClientId) -> bool:
        lines = self._network.lines
        if self.client is None and (client in self._network.members) == self._member:
            self.client, self.round, self._attempt = client, lines.committed + 1, lines.orders
        return client == self.client and self._attempt == lines.orders


async def the_round_of(network: WholeNetwork, one: OneOfThem) -> RoundRecord:
    await network.until(lambda: one.client is not None)
    while (record := await network.next_round()).plan.round_number < one.round:
        pass
    return record


def end_of(network: WholeNetwork, record: RoundRecord) -> str:
    everybody = len(record.included) == len(network.clients)
    if record.plan.attempt > 1:
        return LATER
    return WITH_ALL if everybody else WITHOUT_IT


def played(
    networks: KeptNetworks, member: bool, vector: Vector | None, stream: Stream | None
) -> tuple[Counter[str], str]:
    async def story(network: WholeNetwork) -> tuple[Counter[str], str]:
        await network.newest_round()
        position, refused = len(network.log), Counter(network.refusals.by)
        one, plain = OneOfThem(network, member=member), (network.vector_changes, network.stream_changes)

        def vectors(client: ClientId, header: UpdateHeader, content: bytes) -> tuple[UpdateHeader, bytes]:
            return vector(header, content) if vector is not None and one.is_it(client) else (header, content)

        def streams(client: ClientId, start: UploadStart, content: bytes) -> tuple[UploadStart, bytes]:
            return stream(start, content) if stream is not None and one.is_it(client) else (start, content)

        changes: tuple[VectorChanges, StreamChanges] = (vectors, streams)
        network.vector_changes, network.stream_changes = changes
        try:
            record = await the_round_of(network, one)
        finally:
            network.vector_changes, network.stream_changes = plain
        codes = network.codes_since(position)
        codes += Counter(code for _, code in (network.refusals.by - refused).elements())
        return codes, end_of(network, record)

    return networks.play(story)


@pytest.mark.parametrize("how", VECTORS)
@pytest.mark.parametrize("member", [False, True], ids=["of no member", "of a member"])
def test_a_vector_that_is_not_the_one_of_its_header_is_in_no_sum(
    networks: KeptNetworks, how: str, member: bool
) -> None:
    change, code, end = VECTORS[how]
    codes, found = played(networks, member, change, None)
    assert codes[code]
    assert found == end


@pytest.mark.parametrize("how", STREAMS)
def test_a_stream_that_is_not_the_one_of_its_answer_opens_nothing(networks: KeptNetworks, how: str) -> None:
    change, code, end = STREAMS[how]
    codes, found = played(networks, True, None, change)
    assert codes[code]
    assert found == end


def test_a_stream_that_nobody_asked_for_is_not_taken(networks: KeptNetworks) -> None:
    async def story(network: WholeNetwork) -> str:
        content = b"a gift"
        start = UploadStart("ab" * 16, 0, len(content), digest_of(content))
        try:
            await network.combiner.take_object(start, Caller("client", network.somebody.id, TokenId("c1" * 8)), content)
        except PeerFault as refused:
            assert digest_of(content) not in network.reducer.stored.objects.contents
            return refused.code
        return ""

    assert networks.play(story) in {"StreamNotAsked", "StreamTooLarge"}
