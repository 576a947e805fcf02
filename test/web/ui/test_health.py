import time
from dataclasses import replace

import pytest

from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, SessionId
from fedn_py.reducer.shown_events import EventView
from fedn_py.reducer.shown_network import ClientView, CombinerView, StatusView, StoreView
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.web.ui.health import Health, Seen, health_of

NOW = time.time()
SESSION = SessionId("5e")
OPTIONS = SessionOptions(package=Digest("a" * 64), seed_model=Digest("b" * 64), rounds=5, clients_required=2)
STORES = (StoreView("documents", "SQLite", healthy=True), StoreView("objects", "folder", healthy=True))
BROKEN = replace(STORES[0], healthy=False, detail="gone")
NETWORK = StatusView("reducer", "test", "0", STORES, "updating", "", SESSION, 2, 3, 1, NOW)
RUNNING = SessionView(SESSION, 1, "digits", "running", 5, 1, OPTIONS, "", NOW)
DONE = RoundView(SESSION, 1, 1, "done", "done", NOW - 10, 2.0)
NORTH = CombinerView(CombinerName("north"), "north:12080", 3, 10, connected=True, last_seen=NOW)
ANNA = ClientView(ClientId("a1"), ClientName("anna"), NORTH.name, connected=True, last_seen=NOW, since=NOW)
FAILED = EventView(7, NOW - 60, "round.failed", "error", "round 1 failed: TooFewUpdates")
WELL = Seen(NETWORK, RUNNING, DONE, (NORTH,), (ANNA,), None)


def judged(**otherwise: object) -> Health:
    return health_of(replace(WELL, **otherwise), may_change=True)  # type: ignore[arg-type]


def test_a_network_in_which_everything_goes_on_is_well() -> None:
    health = judged()
    assert (health.look, health.headline) == ("good", "All is well")
    assert [finding.look for finding in health.findings] == ["good"] * 5
    assert (health.next.text, health.next.place) == ("Watch the round", "/sessions/5e")


@pytest.mark.parametrize(
    ("look", "says", "otherwise"),
    [
        ("bad", "documents (SQLite) does not work: gone", {"stores": (BROKEN,)}),
        ("wait", "round 2 waits: need 2 clients, have 1", {"waiting": "need 2 clients, have 1"}),
        ("wait", "1 client attached, 2 are required", {"clients": 1}),
        ("bad", "the stores were set back", {"restored": "the stores were set back"}),
    ],
)  # fmt: skip
def test_one_thing_that_is_not_well_spoils_the_whole(look: str, says: str, otherwise: dict[str, object]) -> None:
    health = judged(network=replace(NETWORK, **otherwise))  # type: ignore[arg-type]
    assert health.look == look
    assert [finding.look for finding in health.findings if says in finding.text] == [look]


@pytest.mark.parametrize(
    ("status", "look", "next_step"),
    [
        ("failed", "bad", "See why, and resume it"),
        ("paused", "wait", "See why, and resume it"),
        ("finished", "good", "Look at the final model"),
    ],
)
def test_a_session_that_does_not_run_says_what_to_do_next(status: str, look: str, next_step: str) -> None:
    session = replace(RUNNING, status=status, reason="why", final_model=Digest("c" * 64))  # type: ignore[arg-type]
    health = judged(session=session)
    assert (health.look, health.next.text) == (look, next_step)


def test_who_was_here_a_moment_ago_is_missed_and_who_left_long_ago_is_not() -> None:
    away = replace(ANNA, connected=False, last_seen=time.time() - 240)
    assert "away: anna (last seen 4 minutes ago)" in [finding.text for finding in judged(clients=(away,)).findings]
    assert judged(clients=(replace(away, last_seen=NOW - 90_000),)).look == "good"
    told = [finding.text for finding in judged(clients=(away,), more_clients=True).findings]
    assert "away, of the first 1: anna (last seen 4 minutes ago)" in told
    south = replace(NORTH, name=CombinerName("south"), connected=False, last_seen=NOW - 60)
    assert judged(combiners=(NORTH, south)).look == "wait"
    health = judged(combiners=(south,))
    assert (health.look, health.next.text) == ("bad", "Start a combiner: fedn-py run combiner.")


def test_clients_that_were_not_looked_at_are_not_passed_over_in_silence() -> None:
    health = judged(more_clients=True)
    assert [one.place for one in health.findings if one.text.startswith("away: nobody, of the first 1;")] == [
        "/network"
    ]


def test_a_failure_is_bad_until_a_round_succeeds_that_began_after_it() -> None:
    assert judged(failure=FAILED, now=replace(DONE, status="failed")).look == "bad"
    health = judged(failure=FAILED)
    assert health.look == "good"
    assert any("rounds succeeded since" in finding.text for finding in health.findings)


def test_a_viewer_is_not_told_to_do_what_only_an_admin_can() -> None:
    few = replace(WELL, network=replace(NETWORK, clients=0))
    assert health_of(few, may_change=True).next.place == "/clients"
    assert health_of(few, may_change=False).next.place == ""
