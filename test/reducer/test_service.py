"""What REST asks: lists in pages, the state of everything, and what becomes of tokens."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from artifacts import MANIFEST, a_model, a_package, chunked
from awaiting import until
from reducer_network import ANNA, BERT, NORTH, Network, Stored, a_network

from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, SessionId
from fedn_py.protocol.masked_rounds import ANSWER_MARGIN_S
from fedn_py.protocol.messages import AssignRequest, CellOrder, DismissClient
from fedn_py.protocol.reducer_work import Gathering, Paused, Updating
from fedn_py.reducer import service
from fedn_py.reducer.control import Page
from fedn_py.reducer.control_faults import NotAuthenticated, UnknownPackage, UnknownRound, UnknownSession, UnknownToken
from fedn_py.reducer.listing import InvalidMark
from fedn_py.store.ports import StoreUnavailable
from fedn_py.transport.authentication import Caller


def in_a_network(scratch: Path, story: Callable[[Network], Awaitable[None]]) -> None:
    async def told() -> None:
        async with a_network(scratch) as network:
            await story(network)

    asyncio.run(told())


async def all_of(ask: Callable[..., Awaitable[Page[Any]]], limit: int) -> list[Any]:
    found: list[Any] = []
    after = ""
    while True:
        page = await ask(after=after, limit=limit)
        assert len(page.items) <= limit
        found += page.items
        if page.next is None:
            return found
        assert page.items
        after = page.next


# ---- lists


@pytest.mark.parametrize("limit", [1, 3, 4, 100])
def test_tokens_packages_and_models_made_at_one_instant_are_all_listed_once(tmp_path: Path, limit: int) -> None:
    async def story(network: Network) -> None:
        network.tokens._clock = network.catalogue._clock = lambda: 1_700_000_000.25
        control = network.control
        tokens = {(await control.create_token("client", f"site-{n}", 60.0))[1].id for n in range(7)}
        packages = {
            (await control.upload_package(chunked(a_package({"fedn.yaml": MANIFEST, "model.py": b"%d" % n})))).digest
            for n in range(7)
        }
        models = {(await control.upload_model(chunked(a_model({"w": ("F32", (n,))})))).digest for n in range(7)}
        for ask, wanted, key in (
            (control.tokens, tokens, "id"),
            (control.packages, packages, "digest"),
            (lambda **how: control.models(None, **how), models, "digest"),
        ):
            found = [getattr(one, key) for one in await all_of(ask, limit)]
            assert len(found) == 7
            assert set(found) == wanted

    in_a_network(tmp_path, story)


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_sessions_rounds_and_models_come_in_order_over_all_pages(tmp_path: Path, limit: int) -> None:
    async def story(network: Network) -> None:
        await network.combiner()
        for _ in range(2):
            session = await network.start_session(rounds=5)
            await network.at_rest()
        control = network.control
        assert [one.number for one in await all_of(control.sessions, limit)] == [2, 1]
        rounds = await all_of(lambda **how: control.rounds(session.id, **how), limit)
        assert [one.number for one in rounds] == [1, 2, 3, 4, 5]
        trail = await all_of(lambda **how: control.models(session.id, **how), limit)
        assert [one.number for one in trail] == [5, 4, 3, 2, 1]
        assert [one.parent for one in trail[:-1]] == [one.digest for one in trail[1:]]
        assert {(one.package, one.clients) for one in trail} == {(session.options.package, 2)}
        everything = await all_of(lambda **how: control.models(None, **how), limit)
        assert len(everything) == 11
        assert [one.created_at for one in everything] == sorted((one.created_at for one in everything), reverse=True)

    in_a_network(tmp_path, story)


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_clients_come_by_name_and_say_where_they_are(tmp_path: Path, limit: int) -> None:
    async def story(network: Network) -> None:
        await network.combiner(samples={ANNA: 10})
        caller = Caller("client", "c", (await network.tokens.create("client", "c", 60.0))[1].token.id)
        for client, name in ((BERT, "bert"), (ANNA, "anna"), (ClientId("c" * 32), "carl")):
            await network.calls.assign(AssignRequest(client, ClientName(name), "", "0.1.0"), caller)
        await network.calls.close()
        found = await all_of(network.control.clients, limit)
        assert [(one.name, one.combiner, one.connected) for one in found] == [
            ("anna", NORTH, True),
            ("bert", None, False),
            ("carl", None, False),
        ]

    in_a_network(tmp_path, story)


def test_events_are_read_from_the_newest_and_followed_from_there(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        for number in range(1, 11):
            network.events.tell("a.odd" if number % 2 else "a.even", str(number), "error" if number == 4 else "info")
        await network.events.flush()
        control = network.control
        newest = await control.events(limit=3)
        assert [event.text for event in newest.items] == ["8", "9", "10"]
        assert (await control.events(after=int(newest.next or 0), limit=3)).items == ()
        network.events.tell("a.odd", "11")
        await network.events.flush()
        assert [e.text for e in (await control.events(after=int(newest.next or 0))).items] == ["11"]
        seen: list[str] = []
        after: int | None = 0
        while after is not None:
            page = await control.events(after=after, limit=4)
            seen += [event.text for event in page.items]
            after = int(page.next) if page.next else None
        assert seen == [str(number) for number in range(1, 12)]
        assert [e.text for e in (await control.events(kind="a.even", limit=2)).items] == ["8", "10"]
        assert [e.text for e in (await control.events(severity="error")).items] == ["4"]

    in_a_network(tmp_path, story)


def test_marks_that_no_page_gave_are_refused(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        session = (await network.start_session()).id
        control = network.control
        for ask in (
            control.sessions,
            control.tokens,
            control.packages,
            lambda **how: control.rounds(session, **how),
            lambda **how: control.models(session, **how),
            lambda **how: control.models(None, **how),
        ):
            for mark in ("nonsense", "9" * 40, "-1"):
                with pytest.raises(InvalidMark):
                    await ask(after=mark, limit=5)

    in_a_network(tmp_path, story)


# ---- what is asked for does not grow with what has been


def test_showing_a_session_reads_no_more_after_many_rounds(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner()
        session = await network.start_session(rounds=30)
        await network.at_rest()
        asked: list[int] = []
        real = network.documents.find

        async def counting(*args: Any, **how: Any) -> Any:
            found = await real(*args, **how)
            asked.append(len(found))
            return found

        network.documents.find = counting  # type: ignore[method-assign]
        view = await network.control.session(session.id)
        assert (view.rounds_done, view.status) == (30, "finished")
        await network.control.rounds(session.id, limit=5)
        await network.control.models(session.id, limit=5)
        await network.control.models(None, limit=5)
        assert sum(asked) <= 1 + 6 + 6 + 6 + 1

    in_a_network(tmp_path, story)


# ---- status


def test_status_says_what_is_there_and_what_goes_on(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        status = await network.control.status()
        assert (status.phase, status.waiting, status.active_session, status.round_number) == ("idle", "", None, None)
        assert (status.clients, status.combiners) == (0, 0)
        session = await network.start_session()
        status = await network.control.status()
        assert (status.phase, status.waiting) == ("waiting", "need 1 clients, have 0")
        assert (status.active_session, status.round_number) == (session.id, 1)
        combiner = await network.combiner(silent=True)
        await until(lambda: combiner.orders)
        status = await network.control.status()
        assert (status.phase, status.waiting, status.clients, status.combiners) == ("updating", "", 2, 1)
        await combiner.leave()
        assert (await network.control.status()).combiners == 0

    in_a_network(tmp_path, story)


def test_many_who_ask_for_the_status_ask_the_stores_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(network: Network) -> None:
        checks: list[str] = []

        async def documents() -> None:
            checks.append("documents")
            await asyncio.sleep(0)
            if len(checks) > 2:
                raise StoreUnavailable("gone")

        async def objects() -> None:
            checks.append("objects")

        network.documents.check = documents  # type: ignore[method-assign]
        network.objects.check = objects  # type: ignore[method-assign]
        statuses = await asyncio.gather(*(network.control.status() for _ in range(20)))
        assert sorted(checks) == ["documents", "objects"]
        assert all(store.healthy for status in statuses for store in status.stores)
        monkeypatch.setattr(service, "HEALTH_GOOD_FOR_S", 0.0)
        network.control._health._until = 0.0
        status = await network.control.status()
        assert [(store.keeps, store.healthy, store.detail) for store in status.stores] == [
            ("documents", False, "gone"),
            ("objects", True, ""),
        ]

    in_a_network(tmp_path, story)


# ---- one thing


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        control, nobody = network.control, SessionId("nobody")
        for ask in (control.session, control.pause_session, control.resume_session, control.stop_session):
            with pytest.raises(UnknownSession):
                await ask(nobody)
        with pytest.raises(UnknownSession):
            await control.rounds(nobody)
        with pytest.raises(UnknownSession):
            await control.models(nobody)
        with pytest.raises(UnknownRound):
            await control.round((await network.start_session()).id, 1)
        with pytest.raises(UnknownPackage):
            await control.package(Digest("0" * 64))
        with pytest.raises(UnknownToken):
            await control.revoke_token("0" * 16)  # type: ignore[arg-type]

    in_a_network(tmp_path, story)


def test_a_model_is_shown_with_its_metrics_and_read_whole(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner()
        session = await network.start_session()
        await network.at_rest()
        view = await network.control.session(session.id)
        assert view.final_model is not None
        model = await network.control.model(view.final_model)
        assert (model.number, model.session, model.parent) == (1, session.id, session.options.seed_model)
        assert (model.metrics, model.samples) == ({"accuracy": 0.5}, 40)
        size, pieces = await network.control.open_model(view.final_model)
        content = b"".join([piece async for piece in pieces])
        assert len(content) == size == model.size
        assert content == network.stored.objects.contents[view.final_model]

    in_a_network(tmp_path, story)


def test_a_running_round_shows_how_far_its_combiners_are(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(silent=True)
        session = await network.start_session()
        await until(lambda: combiner.orders)
        order = combiner.orders[0]
        assert isinstance(order, CellOrder)
        await combiner.tell_progress(order, "collecting", 1, 1, 0)
        view = await network.control.round(session.id, 1)
        assert (view.status, view.phase, view.attempt) == ("running", "updating", 1)
        (progress,) = view.progress
        assert (progress.combiner, progress.phase, progress.included, progress.training) == (NORTH, "collecting", 1, 1)

    in_a_network(tmp_path, story)


def test_combiners_are_listed_with_when_they_were_last_there(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner(name=CombinerName("south"), samples={BERT: 1})
        north = await network.combiner(samples={ANNA: 1})
        await network.calls.close()
        views = await network.control.combiners()
        assert [(one.name, one.clients, one.connected) for one in views] == [("north", 1, True), ("south", 1, True)]
        joined = views[0].last_seen
        await north.leave()
        await network.calls.close()
        (view, _) = await network.control.combiners()
        assert not view.connected
        assert view.last_seen >= joined

    in_a_network(tmp_path, story)


# ---- tokens


def test_revoking_a_token_ends_its_calls_and_sends_its_clients_away(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(samples={})
        text, view = await network.control.create_token("client", "site", 60.0)
        assert (await network.control.authenticate(text)).token == view.id
        await network.calls.assign(
            AssignRequest(ANNA, ClientName("anna"), "", "0.1.0"), Caller("client", "site", view.id)
        )
        await combiner.attach(ANNA)
        assert (await network.control.revoke_token(view.id)).revoked
        await until(lambda: DismissClient(ANNA, "its token was revoked") in combiner.heard)
        with pytest.raises(NotAuthenticated, match="revoked"):
            await network.control.authenticate(text)

    in_a_network(tmp_path, story)


def test_a_client_that_came_before_a_restart_is_found_by_its_token(tmp_path: Path) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored) as first:
            await first.combiner(samples={})
            _, view = await first.control.create_token("client", "site", 60.0)
            await first.calls.assign(
                AssignRequest(ANNA, ClientName("anna"), "", "0.1.0"), Caller("client", "site", view.id)
            )
            await first.calls.close()
            found = await stored.documents.find("clients")
            assert view.id in str(found[0].content)

    asyncio.run(story())


def test_no_secret_is_told_or_kept(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner(samples={})
        text, view = await network.control.create_token("client", "site", 60.0)
        await network.control.authenticate(text)
        with pytest.raises(NotAuthenticated):
            await network.control.authenticate(text[:-1] + "!")
        assignment = await network.calls.assign(
            AssignRequest(ANNA, ClientName("anna"), "", "0.1.0"), Caller("client", "site", view.id)
        )
        await network.control.revoke_token(view.id)
        await network.calls.close()
        everything = str(await network.told()) + str(
            [kept.text for documents in network.stored.documents._collections.values() for kept in documents.values()]
        )
        for secret in (text.rsplit(".", 1)[1], assignment.ticket):
            assert secret not in everything

    in_a_network(tmp_path, story)


# ---- what goes on, as people watch it


def test_a_session_that_waits_says_who_is_missed(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner()
        await combiner.attach(ANNA)
        session = await network.start_session(clients_required=2)
        await network.reaches(Gathering)
        waiting = (await network.control.status()).waiting
        assert waiting.startswith("need 2 clients, have 1; bert was last seen ")
        assert (await network.control.session(session.id)).reason.startswith("need 2 clients, have 1; bert was")
        (listed,) = (await network.control.sessions()).items
        assert (listed.status, listed.reason.split(";")[0]) == ("waiting", "need 2 clients, have 1")
        await combiner.attach(ANNA, BERT)
        await network.at_rest()
        assert (await network.control.status()).waiting == ""

    in_a_network(tmp_path, story)


def test_a_round_shows_where_each_client_is_until_when_at_the_latest_and_later_how_long_each_phase_took(
    tmp_path: Path,
) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(silent=True)
        session = await network.start_session(update_timeout_s=60.0)
        await network.reaches(Updating)
        await until(lambda: len(combiner.orders) == 1)
        status = await network.control.status()
        assert status.phase_deadline is not None
        assert status.phase_deadline - status.phase_since == pytest.approx(60.0 + ANSWER_MARGIN_S)
        seen = await network.control.round(session.id, 1)
        assert [(one.name, one.combiner, one.state) for one in seen.asked] == [
            ("anna", NORTH, "asked"),
            ("bert", NORTH, "asked"),
        ]
        assert [phase.phase for phase in seen.phases] == ["updating"]
        combiner.silent = False
        await combiner.answer(combiner.orders[0])
        await network.at_rest()
        done = await network.control.round(session.id, 1)
        assert [phase.phase for phase in done.phases] == ["updating", "committing", "validating"]
        updating, committing, _ = done.phases
        assert updating.started_at <= done.started_at  # the machine is there a moment before it is written down
        assert updating.started_at + updating.seconds == pytest.approx(committing.started_at)
        assert updating.seconds + committing.seconds >= done.seconds
        assert done.asked == ()

    in_a_network(tmp_path, story)


def test_the_phases_of_a_round_that_nobody_validates_are_written_down_with_its_commit(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner()
        session = await network.start_session(validate=False)
        await network.at_rest()
        done = await network.control.round(session.id, 1)
        assert [phase.phase for phase in done.phases] == ["updating", "committing"]

    in_a_network(tmp_path, story)


def test_the_phases_of_an_attempt_that_failed_are_written_down_too(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(silent=True)
        session = await network.start_session(max_attempts=1)
        await until(lambda: len(combiner.orders) == 1)
        order = combiner.orders[0]
        assert isinstance(order, CellOrder)
        await combiner.give_up(order, "disk full")
        await network.reaches(Paused)
        await network.settled()
        failed = await network.control.round(session.id, 1)
        assert [phase.phase for phase in failed.phases] == ["updating"]
        assert failed.phases[0].started_at <= failed.started_at
        assert (await network.control.round(session.id, 1)).phases == failed.phases  # it has ended

    in_a_network(tmp_path, story)
