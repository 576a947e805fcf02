"""The messages of masked rounds between values and protobuf: committees, partial aggregates, words, the policy.

What was signed stays the bytes that were signed; reading raises MalformedMessage, which names the field.
"""

from fedn_py.protocol import messages as m
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.round_messages import CommitteeBody
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import read_word_from_client, read_word_to_client
from fedn_py.transport import reading
from fedn_py.transport.codec_fields import (
    read_body,
    read_client,
    read_clients,
    read_exclusions,
    read_generation,
    read_summary,
    write_body,
    write_exclusions,
    write_summary,
)
from fedn_py.wire.v1 import network_pb2 as pb


def write_committee(formed: m.CommitteeFormed) -> pb.CommitteeFormed:
    """Write a cell's committee."""
    return pb.CommitteeFormed(generation=formed.generation, committee=formed.committee.encode())


def read_committee(wire: pb.CommitteeFormed) -> m.CommitteeFormed:
    """Read a cell's committee."""
    return m.CommitteeFormed(
        read_generation(wire.generation, "committee.generation"), CommitteeBody.decode(wire.committee)
    )


def write_masked_partial(partial: m.MaskedPartial) -> pb.MaskedPartial:
    """Write a masked cell's answer."""
    return pb.MaskedPartial(
        generation=partial.generation,
        closed=write_body(partial.closed),
        included=partial.included,
        excluded=write_exclusions(partial.excluded),
        training_metrics=write_summary(partial.training_metrics),
    )


def read_masked_partial(wire: pb.MaskedPartial) -> m.MaskedPartial:
    """Read a masked cell's answer."""
    return m.MaskedPartial(
        generation=read_generation(wire.generation, "masked_partial.generation"),
        closed=read_body(wire, "closed", Signed),
        included=reading.count(wire.included, "masked_partial.included"),
        excluded=read_exclusions(wire.excluded, "masked_partial.excluded"),
        training_metrics=read_summary(wire.training_metrics, "masked_partial.training_metrics"),
    )


def write_word(word: Body) -> pb.Word:
    """Write a word of a masked round."""
    return pb.Word(kind=word.kind, body=word.encode())


def write_passed_on(passed: m.WordPassedOn) -> pb.WordPassedOn:
    """Write what a client said to the reducer."""
    return pb.WordPassedOn(client=passed.client, word=write_word(passed.word))


def read_passed_on(wire: pb.WordPassedOn) -> m.WordPassedOn:
    """Read what a client said to the reducer."""
    word = read_word_from_client(wire.word.kind, wire.word.body)
    return m.WordPassedOn(read_client(wire.client, "passed_on.client"), word)


def write_for_clients(message: m.WordForClients) -> pb.WordForClients:
    """Write what the reducer says to clients."""
    return pb.WordForClients(clients=message.clients, word=write_word(message.word))


def read_for_clients(wire: pb.WordForClients) -> m.WordForClients:
    """Read what the reducer says to clients."""
    word = read_word_to_client(wire.word.kind, wire.word.body)
    return m.WordForClients(read_clients(wire.clients, "for_clients.clients"), word)


def write_policy(news: m.PolicyNews) -> pb.PolicyNews:
    """Write the operator's policy."""
    return pb.PolicyNews(policy=news.policy.encode())


def read_policy(wire: pb.PolicyNews) -> m.PolicyNews:
    """Read the operator's policy."""
    return m.PolicyNews(Signed.decode(wire.policy))
