"""Plain work that a combiner has made up, altered or replayed is refused by name by a registered client."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import masked_world as world
import numpy as np
import pytest
from masked_site import Site, a_plain_task, a_task, a_validation, running, signed_by, update_values
from masked_world import CLIENTS, REDUCER, key_of

from fedn_py.client.plain_work import OrderMismatch, UnsignedTask, check_plain_work, work_of_plan
from fedn_py.client.ports import Learned
from fedn_py.client.updates import KeptUpdate
from fedn_py.client.work import ClientWork
from fedn_py.errors import PeerFault
from fedn_py.identity import Digest, Generation, SessionId
from fedn_py.protocol.client import Tasked, UploadBroken
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.contexts import WrongContext, work_of
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.masked.words import KeyOffer
from fedn_py.protocol.messages import PolicyNews, TrainTask, ValidateTask, ValidationOrder, ValidationResult

OPEN = world.a_policy(version=9, modes=("pet", "none"), metrics="client")
OTHER = Digest("e" * 64)
STRANGER = key_of("a stranger")


def check(work: TrainTask | ValidationOrder, policy: Policy = OPEN, now_s: int = world.NOW_S) -> None:
    check_plain_work(work, world.TRUST, policy, now_s)


def refused(work: TrainTask | ValidationOrder, **changed: Any) -> str:
    with pytest.raises(PeerFault) as caught:
        check(work, **changed)
    assert caught.value.remedy
    return caught.value.code


# ---- what is signed


@pytest.mark.parametrize("work", [a_plain_task(), a_validation(), a_plain_task(parameters='{"rate": 0.1}')])
def test_what_the_reducer_signed_is_done_and_what_nobody_signed_is_not(work: Any) -> None:
    check(signed_by(work))
    with pytest.raises(UnsignedTask):
        check(work)


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("session", {"session": b"x" * 16}),
        ("round", {"round": 2}),
        ("attempt", {"attempt": 7}),
        ("generation", {"generation": 2 + 2**32}),
        ("model", {"model_sha256": b"x" * 32}),
        ("package", {"package_sha256": b"x" * 32}),
        ("parameters", {"params_sha256": b"x" * 32}),
    ],
)
@pytest.mark.parametrize("work", [a_plain_task(), a_validation()])
def test_an_order_for_anything_else_is_refused_and_what_differs_is_named(
    work: Any, field: str, changed: dict[str, Any]
) -> None:
    with pytest.raises(OrderMismatch, match=f": {field}$"):
        check(signed_by(work, **changed))


def test_an_order_of_another_network_or_for_other_work_is_refused() -> None:
    for work, other in ((a_plain_task(), "validate"), (a_validation(), "train")):
        for changed in ({"deployment": b"E" * 16}, {"what": other}):
            with pytest.raises(WrongContext):
                check(signed_by(work, **changed))
    train = signed_by(a_plain_task())
    assert refused(replace(a_validation(), signed=train.signed)) == "WrongContext"


def test_an_order_that_is_not_by_a_certified_reducer_is_refused() -> None:
    honest = signed_by(a_plain_task())
    assert honest.signed is not None
    assert refused(signed_by(a_plain_task(), STRANGER)) == "WrongSigner"
    for certificate, name in (
        (world.a_certificate(STRANGER, operator=STRANGER), "UnknownOperator"),
        (world.a_certificate(role="combiner"), "WrongContext"),
        (replace(world.a_certificate(), signature=bytes(64)), "BadSignature"),
    ):
        assert refused(replace(honest, signed=replace(honest.signed, certificate=certificate))) == name
    forged = replace(honest.signed, order=replace(honest.signed.order, signature=bytes(64)))
    assert refused(replace(honest, signed=forged)) == "BadSignature"
    assert refused(honest, policy=world.a_policy(revoked_servers=(bytes(REDUCER.verify_key),))) == "Revoked"
    assert refused(honest, now_s=world.NOW_S + 3 * world.DAY_S) == "Expired"


def test_a_plan_names_the_same_work_with_masks_and_without() -> None:
    assert work_of_plan(a_plain_task().plan) == work_of_plan(a_task().plan)
    plan = a_task().masked
    assert plan is not None
    params = world.Plan.decode(plan.plan.body).params_sha256
    assert work_of_plan(a_task().plan) == work_of(world.BASE, world.PACKAGE, params)


# ---- what a client does of it


async def refusals(site: Site, *work: TrainTask | ValidationOrder) -> list[str]:
    """Give tasks that are refused, and return by which names."""
    before = len(site.combiner.failures)
    tasks = [ValidateTask(one) if isinstance(one, ValidationOrder) else one for one in work]
    site.hear(*tasks)
    await site.settled()
    assert not [one for one in tasks if Tasked(one) in site.events]
    return [one.reason.partition(":")[0] for one in site.combiner.failures[before:]]


def told(story: Any, path: Path, policy: Policy | None = OPEN) -> None:
    async def main() -> None:
        async with running(path, CLIENTS[0], policy=policy) as site:
            await story(site)

    asyncio.run(main())


def test_a_registered_client_does_no_plain_work_that_a_combiner_made_up(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        train, validation = signed_by(a_plain_task()), signed_by(a_validation())
        altered = replace(train, plan=replace(train.plan, package=OTHER)), replace(validation, package=OTHER)
        replayed = replace(train, generation=Generation(3)), replace(validation, generation=Generation(3))
        assert await refusals(site, a_plain_task(), a_validation()) == ["UnsignedTask"] * 2
        assert await refusals(site, *altered, *replayed) == ["OrderMismatch"] * 4
        site.hear(train, ValidateTask(validation))
        await site.settled()
        assert Tasked(train) in site.events
        assert Tasked(ValidateTask(validation)) in site.events

    told(story, tmp_path / "anna")


def test_what_the_policy_does_not_let_be_is_refused_though_the_reducer_signed_it(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        names = await refusals(site, signed_by(a_plain_task()), signed_by(a_validation()))
        assert names == ["PlainRefused", "ClearMetricsRefused"]

    told(story, tmp_path / "anna", world.POLICY)


# ---- masked once, masked for ever


def test_work_that_was_to_be_masked_is_not_done_in_the_clear_in_any_session_after_a_restart_too(
    tmp_path: Path,
) -> None:
    plan = replace(a_task().plan, masking="none")
    elsewhere = replace(plan, session=SessionId("cd" * 16), session_number=2, round_number=9)
    plain = [signed_by(TrainTask(one, Generation(2))) for one in (plan, elsewhere)]
    further = signed_by(TrainTask(replace(plan, base_model=OTHER), Generation(2)))
    terms = {"policy_hash": world.policy_hash(OPEN.encode())}

    async def main() -> None:
        async with running(tmp_path / "anna", policy=OPEN) as site:
            await site.offered(a_task(world.a_plan(**{**terms, "params_sha256": params_of(a_task())})))
            assert await refusals(site, *plain) == ["WasMasked"] * 2
        async with running(tmp_path / "anna", policy=OPEN) as site:
            assert await refusals(site, *plain) == ["WasMasked"] * 2
            site.hear(further)
            await site.settled()
            assert Tasked(further) in site.events

    asyncio.run(main())


def test_a_masked_plan_that_was_not_believed_forbids_nothing(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        assert await refusals(site, a_task()) == ["WrongPolicy"]
        assert site.combiner.words(KeyOffer) == []
        plain = signed_by(a_plain_task())
        site.hear(plain)
        await site.settled()
        assert Tasked(plain) in site.events

    told(story, tmp_path / "anna")


def params_of(task: TrainTask) -> bytes:
    assert task.masked is not None
    return world.Plan.decode(task.masked.plan.body).params_sha256


def test_what_the_policy_forbids_while_it_is_worked_on_does_not_leave(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        train, validation = signed_by(a_plain_task()), signed_by(a_validation())
        site.hear(train, ValidateTask(validation))
        await site.settled()
        work: Any = ClientWork(None, site.combiner, None, None, release="client", release_logs=True)  # type: ignore[arg-type]
        work.attach(None, site.side)
        learned = Learned(3, {"loss": 0.5})
        work._kept = KeptUpdate(update_values(tmp_path, np.zeros(3, "<f4")), "ab" * 16, OTHER, learned)
        work._measured = (validation, learned)
        stricter = replace(OPEN, version=10, modes=("pet",), metrics="sum")
        site.hear(PolicyNews(sign(stricter, world.OPERATOR)))
        await site.settled()

        (broken,) = await work._upload(train)
        assert isinstance(broken, UploadBroken)
        work._send_metrics(validation.generation)
        assert site.combiner.uploads == []
        assert not [one for one in site.combiner.said if isinstance(one, ValidationResult)]
        assert site.combiner.failures[-1].reason.startswith("ClearMetricsRefused")

    told(story, tmp_path / "anna")
