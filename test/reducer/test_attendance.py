"""Clients as people see them: how they last fared, and how they are cut off."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from awaiting import until
from builders import a_plan
from reducer_network import ANNA, BERT, NORTH, Network, Stored, a_network
from store_reads import counted_reads

from fedn_py.identity import ClientId, ClientName, Digest, Generation, SessionId, TokenId
from fedn_py.protocol.messages import AssignRequest, DismissClient
from fedn_py.reducer.attendance import TokenNotKnown
from fedn_py.reducer.control_faults import NotAuthenticated, UnknownClient
from fedn_py.reducer.records import ExcludedClient, IncludedClient, RoundRecord, SessionRecord, round_key
from fedn_py.reducer.shown_network import ClientResultView
from fedn_py.transport.authentication import Caller

CARL = ClientId("c" * 32)
NAMES = {ANNA: "anna", BERT: "bert", CARL: "carl"}


def in_a_network(scratch: Path, story: Callable[[Network], Awaitable[None]]) -> None:
    async def told() -> None:
        async with a_network(scratch) as network:
            await story(network)

    asyncio.run(told())


async def come(network: Network, *clients: ClientId) -> TokenId:
    """Have clients come, all by one token, and return that."""
    token = (await network.tokens.create("client", "site", 60.0))[1].token.id
    for client in clients:
        request = AssignRequest(client, ClientName(NAMES[client]), "", "0.1.0")
        await network.calls.assign(request, Caller("client", "site", token))
    await network.calls.close()
    return token


async def a_past(network: Network, session: str, number: int, rounds: int) -> None:
    """Write a session down whose rounds have anna in them and bert not; carl was in the first one alone."""
    stored = (await network.ledger.find("sessions", SessionRecord))[0]
    terms = replace(stored.terms, session=SessionId(session), number=number)
    await network.ledger.add("sessions", session, replace(stored, terms=terms), number=number, status="finished")
    for place in range(1, rounds + 1):
        plan = a_plan(session=SessionId(session), round_number=place)
        in_it = [ANNA, CARL] if place == 1 else [ANNA]
        record = RoundRecord(
            plan, "committed", Generation(1), (), started=1.0, attempt_started=1.0, ended=float(place),
            model=Digest("1" * 64),
            included=tuple(IncludedClient(one, ClientName(NAMES[one]), NORTH, 1, Digest("a" * 64)) for one in in_it),
            excluded=(ExcludedClient(BERT, ClientName("bert"), f"Late: in round {place}", ""),),
        )  # fmt: skip
        await network.ledger.add(
            "rounds", round_key(plan.session, place), record, session=session, number=place, status="committed"
        )


def test_a_client_is_shown_with_where_it_is_and_what_became_of_its_last_update(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner(samples={ANNA: 10})
        await come(network, ANNA, BERT)
        session = await network.start_session(clients_required=1)
        await network.at_rest()
        view = await network.control.client(ANNA)
        assert (view.name, view.combiner, view.connected, view.revoked) == ("anna", NORTH, True, False)
        assert view.last_result is not None
        assert (view.last_result.session, view.last_result.number, view.last_result.outcome) == (
            session.id, 1, "included",
        )  # fmt: skip
        assert (await network.control.client(BERT)).last_result is None
        with pytest.raises(UnknownClient):
            await network.control.client(CARL)

    in_a_network(tmp_path, story)


def test_the_newest_result_counts_and_few_documents_are_read_for_it(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner(samples={})
        await come(network, ANNA, BERT, CARL)
        await network.sessions.begin(await network.options())
        await a_past(network, "0a", 2, 15)
        await a_past(network, "0b", 3, 50)
        for client, outcome in ((ANNA, ("included", "")), (BERT, ("excluded", "Late: in round 50"))):
            with counted_reads(network.documents) as reads:
                view = await network.control.client(client)
            assert view.last_result == ClientResultView(SessionId("0b"), 50, outcome[0], 50.0, outcome[1])  # type: ignore[arg-type]
            assert reads.queries <= 4
            assert reads.documents <= 1 + 2 + 2 * 20
        # Carl took part last in the first round of the session before; that is among the newest rounds of that one.
        assert (await network.control.client(CARL)).last_result == ClientResultView(SessionId("0a"), 1, "included", 1.0)
        with counted_reads(network.documents) as reads:
            listed = {view.name: view for view in (await network.control.clients()).items}
        assert (reads.queries, reads.documents) == (4, 3 + 2 + 2 * 2)
        assert listed["bert"].last_result == (await network.control.client(BERT)).last_result
        assert listed["carl"].last_result is None  # too long ago for a list

    in_a_network(tmp_path, story)


def test_a_revoked_client_is_sent_away_its_token_is_worthless_and_an_event_tells(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(samples={})
        text, token = await network.control.create_token("client", "site", 60.0)
        for client in (ANNA, BERT):
            request = AssignRequest(client, ClientName(NAMES[client]), "", "0.1.0")
            await network.calls.assign(request, Caller("client", "site", token.id))
        other = await come(network, CARL)
        await combiner.attach(ANNA, BERT, CARL)
        view = await network.control.revoke_client(ANNA)
        assert view.revoked
        for client in (ANNA, BERT):
            await until(lambda client=client: DismissClient(client, "its token was revoked") in combiner.heard)  # type: ignore[misc]
        with pytest.raises(NotAuthenticated, match="revoked"):
            await network.control.authenticate(text)
        (event,) = [one for one in await network.told() if one.kind == "client.revoked"]
        assert (event.severity, event.subject) == ("warning", {"client": "anna", "token": token.id})
        assert "bert" in event.text
        assert "carl" not in event.text
        assert not (await network.control.client(CARL)).revoked
        assert network.roster.token_of(CARL) == other
        # It comes again by a new token, and is welcome.
        await come(network, ANNA)
        assert not (await network.control.client(ANNA)).revoked

    in_a_network(tmp_path, story)


def test_a_client_is_revoked_after_a_restart_by_the_token_in_its_document(tmp_path: Path) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored) as first:
            await first.combiner(samples={})
            token = await come(first, CARL)
        async with a_network(tmp_path, stored) as second:
            await second.control.revoke_client(CARL)
            assert token in await second.tokens.revoked()

    asyncio.run(story())


def test_a_client_whose_token_nobody_knows_is_refused_with_the_way_out(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner(samples={})
        await network.calls.assign(
            AssignRequest(ANNA, ClientName("anna"), "", "0.1.0"), Caller("client", "site", TokenId(""))
        )
        await network.calls.close()
        with pytest.raises(TokenNotKnown) as caught:
            await network.control.revoke_client(ANNA)
        assert "fedn-py token revoke" in caught.value.remedy
        with pytest.raises(UnknownClient):
            await network.control.revoke_client(CARL)

    in_a_network(tmp_path, story)
