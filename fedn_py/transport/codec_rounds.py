"""The messages of a round's work between values and protobuf: plans, orders, partial aggregates, reports.

Reading is strict (MalformedMessage names the field). Writing cuts free texts to the length that readers take, so
that no log of a training can make a report unsendable.
"""

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

from fedn_py.identity import ClientId, Digest, Generation, SessionId
from fedn_py.protocol import messages as m
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.round_messages import CommitteeBody
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import MaskedTerms, read_word_from_client, read_word_to_client
from fedn_py.transport import reading
from fedn_py.wire.v1 import network_pb2 as pb

_MOST_LOGS_CHARS = 512 * 1024
"""What the logs of one report may come to: beyond it they are left out, the reasons stay."""

_RELEASE_TO_WIRE: dict[m.MetricsRelease, pb.MetricsRelease] = {
    "client": pb.METRICS_RELEASE_CLIENT,
    "mean": pb.METRICS_RELEASE_MEAN,
    "none": pb.METRICS_RELEASE_NONE,
}
_RELEASE_FROM_WIRE: dict[int, m.MetricsRelease] = {wire: release for release, wire in _RELEASE_TO_WIRE.items()}
_MASKING_TO_WIRE: dict[m.Masking, pb.Masking] = {"none": pb.MASKING_NONE, "pet": pb.MASKING_PET}
_MASKING_FROM_WIRE: dict[int, m.Masking] = {wire: masking for masking, wire in _MASKING_TO_WIRE.items()}
_PHASES = ("preparing", "committee", "collecting", "reporting", "validating")

BodyT = TypeVar("BodyT", bound=Body)


# ---- fields that several messages have


def raw_digest(digest: Digest | str) -> bytes:
    """Return a digest's 32 bytes."""
    return bytes.fromhex(digest)


def cut_reason(reason: str) -> str:
    """Return a reason that fits a message: valid text, its beginning where it is too long."""
    return _valid_text(reason)[: reading.MOST_REASON_CHARS]


def cut_log(log: str) -> str:
    """Return a log that fits a message: valid text, its end where it is too long."""
    return _valid_text(log)[-reading.MOST_LOG_CHARS :]


def read_reason(reason: str, field: str) -> str:
    """Read a sentence for people."""
    return reading.text(reason, field, most=reading.MOST_REASON_CHARS)


def read_log(log: str, field: str) -> str:
    """Read captured lines."""
    return reading.text(log, field, most=reading.MOST_LOG_CHARS)


def read_client(client: str, field: str) -> ClientId:
    """Read a client's identity."""
    return ClientId(reading.hex_id(client, field))


def read_clients(clients: Iterable[str], field: str) -> tuple[ClientId, ...]:
    """Read a bounded list of clients."""
    return tuple(read_client(client, field) for client in reading.few(clients, field))


def read_session(session: str, field: str) -> SessionId:
    """Read a session's id."""
    return SessionId(reading.hex_id(session, field))


def read_generation(generation: int, field: str) -> Generation:
    """Read the number of an order; they begin at 1."""
    return Generation(reading.count(generation, field, least=1))


def write_release(release: m.MetricsRelease) -> pb.MetricsRelease:
    """Write how far metrics may go."""
    return _RELEASE_TO_WIRE[release]


def read_release(release: int, field: str) -> m.MetricsRelease:
    """Read how far metrics may go; an unknown rule is no rule, so it is refused."""
    if release not in _RELEASE_FROM_WIRE:
        raise reading.malformed(field, f"is {release}, which is no known release of metrics")
    return _RELEASE_FROM_WIRE[release]


def write_body(body: Body | None) -> bytes | None:
    """Write the body of a masked round, as a field that may be absent."""
    return None if body is None else body.encode()


def read_body(wire: Message, field: str, kind: type[BodyT]) -> BodyT | None:
    """Read the body of a masked round from a field that may be absent; raises the masked MalformedMessage."""
    return kind.decode(getattr(wire, field)) if wire.HasField(field) else None


# ---- plans and orders


def write_plan(plan: m.RoundPlan) -> pb.RoundPlan:
    """Write a round's plan."""
    return pb.RoundPlan(
        session=plan.session,
        session_number=plan.session_number,
        round_number=plan.round_number,
        attempt=plan.attempt,
        base_model=raw_digest(plan.base_model),
        package=raw_digest(plan.package),
        parameters=plan.parameters,
        masking=_MASKING_TO_WIRE[plan.masking],
        update_timeout_s=plan.update_timeout_s,
    )


def read_plan(wire: pb.RoundPlan) -> m.RoundPlan:
    """Read a round's plan."""
    if wire.masking not in _MASKING_FROM_WIRE:
        raise reading.malformed("plan.masking", f"is {wire.masking}, which is no masking known here")
    return m.RoundPlan(
        session=read_session(wire.session, "plan.session"),
        session_number=reading.count(wire.session_number, "plan.session_number", least=1),
        round_number=reading.count(wire.round_number, "plan.round_number", least=1),
        attempt=reading.count(wire.attempt, "plan.attempt", least=1),
        base_model=reading.digest(wire.base_model, "plan.base_model"),
        package=reading.digest(wire.package, "plan.package"),
        parameters=reading.json_object(wire.parameters, "plan.parameters"),
        masking=_MASKING_FROM_WIRE[wire.masking],
        update_timeout_s=reading.seconds(wire.update_timeout_s, "plan.update_timeout_s"),
    )


def write_cell_order(order: m.CellOrder) -> pb.CellOrder:
    """Write an order for a cell's sum."""
    return pb.CellOrder(
        plan=write_plan(order.plan),
        generation=order.generation,
        clients=order.clients,
        updates_wanted=order.updates_wanted,
        masked=write_body(order.masked),
    )


def read_cell_order(wire: pb.CellOrder) -> m.CellOrder:
    """Read an order for a cell's sum."""
    return m.CellOrder(
        plan=read_plan(wire.plan),
        generation=read_generation(wire.generation, "order.generation"),
        clients=read_clients(wire.clients, "order.clients"),
        updates_wanted=reading.count(wire.updates_wanted, "order.updates_wanted"),
        masked=_read_terms(wire, wire.plan),
    )


def write_train_task(task: m.TrainTask) -> pb.TrainTask:
    """Write a client's task to train."""
    return pb.TrainTask(plan=write_plan(task.plan), generation=task.generation, masked=write_body(task.masked))


def read_train_task(wire: pb.TrainTask) -> m.TrainTask:
    """Read a client's task to train."""
    return m.TrainTask(
        read_plan(wire.plan), read_generation(wire.generation, "train.generation"), _read_terms(wire, wire.plan)
    )


def _read_terms(wire: pb.CellOrder | pb.TrainTask, plan: pb.RoundPlan) -> MaskedTerms | None:
    """Read what was signed of an order or a task, which is there exactly when its round is masked."""
    if wire.HasField("masked") != (plan.masking != pb.MASKING_NONE):
        raise reading.malformed("masked", "does not fit the masking of the plan")
    return read_body(wire, "masked", MaskedTerms)


def write_validation_order(order: m.ValidationOrder) -> pb.ValidationOrder:
    """Write an order to validate a model."""
    return pb.ValidationOrder(
        generation=order.generation,
        session=order.session,
        round_number=order.round_number,
        model=raw_digest(order.model),
        package=raw_digest(order.package),
        parameters=order.parameters,
        timeout_s=order.timeout_s,
        clients=order.clients,
    )


def read_validation_order(wire: pb.ValidationOrder) -> m.ValidationOrder:
    """Read an order to validate a model; round 0 is the seed model."""
    return m.ValidationOrder(
        generation=read_generation(wire.generation, "validation.generation"),
        session=read_session(wire.session, "validation.session"),
        round_number=reading.count(wire.round_number, "validation.round_number"),
        model=reading.digest(wire.model, "validation.model"),
        package=reading.digest(wire.package, "validation.package"),
        parameters=reading.json_object(wire.parameters, "validation.parameters"),
        timeout_s=reading.seconds(wire.timeout_s, "validation.timeout_s"),
        clients=read_clients(wire.clients, "validation.clients"),
    )


def write_committed(committed: m.RoundCommitted) -> pb.RoundCommitted:
    """Write that a round has made a model."""
    return pb.RoundCommitted(
        session=committed.session, round_number=committed.round_number, model=raw_digest(committed.model)
    )


def read_committed(wire: pb.RoundCommitted) -> m.RoundCommitted:
    """Read that a round has made a model."""
    return m.RoundCommitted(
        session=read_session(wire.session, "committed.session"),
        round_number=reading.count(wire.round_number, "committed.round_number"),
        model=reading.digest(wire.model, "committed.model"),
    )


# ---- answers to orders


def write_summary(summary: m.MetricsSummary) -> pb.MetricsSummary:
    """Write metrics of several clients."""
    return pb.MetricsSummary(
        weighted_sums=summary.weighted_sums,
        weights=summary.weights,
        by_client={client: pb.Metrics(values=values) for client, values in summary.by_client.items()},
    )


def read_summary(wire: pb.MetricsSummary, field: str) -> m.MetricsSummary:
    """Read metrics of several clients; each weighted sum has its weight."""
    sums = reading.metrics(wire.weighted_sums, f"{field}.weighted_sums")
    if set(sums) != set(wire.weights):
        raise reading.malformed(f"{field}.weights", "names other metrics than weighted_sums")
    by_client = reading.few(wire.by_client.items(), f"{field}.by_client")
    return m.MetricsSummary(
        weighted_sums=sums,
        weights={
            metric: reading.count(weight, f"{field}.weights[{metric!r}]") for metric, weight in wire.weights.items()
        },
        by_client={
            read_client(client, f"{field}.by_client"): reading.metrics(metrics.values, f"{field}.by_client[{client!r}]")
            for client, metrics in by_client
        },
    )


def write_partial(partial: m.PartialAggregate) -> pb.PartialAggregate:
    """Write a cell's answer."""
    return pb.PartialAggregate(
        generation=partial.generation,
        sum_object=None if partial.sum_object is None else raw_digest(partial.sum_object),
        weight=partial.weight,
        included=[
            pb.Contribution(client=one.client, samples=one.samples, update_sha256=raw_digest(one.update_sha256))
            for one in partial.included
        ],
        excluded=_write_exclusions(partial.excluded),
        training_metrics=write_summary(partial.training_metrics),
    )


def read_partial(wire: pb.PartialAggregate) -> m.PartialAggregate:
    """Read a cell's answer: it has a sum exactly when somebody is in it."""
    included = tuple(_read_contribution(one) for one in reading.few(wire.included, "partial.included"))
    if wire.HasField("sum_object") != bool(included):
        raise reading.malformed("partial.sum_object", f"does not fit {len(included)} included clients")
    return m.PartialAggregate(
        generation=read_generation(wire.generation, "partial.generation"),
        sum_object=reading.digest(wire.sum_object, "partial.sum_object") if included else None,
        weight=reading.count(wire.weight, "partial.weight"),
        included=included,
        excluded=_read_exclusions(wire.excluded, "partial.excluded"),
        training_metrics=read_summary(wire.training_metrics, "partial.training_metrics"),
    )


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
        excluded=_write_exclusions(partial.excluded),
        training_metrics=write_summary(partial.training_metrics),
    )


def read_masked_partial(wire: pb.MaskedPartial) -> m.MaskedPartial:
    """Read a masked cell's answer."""
    return m.MaskedPartial(
        generation=read_generation(wire.generation, "masked_partial.generation"),
        closed=read_body(wire, "closed", Signed),
        included=reading.count(wire.included, "masked_partial.included"),
        excluded=_read_exclusions(wire.excluded, "masked_partial.excluded"),
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


def write_validation_report(report: m.ValidationReport) -> pb.ValidationReport:
    """Write what a cell's clients say of a model."""
    return pb.ValidationReport(
        generation=report.generation,
        validated=report.validated,
        samples=report.samples,
        metrics=write_summary(report.metrics),
        excluded=_write_exclusions(report.excluded),
    )


def read_validation_report(wire: pb.ValidationReport) -> m.ValidationReport:
    """Read what a cell's clients say of a model."""
    return m.ValidationReport(
        generation=read_generation(wire.generation, "report.generation"),
        validated=reading.count(wire.validated, "report.validated"),
        samples=reading.count(wire.samples, "report.samples"),
        metrics=read_summary(wire.metrics, "report.metrics"),
        excluded=_read_exclusions(wire.excluded, "report.excluded"),
    )


def write_progress(progress: m.RoundProgress) -> pb.RoundProgress:
    """Write how far a cell is."""
    return pb.RoundProgress(
        generation=progress.generation,
        phase=progress.phase,
        included=progress.included,
        training=progress.training,
        excluded=progress.excluded,
    )


def read_progress(wire: pb.RoundProgress) -> m.RoundProgress:
    """Read how far a cell is."""
    if wire.phase not in _PHASES:
        raise reading.malformed("progress.phase", f"is {wire.phase[:80]!r}, must be one of {', '.join(_PHASES)}")
    return m.RoundProgress(
        generation=read_generation(wire.generation, "progress.generation"),
        phase=wire.phase,
        included=reading.count(wire.included, "progress.included"),
        training=reading.count(wire.training, "progress.training"),
        excluded=reading.count(wire.excluded, "progress.excluded"),
    )


def _read_contribution(wire: pb.Contribution) -> m.Contribution:
    return m.Contribution(
        client=read_client(wire.client, "included.client"),
        samples=reading.count(wire.samples, "included.samples", least=1),
        update_sha256=reading.digest(wire.update_sha256, "included.update_sha256"),
    )


def _write_exclusions(exclusions: Iterable[m.Exclusion]) -> list[pb.Exclusion]:
    written, room = [], _MOST_LOGS_CHARS
    for one in exclusions:
        log = cut_log(one.log)
        log = log if len(log) <= room else ""
        room -= len(log)
        written.append(pb.Exclusion(client=one.client, reason=cut_reason(one.reason), log=log))
    return written


def _read_exclusions(wire: Iterable[pb.Exclusion], field: str) -> tuple[m.Exclusion, ...]:
    return tuple(
        m.Exclusion(
            client=read_client(one.client, f"{field}.client"),
            reason=read_reason(one.reason, f"{field}.reason"),
            log=read_log(one.log, f"{field}.log"),
        )
        for one in reading.few(wire, field)
    )


def _valid_text(text: str) -> str:
    # Captured output may hold lone surrogates, which are no text on the wire.
    return text.encode("utf-8", "replace").decode("utf-8")
