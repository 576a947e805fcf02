"""What each party is said to see, held to what the code sends: the facts that matter, whatever the sentences."""

import asyncio
from pathlib import Path
from typing import Any, get_args

import pytest
from builders import a_plan, some_terms
from masked_world import REDUCER, a_policy
from masked_world import a_plan as a_masked_plan
from reducer_network import OperatorFiles, a_network

from fedn_py.identity import Generation
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.masked.round_messages import MetricBound
from fedn_py.protocol.masked.signing import sign
from fedn_py.reducer.control_faults import UnknownSession
from fedn_py.reducer.masked_documents import AttemptDocument, MaskedDocument, body_text
from fedn_py.reducer.privacy import privacy_view
from fedn_py.reducer.privacy_words import Datum, Party, PrivacyView
from fedn_py.reducer.records import MaskedCellRecord, MaskedRoundRecord, RoundRecord, SessionRecord

SERVERS = ("combiner", "reducer", "document store", "object store")
OF_ONE_CLIENT = (
    "raw data",
    "update of one client",
    "number of samples of one client",
    "training metrics of one client",
    "validation metrics of one client",
    "log tail of a failed training",
)


def a_session(**terms: Any) -> SessionRecord:
    return SessionRecord("trial", some_terms(**terms), "running", "", 1.0)


def plain(**terms: Any) -> PrivacyView:
    return privacy_view(a_session(**terms), None, None, 5.0)


def masked(metrics: str = "sum", **terms: Any) -> PrivacyView:
    return privacy_view(a_session(masking="pet", **{"validate": False, **terms}), None, a_policy(metrics=metrics), 5.0)


def seen(view: PrivacyView, datum: str) -> dict[str, str]:
    return {row.party: row.exposure for row in view.rows if row.datum == datum}


def text(view: PrivacyView, party: str, datum: str) -> str:
    (row,) = (row for row in view.rows if (row.party, row.datum) == (party, datum))
    return row.text


def of_a_round(cells: int, **plan: Any) -> RoundRecord:
    """Return a masked round with what its plan says."""
    signed = body_text(sign(a_masked_plan(**plan), REDUCER))
    shown = MaskedRoundRecord("pet", 3, 2, 8, "strict", tuple(MaskedCellRecord(f"c{n}") for n in range(cells)))  # type: ignore[arg-type]
    document = MaskedDocument((AttemptDocument(1, {}, signed, {}),))
    return RoundRecord(a_plan(), "running", Generation(1), (), 1.0, 1.0, masked=shown, document=document)


@pytest.mark.parametrize(
    "view", [plain(), plain(validate=False), masked(), masked("client", validate=True), masked("none")]
)
def test_every_party_has_a_sentence_for_every_datum(view: PrivacyView) -> None:
    parties = [party for party in get_args(Party) if view.scheme == "pet" or "sum participant" not in party]
    assert {(row.party, row.datum) for row in view.rows} == {(p, d) for p in parties for d in get_args(Datum)}
    assert len(view.rows) == len(parties) * len(get_args(Datum))
    assert all(row.text.endswith(".") and len(row.text) > 20 for row in view.rows)
    assert all(one.holds.endswith(".") and one.broken_by.endswith(".") for one in view.assumptions)
    assert (view.session, view.name, view.generated_at) == (some_terms().session, "trial", 5.0)


def test_without_masking_the_combiner_sees_each_update_and_the_reducer_its_sums() -> None:
    view = plain()
    assert (view.scheme, view.k, view.r, view.g_min, view.reopen) == ("none", 0, 0, 0, "")
    update = seen(view, "update of one client")
    assert (update["combiner"], update["reducer"], update["object store"]) == ("clear", "sum only", "sum only")
    assert update["other clients"] == "never"
    for datum in ("number of samples of one client", "training metrics of one client", "log tail of a failed training"):
        assert [seen(view, datum)[party] for party in SERVERS[:3]] == ["clear", "clear", "clear"]
    assert "alone" in view.assumptions[0].broken_by


def test_behind_masks_no_party_but_its_owner_sees_anything_of_one_client() -> None:
    view = masked()
    assert seen(view, "update of one client")["combiner"] == "masked"
    for datum in OF_ONE_CLIENT:
        for party, exposure in seen(view, datum).items():
            assert exposure != "clear" or party == "this client's owner", (party, datum)
    update = seen(view, "update of one client")
    assert {update[party] for party in update if party not in {"combiner", "this client's owner"}} == {"never"}


def test_the_numbers_of_the_setting_are_in_the_sentences() -> None:
    view = masked(masked=MaskedOptions(k=3, r=2, g_min=8), least_in_cell=8)
    assert (view.k, view.r, view.g_min, view.reopen, view.round_number) == (3, 2, 8, "strict", 0)
    assert "at least 8 clients" in text(view, "reducer", "update of one client")
    assert "one of the 3 masks" in text(view, "one sum participant", "update of one client")
    assert "The 2 of one slot" in text(view, "all sum participants of one slot", "update of one client")
    breaks = [one.broken_by for one in view.assumptions]
    assert breaks[0].startswith("The combiner with 3 sum participants, one of each of the 3 slots")
    assert breaks[1].startswith("7 clients of the same sum")


def test_before_the_first_round_the_numbers_are_the_least_that_the_policy_allows() -> None:
    policy = a_policy(k_min=4, r_min=2, n_max_max=40, reopen="strict")
    view = privacy_view(a_session(masking="pet", validate=False), None, policy, 5.0)
    assert (view.k, view.r, view.n_max, view.reopen, view.round_number) == (4, 2, 40, "strict", 0)


def test_the_numbers_are_those_of_the_newest_round() -> None:
    metrics = (MetricBound("loss", 8.0), MetricBound("has loss", 1.0))
    newest = of_a_round(1, n_max=20, metrics=metrics, metrics_release="sum")
    view = privacy_view(a_session(masking="pet", validate=False), newest, a_policy(metrics="client"), 5.0)
    assert (view.k, view.r, view.g_min, view.reopen, view.n_max, view.cells) == (3, 2, 8, "strict", 20, 1)
    assert (view.metrics, view.metrics_by_client, view.round_number) == (("loss",), False, 1)
    assert "one cell" in text(view, "other clients", "sum of updates")
    several = privacy_view(a_session(masking="pet", validate=False), of_a_round(2), a_policy(), 5.0)
    assert "one cell" not in text(several, "other clients", "sum of updates")


def test_what_the_policy_lets_go_by_client_is_said_to_be_seen() -> None:
    view = masked("client", validate=True)
    for datum in (
        "training metrics of one client",
        "validation metrics of one client",
        "log tail of a failed training",
    ):
        assert [seen(view, datum)[party] for party in SERVERS[:3]] == ["clear", "clear", "clear"]
    assert seen(view, "number of samples of one client")["combiner"] == "clear"  # a validation says it
    assert seen(masked("client"), "number of samples of one client")["combiner"] == "masked"


def test_a_policy_that_lets_no_metrics_go_leaves_none() -> None:
    view = masked("none")
    assert view.metrics == ()
    assert set(seen(view, "training metrics of one client").values()) == {"clear", "never"}


@pytest.mark.parametrize(("reopen", "who"), [("reducer", "A reducer rewritten to lie"), ("strict", "The reducer and")])
def test_who_could_have_an_update_sent_twice_depends_on_reopen(reopen: str, who: str) -> None:
    view = masked(masked=MaskedOptions(reopen=reopen))
    assert view.reopen == reopen
    assert any(one.broken_by.startswith(who) for one in view.assumptions)


def test_a_reducer_tells_it_of_its_sessions(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, operator=OperatorFiles(tmp_path / "operator")) as network:
            session = await network.start_session(masking="pet", masked=MaskedOptions(g_min=5))
            view = await network.control.privacy(session.id)
            assert (view.session, view.name, view.scheme, view.g_min) == (session.id, session.name, "pet", 5)
            with pytest.raises(UnknownSession):
                await network.control.privacy("nobody")  # type: ignore[arg-type]

    asyncio.run(story())
