"""A whole client between real servers in masked rounds, and started again in the middle of one."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import masked_world as world
import numpy as np
import pytest
from builders import a_plan
from grpc_network import digest_of
from masked_site import (
    PARAMETERS,
    a_masked_plan,
    a_task,
    an_order,
    checked,
    committee_of,
    opened_mean,
    policy_news,
    read_answer,
    signed_by,
    terms_of,
)
from masked_world import CLIENTS
from running_client import MODEL, PACKAGE, Network, a_join, story

from fedn_py.execution.entry_points import EntryPointFailed
from fedn_py.identity import Digest, Generation, SessionId
from fedn_py.masking.pet import MaskSum, mask_key
from fedn_py.protocol.masked.boxes import check_header, open_box
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.round_messages import Answer, BoxAck, BoxFor, Included, IncludedRow, MetricBound
from fedn_py.protocol.masked.signing import Signed, sign
from fedn_py.protocol.masked.words import Boxes, KeyOffer, StreamSent, StreamWanted
from fedn_py.protocol.messages import (
    RoundCommitted,
    SaidByClient,
    SaidToClient,
    TaskFailed,
    TrainTask,
    UpdateHeader,
    ValidateTask,
    ValidationOrder,
)

OTHERS = CLIENTS[1:4]
JOIN = a_join("site of anna")


def the_task(**changed: Any) -> TrainTask:
    terms: dict[str, Any] = {
        "base_sha256": bytes.fromhex(digest_of(MODEL)),
        "package_sha256": bytes.fromhex(digest_of(PACKAGE)),
        "params_sha256": hashlib.sha256(PARAMETERS.encode()).digest(),
        "n_parameters": 6,
    }
    plan = a_masked_plan(**{**terms, **changed})
    return a_task(plan, an_order(plan, generation=plan.attempt))


def a_plain_task(generation: int) -> TrainTask:
    """Plain work that the reducer has signed."""
    base, package = digest_of(MODEL), digest_of(PACKAGE)
    plan = a_plan(session=SessionId("ab" * 16), base_model=base, package=package)
    return signed_by(TrainTask(plan, Generation(generation)))


async def said(network: Network, kind: type[Any], signed: str = "") -> Any:
    while True:
        message = await network.combiner.told(SaidByClient)
        if isinstance(message.word, kind) and (not signed or message.word.said == signed):
            return message.word


async def offered(network: Network, task: TrainTask) -> tuple[KeyOffer, Committee]:
    """Have the client take a task, and give it a committee of itself and another client."""
    network.combiner.send(policy_news())
    network.combiner.send(task)
    offer = await said(network, KeyOffer)
    terms = terms_of(task)
    other = CLIENTS[1]
    keys = (sign(world.a_key_message(terms, other, 1), other.key),)
    body = committee_of(task, [replace(offer, keys=offer.keys), KeyOffer(terms.ctx0, other.chain, keys)])
    network.combiner.send(SaidToClient(body))
    return offer, checked(task, body)


def row_of(header: UpdateHeader, committee: Committee, n_words: int) -> IncludedRow:
    assert header.masked is not None
    verified = check_header(header.masked.header, header.masked.chain, committee, n_words, world.chains())
    return IncludedRow(verified.client.client_id, verified.hash)


def test_a_client_with_a_join_credential_takes_part_in_a_masked_round_and_serves_in_it(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        hello = await network.combiner.heard("attached")
        me = world.verify_chain(hello.chain, world.TRUST)
        assert me.client_id.hex() == hello.client
        task = the_task()
        terms = terms_of(task)
        n_words = terms.encoding.n_words
        _, committee = await offered(network, task)
        header = await network.combiner.heard("arrived")
        assert (header.samples, header.metrics, header.size) == (0, {}, 4 * n_words)
        mine = np.frombuffer(network.combiner.calls.updates[0], np.uint32)
        uploads = [world.an_upload(terms, committee, client) for client in OTHERS]

        # its boxes to itself and to the other member, and those of others to it
        seat = committee.member(me.client_id)
        assert seat is not None
        other = next(member for member in committee.members if member is not seat)
        boxes = tuple(
            BoxFor(header.masked.chain, header.masked.header, header.masked.boxes[m.slot][0]) for m in (seat, other)
        )
        network.combiner.send(
            SaidToClient(Boxes(committee.ctx, (boxes[0], *(one.box_for(seat.slot, 0) for one in uploads))))
        )
        ack = BoxAck.decode((await said(network, Signed, BoxAck.kind)).body)
        rows = sorted(
            [row_of(header, committee, n_words), *(one.row for one in uploads)], key=lambda row: row.client_id
        )
        assert sorted(ack.accepted, key=lambda row: row.client_id) == rows

        network.combiner.send(SaidToClient(Included(world.an_opening(committee.ctx, rows), tuple(rows))))
        answer = Answer.decode((await said(network, Signed, Answer.kind)).body)
        for _ in range(2):  # as often as it is asked for
            network.combiner.send(SaidToClient(StreamWanted(committee.ctx)))
            sent = await said(network, StreamSent)
            stream = network.combiner.objects.objects[Digest(sent.sha256.hex())]
        my_sum = read_answer(answer, me.client_id, stream, n_words)
        opened = open_box(boxes[1], other, CLIENTS[1].esk, committee=committee, n_words=n_words, chains=world.chains())
        of_mine = mask_of(committee, me.client_id, other.slot, opened.seed, n_words)
        its = world.slot_sum(terms, committee, CLIENTS[1], uploads) + of_mine
        partial = np.sum([mine, *(one.vector for one in uploads)], axis=0, dtype=np.uint32)
        sums = [my_sum, its] if seat.slot == 0 else [its, my_sum]
        mean, weight = opened_mean(task, partial, sums, 4)
        assert weight == 3 * 50 + 10
        exact = sum((50.0 * world.the_values(one, 6).clip(-1, 1) for one in OTHERS), 10.0 * np.ones(6)) / 160
        assert np.abs(mean - exact).max() <= terms.encoding.error_bound(4, weight)

        network.combiner.send(RoundCommitted(task.plan.session, 1, digest_of(MODEL)))
        network.combiner.send(SaidToClient(StreamWanted(committee.ctx)))
        network.combiner.send(the_task(attempt=2))  # of a round that is over: told by name, after all before is taken
        assert (await network.combiner.told(TaskFailed)).reason
        assert list((network.settings.state_dir / "masked").iterdir()) == []

    story(tmp_path, told, join=JOIN)


def mask_of(committee: Committee, client_id: bytes, slot: int, seed: bytes, n_words: int) -> np.ndarray:
    out = np.empty(n_words, np.uint32)
    MaskSum([mask_key(committee.ctx, client_id, slot, seed)]).chunk(0, out)
    return out


def test_a_client_that_is_started_again_in_its_attempt_sends_the_same_bytes_and_does_not_train(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        task = the_task()
        offer, committee = await offered(network, task)
        first = await network.combiner.heard("arrived")
        states.append((network, task, first, offer, committee))

    states: list[Any] = []
    story(tmp_path, told, join=JOIN)

    async def second(network: Network) -> None:
        await network.combiner.heard("attached")
        _, task, first, offer, committee = states[0]
        network.combiner.send(policy_news())
        network.combiner.send(task)
        assert (await said(network, KeyOffer)).keys == ()  # its keys went with the life that offered them
        terms = terms_of(task)
        keys = (sign(world.a_key_message(terms, CLIENTS[1], 1), CLIENTS[1].key),)
        body = committee_of(task, [offer, KeyOffer(terms.ctx0, CLIENTS[1].chain, keys)])
        assert checked(task, body).ctx == committee.ctx
        network.combiner.send(SaidToClient(body))
        header = await network.combiner.heard("arrived")
        assert header == first
        assert network.combiner.calls.updates == states[0][0].combiner.calls.updates
        assert network.learner.trained == []

    story(tmp_path, second, join=JOIN)


@pytest.mark.parametrize("fails", [False, True])
def test_the_base_model_is_validated_before_training_where_the_plan_sums_its_metrics(
    tmp_path: Path, fails: bool
) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        if fails:
            validated = EntryPointFailed("validate", 1, "no such entry point")
            network.learner.validate = raising(validated, network.learner)
        names = ("validate.secret-loss", "has validate.secret-loss")
        await offered(network, the_task(metrics=tuple(MetricBound(name, 1.0) for name in names)))
        await network.combiner.heard("arrived")
        assert (len(network.learner.validated), len(network.learner.trained)) == (1, 1)
        assert network.combiner.headers[0].metrics == {}

    story(tmp_path, told, join=JOIN)


def raising(fault: Exception, learner: Any) -> Any:
    async def validate(model: Path, task: Any, fetch: Any) -> Any:
        learner.validated.append(task)
        assert learner.trained == []
        raise fault

    return validate


def test_a_client_without_a_join_credential_says_so_by_name(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.send(the_task())
        failed = await network.combiner.told(TaskFailed)
        assert (failed.generation, failed.reason.partition(":")[0]) == (Generation(1), "NotRegistered")
        network.combiner.train(2)
        await network.combiner.heard("arrived")  # plain rounds are as they were
        network.combiner.validate(3)

    story(tmp_path, told)


@pytest.mark.parametrize("modes", [("pet",), ("pet", "none")])
def test_a_registered_client_takes_part_in_plain_rounds_only_where_the_policy_lets_it(
    tmp_path: Path, modes: tuple[str, ...]
) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.send(a_plain_task(1))
        assert (await network.combiner.told(TaskFailed)).reason.startswith("PolicyUnknown: ")
        network.combiner.send(policy_news(world.a_policy(modes=modes)))
        network.combiner.send(a_plain_task(2))
        if "none" in modes:
            await network.combiner.heard("arrived")
        else:
            assert (await network.combiner.told(TaskFailed)).reason.startswith("PlainRefused: ")
            assert network.combiner.calls.updates == []
            assert network.learner.trained == []

    story(tmp_path, told, join=JOIN)


@pytest.mark.parametrize("metrics", ["none", "sum", "client"])
def test_a_registered_client_shows_its_validation_only_where_the_policy_lets_it(tmp_path: Path, metrics: str) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.send(policy_news(world.a_policy(metrics=metrics)))
        model, package = digest_of(MODEL), digest_of(PACKAGE)
        order = ValidationOrder(Generation(1), SessionId("ab" * 16), 1, model, package, "{}", 30.0, ())
        network.combiner.send(ValidateTask(signed_by(order)))
        message = await network.combiner.told((TaskFailed, object))  # type: ignore[arg-type]
        if metrics == "client":
            assert message.samples == 10
        else:
            assert message.reason.startswith("ClearMetricsRefused: ")
            assert network.learner.validated == []

    story(tmp_path, told, join=JOIN)


@pytest.mark.parametrize("metrics", ["none", "sum", "client"])
def test_what_a_failing_package_says_leaves_only_where_the_policy_lets_metrics_go_by_client(
    tmp_path: Path, metrics: str
) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        policy = world.a_policy(metrics=metrics)
        network.learner.fault = EntryPointFailed("train", 1, "trained on 4211 samples", error="17 patients")
        network.combiner.send(policy_news(policy))
        network.combiner.send(the_task(policy_hash=world.policy_hash(policy.encode()), metrics_release="none"))
        failed = await network.combiner.told(TaskFailed)
        assert failed.reason.startswith("EntryPointFailed: ")
        assert ("4211" in failed.log, "17 patients" in failed.reason) == (metrics == "client",) * 2

    story(tmp_path, told, join=JOIN, release_logs=True)
