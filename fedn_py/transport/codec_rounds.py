"""The messages of a round's work between values and protobuf: plans, orders, partial aggregates, reports."""

from collections.abc import Iterable
from typing import get_args

from fedn_py.protocol import messages as m
from fedn_py.protocol.masked.words import MaskedTerms, WorkTerms
from fedn_py.transport import reading
from fedn_py.transport.codec_fields import (
    cut_reason,
    raw_digest,
    read_body,
    read_client,
    read_clients,
    read_exclusions,
    read_generation,
    read_reason,
    read_session,
    read_summary,
    write_body,
    write_exclusions,
    write_summary,
)
from fedn_py.wire.v1 import network_pb2 as pb

_MASKING_TO_WIRE: dict[m.Masking, pb.Masking] = {"none": pb.MASKING_NONE, "pet": pb.MASKING_PET}
_MASKING_FROM_WIRE: dict[int, m.Masking] = {wire: masking for masking, wire in _MASKING_TO_WIRE.items()}
_PHASES = ("preparing", "committee", "collecting", "reporting", "validating")
_CLIENT_STATES: tuple[m.ClientState, ...] = get_args(m.ClientState)

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
        signed=write_body(order.signed),
    )


def read_cell_order(wire: pb.CellOrder) -> m.CellOrder:
    """Read an order for a cell's sum."""
    return m.CellOrder(
        plan=read_plan(wire.plan),
        generation=read_generation(wire.generation, "order.generation"),
        clients=read_clients(wire.clients, "order.clients"),
        updates_wanted=reading.count(wire.updates_wanted, "order.updates_wanted"),
        masked=_read_terms(wire, wire.plan),
        signed=read_body(wire, "signed", WorkTerms),
    )


def write_train_task(task: m.TrainTask) -> pb.TrainTask:
    """Write a client's task to train."""
    return pb.TrainTask(
        plan=write_plan(task.plan),
        generation=task.generation,
        masked=write_body(task.masked),
        signed=write_body(task.signed),
    )


def read_train_task(wire: pb.TrainTask) -> m.TrainTask:
    """Read a client's task to train."""
    return m.TrainTask(
        plan=read_plan(wire.plan),
        generation=read_generation(wire.generation, "train.generation"),
        masked=_read_terms(wire, wire.plan),
        signed=read_body(wire, "signed", WorkTerms),
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
        signed=write_body(order.signed),
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
        signed=read_body(wire, "signed", WorkTerms),
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
        excluded=write_exclusions(partial.excluded),
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
        excluded=read_exclusions(wire.excluded, "partial.excluded"),
        training_metrics=read_summary(wire.training_metrics, "partial.training_metrics"),
    )


def write_validation_report(report: m.ValidationReport) -> pb.ValidationReport:
    """Write what a cell's clients say of a model."""
    return pb.ValidationReport(
        generation=report.generation,
        validated=report.validated,
        samples=report.samples,
        metrics=write_summary(report.metrics),
        excluded=write_exclusions(report.excluded),
    )


def read_validation_report(wire: pb.ValidationReport) -> m.ValidationReport:
    """Read what a cell's clients say of a model."""
    return m.ValidationReport(
        generation=read_generation(wire.generation, "report.generation"),
        validated=reading.count(wire.validated, "report.validated"),
        samples=reading.count(wire.samples, "report.samples"),
        metrics=read_summary(wire.metrics, "report.metrics"),
        excluded=read_exclusions(wire.excluded, "report.excluded"),
    )


def write_progress(progress: m.RoundProgress) -> pb.RoundProgress:
    """Write how far a cell is."""
    return pb.RoundProgress(
        generation=progress.generation,
        phase=progress.phase,
        included=progress.included,
        training=progress.training,
        excluded=progress.excluded,
        clients=[
            pb.ClientProgress(client=c.client, state=c.state, reason=cut_reason(c.reason)) for c in progress.clients
        ],
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
        clients=_read_clients_progress(wire.clients),
    )


def _read_clients_progress(wires: Iterable[pb.ClientProgress]) -> tuple[m.ClientProgress, ...]:
    return tuple(
        m.ClientProgress(
            client=read_client(wire.client, "progress.clients.client"),
            state=_read_client_state(wire.state),
            reason=read_reason(wire.reason, "progress.clients.reason"),
        )
        for wire in reading.few(wires, "progress.clients", most=m.MOST_CLIENTS_TOLD)
    )


def _read_client_state(text: str) -> m.ClientState:
    state = next((one for one in _CLIENT_STATES if one == text), None)
    if state is None:
        allowed = ", ".join(_CLIENT_STATES)
        raise reading.malformed("progress.clients.state", f"is {text[:80]!r}, must be one of {allowed}")
    return state


def _read_contribution(wire: pb.Contribution) -> m.Contribution:
    return m.Contribution(
        client=read_client(wire.client, "included.client"),
        samples=reading.count(wire.samples, "included.samples", least=1),
        update_sha256=reading.digest(wire.update_sha256, "included.update_sha256"),
    )
