"""What the sandbox shows: a live table on a terminal, plain lines elsewhere."""

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from fedn_py.identity import ClientName, CombinerName, Digest, SessionId
from fedn_py.reducer.shown_rounds import CombinerProgressView, ContributorView, RoundView
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.sandbox.screen import Screen

SESSION = SessionId("5e55" * 4)
MODEL = Digest("ab" * 32)
OPTIONS = SessionOptions(package=MODEL, seed_model=MODEL, rounds=2)
RUNNING = SessionView(SESSION, 1, "session-1", "running", 2, 0, OPTIONS, "", 1.0)
STARTED = RoundView(SESSION, 1, 1, "collecting", "running", 1.0, 0.5)
DONE = RoundView(
    SESSION,
    1,
    1,
    "done",
    "done",
    1.0,
    2.5,
    clients=(ContributorView(ClientName("anna"), 10), ContributorView(ClientName("bert"), 20)),
    combiners=(CombinerName("combiner-1"),),
    samples=30,
    metrics={"accuracy": 0.9},
    model=MODEL,
)
FAILED = replace(STARTED, status="failed", reason="TooFewUpdates: 1 of 2")


def shown(*steps: tuple[SessionView, list[RoundView]], terminal: bool) -> str:
    out = io.StringIO()
    options: dict[str, Any] = {"file": out, "force_terminal": terminal, "width": 80, "color_system": None}
    console = Console(**options)
    with Screen(console) as screen:
        for session, rounds in steps:
            screen.show(session, rounds)
    return out.getvalue()


def test_without_a_terminal_each_thing_that_happens_is_one_line() -> None:
    waiting = replace(RUNNING, status="waiting", reason="1 of 2 clients are here")
    text = shown(
        (waiting, []),
        (waiting, []),
        (RUNNING, [STARTED]),
        (RUNNING, [STARTED]),
        (RUNNING, [FAILED]),
        (RUNNING, [replace(STARTED, attempt=2)]),
        (replace(RUNNING, rounds_done=1), [replace(DONE, attempt=2, metrics={}, phase="ending")]),
        (replace(RUNNING, rounds_done=1), [replace(DONE, attempt=2, metrics={}, phase="validating")]),
        (replace(RUNNING, rounds_done=1), [replace(DONE, attempt=2)]),
        (replace(RUNNING, rounds_done=1), [replace(DONE, attempt=2)]),
        terminal=False,
    )
    assert text.splitlines() == [
        "waiting: 1 of 2 clients are here",
        "round 1/2: started, attempt 1",
        "round 1/2: failed: TooFewUpdates: 1 of 2",
        "round 1/2: started, attempt 2",
        "round 1/2: 2 clients, 30 samples, 2.5 s, accuracy 0.9000",
    ]


def test_without_a_terminal_what_is_waited_for_is_one_line_however_long_it_lasts() -> None:
    waiting = "waiting up to 10 s for 4 clients, have"
    away = "client-3 was last seen now, client-2 was last seen"
    told = [
        f"{waiting} 3; client-2 was last seen 5 seconds ago",
        f"{waiting} 2; {away} 7 seconds ago",
        f"{waiting} 2; {away} 1 minute ago; 2 more sit out [/b]",
    ]
    reasons = [
        told[0],
        f"{waiting} 3; client-2 was last seen 6 seconds ago",
        told[1],
        f"{waiting} 2; {away} 8 seconds ago",
        told[2],
    ]
    text = shown(*((replace(RUNNING, status="waiting", reason=reason), []) for reason in reasons), terminal=False)
    assert text.splitlines() == [f"waiting: {reason}" for reason in told]


def test_without_a_terminal_nothing_but_text_is_written() -> None:
    text = shown((RUNNING, [STARTED, DONE]), terminal=False)
    assert text.isascii()
    assert "\x1b" not in text


def test_on_a_terminal_the_last_state_of_every_round_stands_in_one_table() -> None:
    under_way = replace(
        STARTED,
        number=2,
        progress=(CombinerProgressView(CombinerName("combiner-1"), "collecting", 1, 3, 0),),
    )
    text = shown((RUNNING, [STARTED]), (replace(RUNNING, rounds_done=1), [replace(DONE), under_way]), terminal=True)
    last = text[text.rindex("session-1: 1 of 2 rounds") :]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in last.splitlines() if line.startswith("│")]
    assert rows[0] == ["1", "done", "2", "30", "2.5", "accuracy 0.9000"]
    assert rows[1] == ["2", "collecting", "1 of 4", "", "0.5", ""]
    assert "running" in last


def test_on_a_terminal_a_failed_round_says_why_and_the_session_why_it_waits() -> None:
    waiting = replace(RUNNING, status="waiting", reason="1 of 2 clients are here")
    text = shown((waiting, [FAILED]), terminal=True)
    assert "TooFewUpdates: 1 of 2" in text
    assert "waiting: 1 of 2 clients are here" in text
