"""What a client believes before it does anything for a masked task, and what it says where it does not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import masked_world as world
import pytest
from masked_site import (
    FakeCombiner,
    Site,
    a_history,
    a_masked_plan,
    a_state_folder,
    a_task,
    an_order,
    policy_news,
    running,
    terms_of,
)
from masked_world import CLIENTS, OPERATOR, REDUCER, key_of

from fedn_py.client import masked_side
from fedn_py.client.state_folder import StateFolder
from fedn_py.identity import Digest, Generation, SessionId
from fedn_py.protocol.client import Cancelled, Committed, Detached, Tasked
from fedn_py.protocol.masked.round_messages import (
    Abort,
    Echo,
    NotOpened,
    OpenSum2,
)
from fedn_py.protocol.masked.round_messages import RoundCommitted as SignedCommit
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.masked.words import Boxes, KeyOffer, Links, LinksWanted
from fedn_py.protocol.messages import RoundCommitted, TaskCancelled, TrainTask


def told(story: Callable[[Site], Awaitable[None]], path: Path, **running_with: Any) -> None:
    """Tell a story about one client."""

    async def main() -> None:
        async with running(path, **running_with) as site:
            await story(site)

    asyncio.run(main())


async def refusal(site: Site, task: TrainTask) -> str:
    """Give a task that is refused, and return by which name."""
    before = len(site.combiner.failures)
    site.hear(task)
    await site.settled()
    (failure,) = site.combiner.failures[before:]
    assert failure.generation == task.generation
    assert ": " in failure.reason
    assert Tasked(task) not in site.events
    return failure.reason.partition(":")[0]


# ---- policy


def test_the_newest_policy_counts_after_a_restart_too_and_no_older_one(tmp_path: Path) -> None:
    newer = world.a_policy(version=4, g_min=4)

    async def main() -> None:
        combiner = FakeCombiner()
        async with running(tmp_path / "anna", combiner=combiner) as site:
            site.hear(policy_news(newer))
            assert await refusal(site, a_task()) == "WrongPolicy"
        async with running(tmp_path / "anna", combiner=combiner) as site:  # is told the older one again
            assert await refusal(site, a_task()) == "WrongPolicy"
            plan = a_masked_plan(policy_hash=world.policy_hash(newer.encode()))
            assert await refusal(site, a_task(plan)) == "PlanBelowFloor"
            await site.offered(a_task(plan, an_order(plan, g_min=4)))

    asyncio.run(main())


@pytest.mark.parametrize(
    "news",
    [
        policy_news(world.a_policy(version=9, deployment=b"E" * 16)),
        policy_news(world.a_policy(version=9, not_after=1)),
        replace(policy_news(), policy=sign(world.a_policy(version=9), REDUCER)),
        replace(policy_news(), policy=replace(sign(world.a_policy(version=9), OPERATOR), signature=bytes(64))),
    ],
)
def test_a_policy_that_is_not_the_operator_s_changes_nothing(tmp_path: Path, news: Any) -> None:
    async def story(site: Site) -> None:
        site.hear(news)
        await site.offered(a_task())

    told(story, tmp_path / "anna")


def test_no_masked_task_is_done_before_there_is_a_policy_or_after_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(site: Site) -> None:
        assert await refusal(site, a_task()) == "PolicyUnknown"
        policy = world.a_policy(not_after=world.NOW_S)
        site.hear(policy_news(policy))
        await site.settled()
        monkeypatch.setattr(world, "NOW_S", policy.not_after + 3 * world.DAY_S // 2)  # certificates are in their grace
        plan = a_masked_plan(policy_hash=world.policy_hash(policy.encode()))
        assert await refusal(site, a_task(plan)) == "Expired"
        assert "a policy ended" in site.combiner.failures[-1].reason

    told(story, tmp_path / "anna", policy=None)


def test_a_client_that_was_revoked_says_so(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        policy = world.a_policy(version=4, revoked_clients=(CLIENTS[0].id,))
        site.hear(policy_news(policy))
        plan = a_masked_plan(policy_hash=world.policy_hash(policy.encode()))
        assert await refusal(site, a_task(plan)) == "Revoked"

    told(story, tmp_path / "anna")


# ---- plans


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"session": SessionId("00" * 16)}, "session"),
        ({"session_number": 2}, "session_number"),
        ({"round_number": 2}, "round"),
        ({"attempt": 2}, "attempt"),
        ({"base_model": Digest("0" * 64)}, "base model"),
        ({"package": Digest("0" * 64)}, "package"),
        ({"parameters": '{"rate": 100}'}, "parameters"),
        ({"masking": "none"}, "masking"),
    ],
)
def test_a_task_that_differs_from_the_signed_plan_in_anything_is_refused(
    tmp_path: Path, changed: dict[str, Any], field: str
) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        altered = replace(task, plan=replace(task.plan, **changed))
        assert await refusal(site, altered) == "PlanMismatch"
        assert field in site.combiner.failures[-1].reason
        assert site.combiner.words(KeyOffer) == []

    told(story, tmp_path / "anna")


def test_a_masked_task_of_a_package_that_the_site_does_not_run_is_refused(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        assert await refusal(site, a_task(a_masked_plan(package_sha256=b"o" * 32))) == "PackageNotAllowed"
        assert site.combiner.words(KeyOffer) == []
        assert site.folder.memory.seen() == {}
        await site.offered(a_task())

    told(story, tmp_path / "anna", allowed_packages=(Digest(world.PACKAGE.hex()), Digest("0" * 64)))


def test_a_task_of_another_generation_or_without_what_was_signed_is_refused(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        assert await refusal(site, replace(task, generation=Generation(2))) == "PlanMismatch"
        assert await refusal(site, replace(task, masked=None)) == "PlanMismatch"
        await site.offered(replace(task, generation=Generation(1 + 2**32)))  # the order has its low 32 bits

    told(story, tmp_path / "anna")


def forged(task: TrainTask, **changed: Any) -> TrainTask:
    assert task.masked is not None
    return replace(task, masked=replace(task.masked, **changed))


def test_a_plan_that_is_not_a_certified_reducer_s_or_promises_too_little_is_refused(tmp_path: Path) -> None:
    stranger = key_of("a stranger")
    plan = a_masked_plan()

    async def story(site: Site) -> None:
        task = a_task()
        assert await refusal(site, forged(task, plan=sign(plan, stranger))) == "WrongSigner"
        assert await refusal(site, forged(task, order=sign(an_order(plan), stranger))) == "WrongSigner"
        combiners = world.a_certificate(role="combiner")
        assert await refusal(site, forged(task, certificate=combiners)) == "WrongContext"
        later = sign(a_masked_plan(round=4), stranger)
        assert await refusal(site, forged(task, plan=later)) == "WrongSigner"
        assert site.combiner.words(LinksWanted) == []
        made_up = world.a_certificate(stranger, operator=stranger)
        assert await refusal(site, forged(task, certificate=made_up)) == "UnknownOperator"
        assert await refusal(site, a_task(plan, an_order(plan, g_min=2))) == "PlanBelowFloor"
        assert await refusal(site, a_task(a_masked_plan(rpk=bytes(32)))) == "BadRoundKey"
        assert await refusal(site, a_task(a_masked_plan(beacon=b"x" * 32))) == "WrongBeacon"
        assert await refusal(site, a_task(a_masked_plan(n_max=2**20, weight_cap=2**20))) == "PlanBelowFloor"
        await site.offered(task)

    told(story, tmp_path / "anna")


def of_session(number: int) -> TrainTask:
    """The first task of a session."""
    beacon = world.first_beacon(world.DEPLOYMENT, number, world.EPOCH_SEED)
    return a_task(a_masked_plan(session=bytes([number]) * 16, session_number=number, beacon=beacon))


def test_sessions_that_nothing_was_sent_in_make_no_further_number_near(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "anna") as site:
            for step in range(12):  # none of them is trained, which costs a reducer nothing
                site.hear(of_session(1 + 16 * step))
            await site.settled()
            assert [one.reason.partition(":")[0] for one in site.combiner.failures] == ["SessionTooFar"] * 10
            assert await refusal(site, of_session(18)) == "SessionTooFar"
            task = of_session(17)
            await site.formed(task)
            await site.send(task)
        async with running(tmp_path / "anna") as site:
            assert await refusal(site, of_session(34)) == "SessionTooFar"
            assert await refusal(site, of_session(33)) == "MayBeOpened"  # near enough; it is the same work

    asyncio.run(main())


def test_a_session_number_far_from_the_known_ones_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "anna") as site:
            await site.offered(of_session(5))
        async with running(tmp_path / "anna") as site:
            assert await refusal(site, of_session(22)) == "SessionTooFar"
            later = a_masked_plan(session=b"T" * 16, session_number=22, round=4)
            assert await refusal(site, a_task(later)) == "SessionTooFar"
            assert site.combiner.words(LinksWanted) == []
            await site.offered(of_session(21))

    asyncio.run(main())


def test_a_reducer_s_word_counts_until_the_last_of_its_certificates_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, ends = world.NOW_S, world.NOW_S + world.DAY_S

    async def main() -> None:
        async with running(tmp_path / "anna") as site:
            await site.offered(a_task())
        async with running(tmp_path / "anna") as site:
            for later, known in ((ends + world.DAY_S, True), (ends + world.DAY_S + 1, False), (now_s, True)):
                monkeypatch.setattr(world, "NOW_S", later)
                assert site.beliefs.reducers == (world.REDUCERS if known else frozenset())
            renewed = world.a_certificate(not_after=ends + 9 * world.DAY_S)
            for certificate in (renewed, world.a_certificate(not_after=ends)):  # the older one takes nothing back
                await site.offered(forged(a_task(), certificate=certificate))
            monkeypatch.setattr(world, "NOW_S", ends + 2 * world.DAY_S)
            assert site.beliefs.reducers == world.REDUCERS

    asyncio.run(main())


# ---- rounds that were missed


async def asked(site: Site, count: int) -> LinksWanted:
    await site.combiner.until(lambda: len(site.combiner.words(LinksWanted)) >= count)
    return site.combiner.words(LinksWanted)[count - 1]


def test_links_of_missed_rounds_are_asked_for_until_they_lead_to_the_plan_and_are_remembered(tmp_path: Path) -> None:
    links, plan_of = a_history(6)

    async def main() -> None:
        async with running(tmp_path / "anna") as site:
            site.hear(a_task(plan_of(6)))
            assert await asked(site, 1) == LinksWanted(world.SESSION, 1)
            site.hear_words(Links(b"T" * 16, tuple(links)), Links(world.SESSION, tuple(links[:2])))
            assert await asked(site, 2) == LinksWanted(world.SESSION, 3)
            site.hear_words(Links(world.SESSION, tuple(links[2:4])))
            await site.combiner.until(lambda: bool(site.combiner.words(KeyOffer)))
        async with running(tmp_path / "anna") as site:  # one round on: the plan itself brings what leads there
            site.hear(a_task(plan_of(7)))
            await site.combiner.until(lambda: bool(site.combiner.words(KeyOffer)))
            assert site.combiner.words(LinksWanted) == []

    asyncio.run(main())


def test_links_that_were_tampered_with_or_do_not_come_leave_the_plan_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links, plan_of = a_history(4)
    monkeypatch.setattr(masked_side, "_LINKS_WITHIN_S", 0.05)

    async def story(site: Site) -> None:
        assert await refusal(site, a_task(plan_of(4))) == "WrongBeacon"  # nobody has them
        site.hear(a_task(plan_of(4)))
        await asked(site, 2)
        commit = replace(SignedCommit.decode(links[0].commit.body), model_sha256=b"x" * 32)
        site.hear_words(
            Links(world.SESSION, (replace(links[0], commit=sign(commit, key_of("a stranger"))), *links[1:]))
        )
        await site.settled()
        assert site.combiner.failures[-1].reason.startswith("WrongBeacon: ")
        assert site.combiner.words(KeyOffer) == []

    told(story, tmp_path / "anna")


def test_a_newer_task_a_cancelled_one_and_a_lost_combiner_end_the_wait_for_links(tmp_path: Path) -> None:
    _, plan_of = a_history(4)

    async def story(site: Site) -> None:
        old = a_task(plan_of(4))
        for number, end in enumerate((TaskCancelled(Generation(1), "over"), a_task(plan_of(1))), start=1):
            site.hear(old)
            await asked(site, number)
            site.hear(end)
            await site.settled()
            assert len(site.combiner.failures) == number
        site.hear(old)
        await asked(site, 3)
        site.hearing.detached()
        await site.settled()
        assert Detached() in site.events
        assert Cancelled(TaskCancelled(Generation(1), "over")) in site.events

    told(story, tmp_path / "anna")


# ---- whatever comes


def test_words_of_nobody_s_making_end_nothing(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        stranger = key_of("a stranger")
        site.hear_words(
            sign(NotOpened(b"x" * 32, "lie"), stranger),
            sign(Abort(b"x" * 32, "lie"), stranger),
            replace(sign(Abort(b"x" * 32, "lie"), stranger), signature=bytes(64)),
            replace(sign(Echo(b"x" * 32, b"y" * 32), stranger), body=b"short"),
            sign(OpenSum2(b"x" * 32, b"y" * 32, 3), stranger),
            Boxes(b"x" * 32, ()),
            world.Included(replace(world.an_opening(b"x" * 32, ()), body=b"short"), ()),
            Links(b"T" * 16, ()),
        )
        site.hear(RoundCommitted(SessionId("no hex"), 1, Digest("0" * 64)))
        await site.offered(a_task())
        assert Committed(RoundCommitted(SessionId("no hex"), 1, Digest("0" * 64))) in site.events

    told(story, tmp_path / "anna")


def test_cells_that_are_over_are_let_go(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        for attempt in range(1, 31):
            plan = a_masked_plan(attempt=attempt)
            await site.formed(a_task(plan, an_order(plan, generation=attempt)))
        assert len(site.side._cells) < 12

    told(story, tmp_path / "anna")


# ---- what people and machines can read


def test_nothing_of_a_round_that_is_secret_or_a_sample_count_is_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedn_py.client import secret_bytes

    monkeypatch.setenv("NO_COLOR", "1")
    drawn: list[bytes] = []
    token_bytes = secret_bytes.secrets.token_bytes

    def noted(size: int) -> bytes:
        drawn.append(token_bytes(size))
        return drawn[-1]

    monkeypatch.setattr(secret_bytes.secrets, "token_bytes", noted)
    logging.getLogger().setLevel(logging.DEBUG)

    async def story(site: Site) -> None:
        task = a_task()
        committee = await site.seated(task)
        await site.send(task, site.plain_update(samples=31_337, training={"loss": 0.271828}))
        ((_, content),) = site.combiner.uploads
        uploads = [world.an_upload(terms_of(task), committee, client) for client in CLIENTS[1:5]]
        site.hear_words(Boxes(committee.ctx, tuple(one.box_for(0, 0) for one in uploads)))
        site.hear_words(world.included(committee, uploads), world.included(committee, uploads[:3]))
        second = a_masked_plan(attempt=2)
        site.hear(a_task(second, an_order(second, generation=2)))
        await site.settled()
        drawn.append(content[:16])

    told(story, tmp_path / "anna", release="none")
    said = "".join(capsys.readouterr())
    for phase in ("drawn to serve", "serves as a sum participant", "is masked", "answer for this slot", "sits out"):
        assert phase in said
    assert "31337" not in said
    assert "0.271828" not in said
    assert len(drawn) > 10
    with StateFolder(tmp_path / "anna") as folder:
        drawn += [bytes(folder.registration.key), *(world.seeds_of(one, 2)[0] for one in CLIENTS[1:5])]
    for secret in drawn:
        assert secret.hex()[:16] not in said
        assert repr(secret)[2:-1] not in said


def test_the_folder_of_another_client_of_the_world_is_made_once(tmp_path: Path) -> None:
    a_state_folder(tmp_path / "bert", CLIENTS[1])
    with StateFolder(tmp_path / "bert") as folder:
        assert folder.registration.client == CLIENTS[1].id.hex()
