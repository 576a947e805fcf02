"""A registered client that attaches as it should and then says wrong things: damaged words, chains and uploads.

It answers each task with an offer of no keys, so that the others' round goes on, and ends its part in it with a vector
that is not the one of its header.
"""

import contextlib
import hashlib
import random
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np
from fuzz.damage import bytes_damaged, edits, truncations

from fedn_py.client.state_folder import StateFolder
from fedn_py.errors import PeerFault
from fedn_py.identity import ClientName, Digest, Generation
from fedn_py.protocol.masked.boxes import seal_seeds, update_header
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.committee import Committee, check_committee
from fedn_py.protocol.masked.contexts import CellTerms, cell_terms
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.registry import KnownChains
from fedn_py.protocol.masked.round_messages import Abort, Answer, BoxAck, CommitteeBody, Echo, IncludedRow, KeyMessage
from fedn_py.protocol.masked.words import KeyOffer, LinksWanted, MaskedUpload, StreamSent
from fedn_py.protocol.messages import (
    Assignment,
    AssignRequest,
    ClientHello,
    PolicyNews,
    SaidByClient,
    SaidToClient,
    TrainTask,
    UpdateHeader,
)
from fedn_py.runtime.credential_files import read_token_file
from fedn_py.settings.roles import ClientSettings
from fedn_py.transport import codec
from fedn_py.transport.certificates import read_authority_certificate
from fedn_py.transport.channels import Channel, secure_channel
from fedn_py.transport.combiner_link import CombinerLink
from fedn_py.transport.reducer_link import assign
from fedn_py.transport.status import restored
from fedn_py.transport.transfer import Patience, upload_object, upload_update
from fedn_py.wire.v1 import network_pb2 as pb
from fedn_py.wire.v1 import network_pb2_grpc

ELSEWHERE = secrets.token_bytes(32)
_ONCE = Patience(attempts=1)


@dataclass
class Said:
    """What it has said so far, by kind, and what it was told.

    Attributes:
        codes: of the faults that it was told itself.
        rounds: whose update it was asked for.
    """

    words: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    rounds: int = 0


class HostileClient:
    """Runs until it is cancelled.

    Args:
        passed_on: how many damaged words of each kind that the combiner passes on it says in a round; the combiner
            reads who says many more slowly.
        looked_at: how many of each kind that the combiner looks at itself.
    """

    def __init__(self, settings: ClientSettings, folder: StateFolder, *, passed_on: int, looked_at: int) -> None:
        self._settings, self._folder = settings, folder
        self._passed_on, self._looked_at = passed_on, looked_at
        self._chance = random.Random(settings.name)
        self._policy: Policy | None = None
        self._task: TrainTask | None = None
        self.said = Said()

    async def run(self) -> None:
        assignment = await self._assigned()
        async with secure_channel(assignment.address, assignment.authority_pem, assignment.ticket) as channel:
            await self._show_wrong_chains(channel)
            await self._say_what_cannot_be_read(channel)
            while True:
                with contextlib.suppress(PeerFault):
                    await self._one_stream(channel)

    # ---- at the doors

    @property
    def _registration(self) -> Any:
        return self._folder.registration

    @property
    def _hello(self) -> ClientHello:
        return ClientHello(
            self._registration.client, ClientName(self._settings.name), "0.1.0", self._registration.chain
        )

    async def _assigned(self) -> Assignment:
        """Ask the reducer, with wrong chains first."""
        token = read_token_file(self._settings.token_file)
        self._registration.enter(token.join)
        hello, authority = self._hello, read_authority_certificate(self._settings.authority_file)
        async with secure_channel(self._settings.reducer[0], authority, token.bearer) as channel:
            stub = network_pb2_grpc.ReducerStub(channel.grpc)
            request = AssignRequest(hello.client, hello.name, "", "0.1.0", hello.chain)
            for chain in self._wrong(hello.chain, self._looked_at):
                wire = codec.write_assign_request(request)
                wire.chain = chain
                self.said.words["chain at the reducer"] += 1
                try:
                    await stub.Assign(wire, timeout=10)
                except grpc.aio.AioRpcError as error:
                    self.said.codes[restored(error, channel.address).code] += 1
                else:
                    raise AssertionError("a client with a wrong chain was sent to a combiner")
            return await assign(channel, request)

    async def _show_wrong_chains(self, channel: Channel) -> None:
        for chain in self._wrong(self._hello.chain, self._looked_at):
            wire = codec.write_from_client(self._hello)
            wire.hello.chain = chain
            await self._until_refused(channel, wire, [], "chain at the combiner")

    async def _until_refused(self, channel: Channel, hello: Any, words: list[Any], kind: str) -> None:
        """Open a stream, say this on it, and hear why it is ended."""
        self.said.words[kind] += 1
        try:
            async with LooseLink(channel, hello) as link:
                for word in words:
                    link.send(word)
                async for _ in link.messages():
                    pass
        except PeerFault as fault:
            self.said.codes[fault.code] += 1
        else:
            raise AssertionError("a stream with a word that cannot be read was not refused")

    def _wrong(self, body: Body, count: int) -> list[bytes]:
        """Return damaged bytes of a body, most of them readable."""
        found = [*edits(body), *bytes_damaged(body.encode(), self._chance, 3)]
        return [one.content for one in self._chance.sample(found, min(count, len(found)))]

    # ---- in rounds

    async def _one_stream(self, channel: Channel) -> None:
        async with LooseLink(channel, self._hello) as link:
            async for message in link.messages():
                match message:
                    case PolicyNews(policy):
                        self._policy = Policy.decode(policy.body)
                    case TrainTask() if message.masked is not None:
                        self._task = message
                        link.send(SaidByClient(KeyOffer(self._terms.ctx0, self._registration.chain, ())))
                    case SaidToClient(CommitteeBody() as body) if body.ctx0 == self._terms.ctx0:
                        await self._take_part(channel, link, self._checked(body))

    @property
    def _terms(self) -> CellTerms:
        assert self._task is not None
        assert self._task.masked is not None
        deployment = self._registration.trust.deployment
        return cell_terms(deployment, self._task.masked.plan.body, self._task.masked.order.body)

    def _checked(self, body: CommitteeBody) -> Committee:
        terms, chains = self._terms, KnownChains(self._registration.trust)
        assert self._policy is not None
        standing = (self._policy, 0)
        return check_committee(body, terms.ctx0, terms.order, terms.plan.beacon, chains, standing=standing)

    async def _take_part(self, channel: Channel, link: "LooseLink", committee: Committee) -> None:
        for kind, words in self._words(committee).items():
            for word in words:
                self.said.words[kind] += 1
                link.send(word)
        await self._upload_wrongly(channel, committee)
        self.said.rounds += 1

    def _words(self, committee: Committee) -> Mapping[str, list[Any]]:
        """Return damaged words of every kind that a client may say, all of which can be read."""
        ctx, sign, me = committee.ctx, self._registration.signed, self._registration.registered
        row = IncludedRow(me.client_id, ELSEWHERE)
        key = sign(KeyMessage(self._terms.ctx0, 0, ELSEWHERE, ELSEWHERE))
        true: dict[str, tuple[Body, int]] = {
            "key offer": (KeyOffer(self._terms.ctx0, me.chain, (key,)), self._looked_at),
            "box acknowledgement": (sign(BoxAck(ctx, (row,), ())), self._looked_at),
            "echo": (sign(Echo(ctx, ELSEWHERE)), self._passed_on),
            "answer": (sign(Answer(ctx, ELSEWHERE, 0, ELSEWHERE, bytes(112), ELSEWHERE, 100)), self._passed_on),
            "abort": (sign(Abort(ctx, "a lie")), self._passed_on),
            "sent stream": (StreamSent(ctx, ELSEWHERE, 10), self._passed_on),
            "wanted links": (LinksWanted(self._terms.plan.session, 2**64 - 1), self._passed_on),
        }
        return {
            kind: [pb.FromClient(word=pb.Word(kind=body.kind, body=one)) for one in self._readable(body, count)]
            for kind, (body, count) in true.items()
        }

    def _readable(self, body: Body, count: int) -> Iterator[bytes]:
        """Yield damaged bytes that can be read, as many as are wanted."""
        found = [one.content for one in edits(body)]
        for number in range(count):
            yield found[(self._chance.randrange(len(found)) + number) % len(found)]

    async def _say_what_cannot_be_read(self, channel: Channel) -> None:
        """Say words that are cut off, each on a stream of its own, which it ends."""
        body = self._registration.signed(Abort(ELSEWHERE, "a lie"))
        for damaged in truncations(body.encode(), self._chance, self._looked_at):
            word = pb.FromClient(word=pb.Word(kind=body.kind, body=damaged.content))
            await self._until_refused(channel, self._hello, [word], "word that cannot be read")

    # ---- uploads

    async def _upload_wrongly(self, channel: Channel, committee: Committee) -> None:
        masked, content = self._upload(committee)
        digest = Digest(hashlib.sha256(content).hexdigest())
        assert self._task is not None
        header = UpdateHeader(self._task.generation, secrets.token_hex(16), len(content), digest, 0, {}, "none", masked)
        for one in self._chance.sample([*edits(masked)], self._passed_on):
            await self._send(channel, replace(header, masked=MaskedUpload.decode(one.content)), content)
        await self._send(channel, replace(header, generation=Generation(header.generation + 1)), content)
        await self._send_object(channel, digest, content)
        await self._send(channel, header, content)  # all is right but the vector

    async def _send_object(self, channel: Channel, digest: Digest, content: bytes) -> None:
        self.said.words["object"] += 1
        try:
            await upload_object(channel, secrets.token_hex(16), digest, content, patience=_ONCE)
        except PeerFault as fault:
            self.said.codes[fault.code] += 1
        else:
            raise AssertionError("an object was taken that nobody asked for")

    async def _send(self, channel: Channel, header: UpdateHeader, content: bytes) -> None:
        self.said.words["masked upload"] += 1
        try:
            receipt = await upload_update(channel, header, content, patience=_ONCE)
        except PeerFault as fault:
            self.said.codes[fault.code] += 1
        else:
            assert not receipt.accepted
            self.said.codes[receipt.reason.split(":")[0]] += 1

    def _upload(self, committee: Committee) -> tuple[MaskedUpload, bytes]:
        """Return a header with right boxes, and bytes that are not those of the header."""
        n_words, me = self._terms.encoding.n_words, self._registration.registered
        seeds = [secrets.token_bytes(32) for _ in range(committee.slots)]
        sealed = seal_seeds(committee, me.client_id, seeds, [secrets.token_bytes(32) for _ in committee.members])
        header = update_header(
            committee,
            me.client_id,
            sealed,
            upload_id=secrets.token_bytes(16),
            vector_hash=hashlib.sha256(b"another vector").digest(),
            n_words=n_words,
        )
        content = np.random.default_rng(1).integers(0, 2**32, n_words, np.uint32).tobytes()
        return MaskedUpload(me.chain, self._registration.signed(header), sealed.boxes), content


class LooseLink(CombinerLink):
    """A stream on which anything can be said: protobuf messages go out as they are."""

    def __init__(self, channel: Channel, hello: Any) -> None:
        super().__init__(channel, hello)
        self._encode = _as_it_is


def _as_it_is(message: Any) -> Any:
    return message if isinstance(message, pb.FromClient) else codec.write_from_client(message)
