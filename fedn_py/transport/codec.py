"""Values of ``protocol/messages.py`` to protobuf and back: the only door through which messages come in.

One pair of functions for each of the four directions of the streams and for each unary message. Reading is total:
whatever protobuf could parse gives a value or raises MalformedMessage, which names the field.
"""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from fedn_py.identity import ClientName, CombinerName, InstanceId
from fedn_py.protocol import messages as m
from fedn_py.protocol.masked.certificates import Chain
from fedn_py.protocol.masked.encoding import MalformedMessage
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import MaskedUpload, StoredCommittee, read_word_from_client, read_word_to_client
from fedn_py.transport import codec_fields as fields
from fedn_py.transport import codec_masked as masked
from fedn_py.transport import codec_rounds as rounds
from fedn_py.transport import reading
from fedn_py.wire.v1 import network_pb2 as pb

__all__ = [
    "MalformedMessage",
    "parse",
    "read_assign_request",
    "read_assignment",
    "read_from_client",
    "read_from_combiner",
    "read_to_client",
    "read_to_combiner",
    "read_update_header",
    "read_update_receipt",
    "write_assign_request",
    "write_assignment",
    "write_from_client",
    "write_from_combiner",
    "write_to_client",
    "write_to_combiner",
    "write_update_header",
    "write_update_receipt",
]

_MOST_SOFTWARE_CHARS = 64
_MOST_PEM_BYTES = 64 * 1024

Wire = TypeVar("Wire", bound=Message)


def parse(kind: type[Wire], data: bytes) -> Wire:
    """Parse bytes as one protobuf message, or raise MalformedMessage."""
    try:
        return kind.FromString(data)
    except DecodeError as fault:
        raise reading.malformed(kind.__name__, "is no protobuf message") from fault


# ---- reducer and combiner


def write_from_combiner(message: m.FromCombiner) -> pb.FromCombiner:
    """Write what a combiner says on its stream."""
    match message:
        case m.CombinerHello():
            return pb.FromCombiner(hello=_write_combiner_hello(message))
        case m.AttachedClients(clients):
            return pb.FromCombiner(attached=pb.AttachedClients(clients=clients))
        case m.PartialAggregate():
            return pb.FromCombiner(partial=rounds.write_partial(message))
        case m.CellFailed(generation, reason):
            return pb.FromCombiner(cell_failed=pb.CellFailed(generation=generation, reason=fields.cut_reason(reason)))
        case m.ValidationReport():
            return pb.FromCombiner(validation=rounds.write_validation_report(message))
        case m.RoundProgress():
            return pb.FromCombiner(progress=rounds.write_progress(message))
        case m.CommitteeFormed():
            return pb.FromCombiner(committee=masked.write_committee(message))
        case m.MaskedPartial():
            return pb.FromCombiner(masked_partial=masked.write_masked_partial(message))
        case m.WordPassedOn():
            return pb.FromCombiner(passed_on=masked.write_passed_on(message))
        case m.CombinerLeaving():
            return pb.FromCombiner(leaving=pb.CombinerLeaving())


def read_from_combiner(wire: pb.FromCombiner) -> m.FromCombiner:
    """Read what a combiner says on its stream."""
    match wire.WhichOneof("message"):
        case "hello":
            return _read_combiner_hello(wire.hello)
        case "attached":
            return m.AttachedClients(fields.read_clients(wire.attached.clients, "attached.clients"))
        case "partial":
            return rounds.read_partial(wire.partial)
        case "cell_failed":
            return m.CellFailed(
                fields.read_generation(wire.cell_failed.generation, "cell_failed.generation"),
                fields.read_reason(wire.cell_failed.reason, "cell_failed.reason"),
            )
        case "validation":
            return rounds.read_validation_report(wire.validation)
        case "progress":
            return rounds.read_progress(wire.progress)
        case "committee":
            return masked.read_committee(wire.committee)
        case "masked_partial":
            return masked.read_masked_partial(wire.masked_partial)
        case "passed_on":
            return masked.read_passed_on(wire.passed_on)
        case "leaving":
            return m.CombinerLeaving()
        case _:
            raise _empty("FromCombiner")


def write_to_combiner(message: m.ToCombiner) -> pb.ToCombiner:
    """Write what the reducer says to a combiner."""
    match message:
        case m.HelloAccepted(heartbeat_s, fence):
            return pb.ToCombiner(accepted=pb.HelloAccepted(heartbeat_s=heartbeat_s, fence=fence))
        case m.CellOrder():
            return pb.ToCombiner(order=rounds.write_cell_order(message))
        case m.CellCancelled(generation, reason):
            return pb.ToCombiner(cancelled=pb.CellCancelled(generation=generation, reason=fields.cut_reason(reason)))
        case m.ValidationOrder():
            return pb.ToCombiner(validation=rounds.write_validation_order(message))
        case m.RoundCommitted():
            return pb.ToCombiner(committed=rounds.write_committed(message))
        case m.ExpectClient():
            return pb.ToCombiner(expect=_write_expect(message))
        case m.DismissClient(client, reason):
            return pb.ToCombiner(dismiss=pb.DismissClient(client=client, reason=fields.cut_reason(reason)))
        case m.WordForClients():
            return pb.ToCombiner(for_clients=masked.write_for_clients(message))
        case m.PolicyNews():
            return pb.ToCombiner(policy=masked.write_policy(message))
        case m.Heartbeat():
            return pb.ToCombiner(heartbeat=pb.Heartbeat())
        case m.CommitteeStored(committee):
            return pb.ToCombiner(committee_stored=pb.CommitteeStored(committee=committee.encode()))


def read_to_combiner(wire: pb.ToCombiner) -> m.ToCombiner:
    """Read what the reducer says to a combiner."""
    match wire.WhichOneof("message"):
        case "accepted":
            return m.HelloAccepted(
                reading.seconds(wire.accepted.heartbeat_s, "accepted.heartbeat_s"),
                reading.count(wire.accepted.fence, "accepted.fence"),
            )
        case "order":
            return rounds.read_cell_order(wire.order)
        case "cancelled":
            return m.CellCancelled(
                fields.read_generation(wire.cancelled.generation, "cancelled.generation"),
                fields.read_reason(wire.cancelled.reason, "cancelled.reason"),
            )
        case "validation":
            return rounds.read_validation_order(wire.validation)
        case "committed":
            return rounds.read_committed(wire.committed)
        case "expect":
            return _read_expect(wire.expect)
        case "dismiss":
            return m.DismissClient(
                fields.read_client(wire.dismiss.client, "dismiss.client"),
                fields.read_reason(wire.dismiss.reason, "dismiss.reason"),
            )
        case "for_clients":
            return masked.read_for_clients(wire.for_clients)
        case "policy":
            return masked.read_policy(wire.policy)
        case "heartbeat":
            return m.Heartbeat()
        case "committee_stored":
            return m.CommitteeStored(StoredCommittee.decode(wire.committee_stored.committee))
        case _:
            raise _empty("ToCombiner")


# ---- combiner and client


def write_from_client(message: m.FromClient) -> pb.FromClient:
    """Write what a client says on its stream."""
    match message:
        case m.ClientHello(client, name, software, chain):
            hello = pb.ClientHello(client=client, name=name, software=software, chain=fields.write_body(chain))
            return pb.FromClient(hello=hello)
        case m.Heartbeat():
            return pb.FromClient(heartbeat=pb.Heartbeat())
        case m.TaskFailed(generation, reason, log):
            return pb.FromClient(
                failed=pb.TaskFailed(generation=generation, reason=fields.cut_reason(reason), log=fields.cut_log(log))
            )
        case m.ValidationResult(generation, samples, metrics, release):
            return pb.FromClient(
                validation=pb.ValidationResult(
                    generation=generation,
                    samples=samples,
                    metrics=pb.Metrics(values=metrics),
                    release=fields.write_release(release),
                )
            )
        case m.SaidByClient(word):
            return pb.FromClient(word=masked.write_word(word))


def read_from_client(wire: pb.FromClient) -> m.FromClient:
    """Read what a client says on its stream."""
    match wire.WhichOneof("message"):
        case "hello":
            return m.ClientHello(
                fields.read_client(wire.hello.client, "hello.client"),
                ClientName(reading.name(wire.hello.name, "hello.name")),
                _read_software(wire.hello.software, "hello.software"),
                fields.read_body(wire.hello, "chain", Chain),
            )
        case "heartbeat":
            return m.Heartbeat()
        case "failed":
            return m.TaskFailed(
                fields.read_generation(wire.failed.generation, "failed.generation"),
                fields.read_reason(wire.failed.reason, "failed.reason"),
                fields.read_log(wire.failed.log, "failed.log"),
            )
        case "validation":
            return m.ValidationResult(
                fields.read_generation(wire.validation.generation, "validation.generation"),
                reading.count(wire.validation.samples, "validation.samples"),
                reading.metrics(wire.validation.metrics.values, "validation.metrics"),
                fields.read_release(wire.validation.release, "validation.release"),
            )
        case "word":
            return m.SaidByClient(read_word_from_client(wire.word.kind, wire.word.body))
        case _:
            raise _empty("FromClient")


def write_to_client(message: m.ToClient) -> pb.ToClient:
    """Write what a combiner says to a client."""
    match message:
        case m.ClientWelcome(combiner, heartbeat_s):
            return pb.ToClient(welcome=pb.ClientWelcome(combiner=combiner, heartbeat_s=heartbeat_s))
        case m.TrainTask():
            return pb.ToClient(train=rounds.write_train_task(message))
        case m.ValidateTask(order):
            return pb.ToClient(validate=pb.ValidateTask(order=rounds.write_validation_order(order)))
        case m.TaskCancelled(generation, reason):
            return pb.ToClient(cancelled=pb.TaskCancelled(generation=generation, reason=fields.cut_reason(reason)))
        case m.RoundCommitted():
            return pb.ToClient(committed=rounds.write_committed(message))
        case m.GoElsewhere(reason):
            return pb.ToClient(go_elsewhere=pb.GoElsewhere(reason=fields.cut_reason(reason)))
        case m.Heartbeat():
            return pb.ToClient(heartbeat=pb.Heartbeat())
        case m.TurnCame():
            return pb.ToClient(turn_came=pb.TurnCame())
        case m.SaidToClient(word):
            return pb.ToClient(word=masked.write_word(word))
        case m.PolicyNews():
            return pb.ToClient(policy=masked.write_policy(message))


def read_to_client(wire: pb.ToClient) -> m.ToClient:
    """Read what a combiner says to a client."""
    match wire.WhichOneof("message"):
        case "welcome":
            return m.ClientWelcome(
                CombinerName(reading.name(wire.welcome.combiner, "welcome.combiner")),
                reading.seconds(wire.welcome.heartbeat_s, "welcome.heartbeat_s"),
            )
        case "train":
            return rounds.read_train_task(wire.train)
        case "validate":
            return m.ValidateTask(rounds.read_validation_order(wire.validate.order))
        case "cancelled":
            return m.TaskCancelled(
                fields.read_generation(wire.cancelled.generation, "cancelled.generation"),
                fields.read_reason(wire.cancelled.reason, "cancelled.reason"),
            )
        case "committed":
            return rounds.read_committed(wire.committed)
        case "go_elsewhere":
            return m.GoElsewhere(fields.read_reason(wire.go_elsewhere.reason, "go_elsewhere.reason"))
        case "heartbeat":
            return m.Heartbeat()
        case "turn_came":
            return m.TurnCame()
        case "word":
            return m.SaidToClient(read_word_to_client(wire.word.kind, wire.word.body))
        case "policy":
            return masked.read_policy(wire.policy)
        case _:
            raise _empty("ToClient")


# ---- unary messages


def write_assign_request(request: m.AssignRequest) -> pb.AssignRequest:
    """Write a client's question where to attach."""
    return pb.AssignRequest(
        client=request.client,
        name=request.name,
        preferred_combiner=request.preferred_combiner,
        software=request.software,
        chain=fields.write_body(request.chain),
    )


def read_assign_request(wire: pb.AssignRequest) -> m.AssignRequest:
    """Read a client's question where to attach."""
    preferred = wire.preferred_combiner
    return m.AssignRequest(
        client=fields.read_client(wire.client, "client"),
        name=ClientName(reading.name(wire.name, "name")),
        preferred_combiner=reading.name(preferred, "preferred_combiner") if preferred else "",
        software=_read_software(wire.software, "software"),
        chain=fields.read_body(wire, "chain", Chain),
    )


def write_assignment(assignment: m.Assignment) -> pb.Assignment:
    """Write where a client attaches."""
    return pb.Assignment(
        combiner=assignment.combiner,
        address=assignment.address,
        authority_pem=assignment.authority_pem,
        ticket=assignment.ticket,
        valid_s=assignment.valid_s,
    )


def read_assignment(wire: pb.Assignment) -> m.Assignment:
    """Read where a client attaches."""
    return m.Assignment(
        combiner=CombinerName(reading.name(wire.combiner, "combiner")),
        address=reading.address(wire.address, "address"),
        authority_pem=reading.raw(wire.authority_pem, "authority_pem", most=_MOST_PEM_BYTES),
        ticket=reading.text(wire.ticket, "ticket", least=16, most=256),
        valid_s=reading.seconds(wire.valid_s, "valid_s"),
    )


def write_update_header(header: m.UpdateHeader) -> pb.UpdateHeader:
    """Write what a client says of its update."""
    return pb.UpdateHeader(
        generation=header.generation,
        upload_id=header.upload_id,
        size=header.size,
        sha256=fields.raw_digest(header.sha256),
        samples=header.samples,
        metrics=pb.Metrics(values=header.metrics),
        release=fields.write_release(header.release),
        masked=fields.write_body(header.masked),
    )


def read_update_header(wire: pb.UpdateHeader) -> m.UpdateHeader:
    """Read what a client says of its update: how many samples, or, of a masked one, everything but that."""
    upload = fields.read_body(wire, "masked", MaskedUpload)
    if upload is not None and wire.samples:
        raise reading.malformed("header.samples", "is said of a masked update, whose weight is masked")
    return m.UpdateHeader(
        generation=fields.read_generation(wire.generation, "header.generation"),
        upload_id=reading.hex_id(wire.upload_id, "header.upload_id"),
        size=reading.count(wire.size, "header.size", least=1),
        sha256=reading.digest(wire.sha256, "header.sha256"),
        samples=reading.count(wire.samples, "header.samples", least=1 if upload is None else 0),
        metrics=reading.metrics(wire.metrics.values, "header.metrics"),
        release=fields.read_release(wire.release, "header.release"),
        masked=upload,
    )


def write_update_receipt(receipt: m.UpdateReceipt) -> pb.UpdateReceipt:
    """Write the answer to a whole update."""
    return pb.UpdateReceipt(accepted=receipt.accepted, reason=fields.cut_reason(receipt.reason))


def read_update_receipt(wire: pb.UpdateReceipt) -> m.UpdateReceipt:
    """Read the answer to a whole update."""
    return m.UpdateReceipt(accepted=wire.accepted, reason=fields.read_reason(wire.reason, "receipt.reason"))


# ---- who is there


def _write_combiner_hello(hello: m.CombinerHello) -> pb.CombinerHello:
    return pb.CombinerHello(
        name=hello.name,
        instance=hello.instance,
        address=hello.address,
        max_clients=hello.max_clients,
        software=hello.software,
        certificate=fields.write_body(hello.certificate),
    )


def _read_combiner_hello(wire: pb.CombinerHello) -> m.CombinerHello:
    return m.CombinerHello(
        name=CombinerName(reading.name(wire.name, "hello.name")),
        instance=InstanceId(reading.hex_id(wire.instance, "hello.instance")),
        address=reading.address(wire.address, "hello.address"),
        max_clients=reading.count(wire.max_clients, "hello.max_clients", least=1),
        software=_read_software(wire.software, "hello.software"),
        certificate=fields.read_body(wire, "certificate", Signed),
    )


def _write_expect(expect: m.ExpectClient) -> pb.ExpectClient:
    return pb.ExpectClient(
        client=expect.client,
        name=expect.name,
        ticket_sha256=fields.raw_digest(expect.ticket_sha256),
        valid_s=expect.valid_s,
    )


def _read_expect(wire: pb.ExpectClient) -> m.ExpectClient:
    return m.ExpectClient(
        client=fields.read_client(wire.client, "expect.client"),
        name=ClientName(reading.name(wire.name, "expect.name")),
        ticket_sha256=reading.digest(wire.ticket_sha256, "expect.ticket_sha256"),
        valid_s=reading.seconds(wire.valid_s, "expect.valid_s"),
    )


def _read_software(software: str, field: str) -> str:
    return reading.text(software, field, most=_MOST_SOFTWARE_CHARS)


def _empty(kind: str) -> MalformedMessage:
    return reading.malformed(kind, "holds no message that this version knows")
