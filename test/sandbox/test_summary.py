"""What a sandbox's session came to, for scripts."""

import json
from dataclasses import replace
from pathlib import Path

from fedn_py.identity import ClientName, CombinerName, Digest, SessionId
from fedn_py.reducer.shown_rounds import (
    ContributorView,
    MaskedCellView,
    RoundMaskingView,
    RoundView,
    SumParticipantView,
)
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.sandbox.summary import summary_of, write_summary

ID, MODEL, NORTH = SessionId("5e55" * 8), Digest("ab" * 32), CombinerName("combiner-1")
OPTIONS = SessionOptions(package=MODEL, seed_model=MODEL, rounds=2)
SESSION = SessionView(ID, 1, "session-1", "finished", 2, 1, OPTIONS, "", 1.0)
DONE = RoundView(
    ID,
    1,
    1,
    "done",
    "done",
    1.0,
    2.5,
    clients=(ContributorView(ClientName("bert"), 20), ContributorView(ClientName("anna"), 10)),
    combiners=(NORTH,),
    samples=30,
    model=MODEL,
)
MEMBERS = (SumParticipantView(ClientName("anna"), 0, 0, answered=True),)
MASKED = replace(
    DONE,
    clients=tuple(replace(client, samples=None) for client in DONE.clients),
    masking=RoundMaskingView("pet", 2, 1, 3, "reducer", (MaskedCellView(NORTH, 2, MEMBERS, opened=True),)),
)


def test_only_rounds_that_made_a_model_are_in_it() -> None:
    summary = summary_of(SESSION, [DONE, replace(DONE, number=2, model=None)], {"training": 1.234})
    assert [one["number"] for one in summary["rounds"]] == [1]
    assert (summary["final_model"], summary["seconds"]) == (MODEL, {"training": 1.23})
    assert (summary["rounds"][0]["samples"], summary["rounds"][0]["masking"]) == (30, None)


def test_a_masked_round_has_its_sum_and_who_held_the_masks(tmp_path: Path) -> None:
    session = replace(SESSION, options=replace(OPTIONS, masking="pet"))
    write_summary(tmp_path / "out" / "summary.json", summary_of(session, [MASKED], {}))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (one,) = summary["rounds"]
    assert summary["masking"] == "pet"
    assert (one["samples"], one["clients"]) == (30, ["anna", "bert"])
    assert (one["masking"]["scheme"], one["masking"]["g_min"]) == ("pet", 3)
    assert one["masking"]["cells"] == [
        {
            "combiner": "combiner-1",
            "included": 2,
            "members": [{"name": "anna", "slot": 0, "replica": 0, "answered": True}],
            "opened": True,
            "reason": "",
        }
    ]
