"""The commands that speak to a reducer, run as a person or a script runs them."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from web_server import Served

from fedn_py.cli.main import main
from fedn_py.identity import ClientId, Digest, SessionId
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.reducer.shown_events import EventView
from fedn_py.reducer.shown_network import ClientResultView
from fedn_py.reducer.shown_objects import ModelView


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        envelope = json.loads(self.out)
        assert envelope["schema_version"] == 1
        return envelope["data"]


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fedn-py", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return call


@pytest.fixture
def profile(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The profile of an admin, which commands find by themselves."""
    file = tmp_path / "profile.yaml"
    token = served.control.let_in("admin")
    file.write_text(f"url: https://localhost:{served.port}\ntoken: {token}\nauthority_file: {served.authority_file}\n")
    monkeypatch.setenv("FEDN_PROFILE", str(file))
    return file


@pytest.fixture
def started(run: Run, profile: Path, tmp_path: Path) -> str:
    (tmp_path / "digits.tar.gz").write_bytes(b"package")
    (tmp_path / "seed.safetensors").write_bytes(b"model")
    ended = run("session", "start", "--package", tmp_path / "digits.tar.gz", "--model", tmp_path / "seed.safetensors")
    assert ended.code == 0, ended.err
    return ended.out.strip()


def test_status_is_told_to_people_and_to_scripts(run: Run, profile: Path) -> None:
    assert "phase" in run("status").out
    assert run("status", "--json").data["phase"] == "idle"


def test_a_session_is_started_from_files_with_its_options(run: Run, profile: Path, tmp_path: Path) -> None:
    (tmp_path / "digits.tar.gz").write_bytes(b"package")
    (tmp_path / "seed.safetensors").write_bytes(b"model")
    assert len(run("package", "upload", tmp_path / "digits.tar.gz").out.strip()) == 64
    model = run("model", "upload", tmp_path / "seed.safetensors", "--json").data["digest"]
    ended = run(
        "session", "start", "--package", "digits", "--model", model[:8], "--rounds", 7, "--no-validate",
        "--parameters", '{"epochs": 2}', "--json",
    )  # fmt: skip
    assert ended.data["rounds_wanted"] == 7
    assert ended.data["options"]["validate"] is False
    assert ended.data["options"]["parameters"] == {"epochs": 2}


PET = (
    "--masking", "pet", "--clip", 0.5, "--n-max", 20, "--weight-cap", 500, "--weight-unit", 10, "--slots", 3,
    "--replicas", 2, "--g-min", 8, "--reopen", "strict", "--metric", "loss=8", "--metric", "a=b=0.5",
)  # fmt: skip


def test_a_masked_session_is_started_with_its_terms_and_shows_them(run: Run, started: str) -> None:
    run("session", "stop")
    package = run("package", "list", "--json").data[0]["digest"]
    model = run("model", "list", "--json").data[0]["digest"]
    ended = run("session", "start", "--package", package, "--model", model, *PET, "--json")
    assert ended.code == 0, ended.err
    assert ended.data["options"]["masking"] == "pet"
    assert ended.data["options"]["masked"] == {
        "clip": 0.5, "n_max": 20, "weight_cap": 500, "weight_unit": 10, "k": 3, "r": 2, "g_min": 8,
        "reopen": "strict", "metrics": {"loss": 8.0, "a=b": 0.5},
    }  # fmt: skip
    shown = run("session", "show").out
    for part in ("pet: clip 0.5", "weight cap 500", "slots 3", "g_min 8", "reopen strict", "loss within 8"):
        assert part in shown


def test_a_session_that_is_told_nothing_of_masking_has_the_defaults(run: Run, started: str) -> None:
    options = run("session", "show", "--json").data["options"]
    assert options["masking"] == "none"
    assert MaskedOptions(**options["masked"]) == MaskedOptions()
    shown = [line.split() for line in run("session", "show").out.splitlines()]
    assert ["masking", "none"] in shown


@pytest.mark.parametrize("metric", ["loss", "loss=much", "=3", ""])
def test_a_metric_without_a_bound_is_refused(run: Run, profile: Path, metric: str) -> None:
    ended = run("session", "start", "--package", "x", "--model", "y", "--masking", "pet", "--metric", metric)
    assert ended.code == 2
    assert "NAME=BOUND" in ended.err


def test_a_session_is_found_by_its_id_letters_number_or_name(run: Run, started: str) -> None:
    shown = run("session", "show", started, "--json").data
    for text in (started[:31] + started[31], str(shown["number"]), shown["name"]):
        assert run("session", "show", text, "--json").data["id"] == started
    assert run("session", "show", "--json").data["id"] == started
    assert "running" in run("session", "list").out


def test_a_session_is_paused_resumed_and_stopped(run: Run, started: str) -> None:
    for word, status in (("pause", "paused"), ("resume", "running"), ("stop", "stopped")):
        assert run("session", word, "--json").data["status"] == status


def test_a_session_is_stopped_after_its_round_where_that_is_said(run: Run, started: str) -> None:
    assert run("session", "stop", "--after-round").out == (
        "session session-2 is running; it ends after the round under way\n"
    )
    assert "ends" in run("session", "show").out
    assert run("session", "stop").out == "session session-2 is stopped\n"


def test_a_session_is_changed_in_what_is_given_alone(run: Run, started: str) -> None:
    before = run("session", "show", "--json").data["options"]
    shown = run("session", "change", "--rounds", 9, "--clients-required", 2, "--retry-delay", 0).out
    assert "0 of 9" in shown
    assert "2 or more" in shown
    after = run("session", "show", "--json").data["options"]
    assert after == {**before, "rounds": 9, "clients_required": 2, "retry_delay_s": 0.0}


def test_what_each_party_sees_is_a_table(run: Run, started: str) -> None:
    shown = run("session", "privacy").out
    for part in (
        "pet: k 2, r 1, g_min 3, reopen reducer (round 1)",
        "update of one client",
        "masked",
        "what breaks it",
    ):
        assert part in shown
    assert run("session", "privacy", "--json").data["rows"][1]["exposure"] == "never"


def test_a_change_of_nothing_is_refused(run: Run, started: str) -> None:
    ended = run("session", "change")
    assert ended.code == 2
    assert "--rounds 20" in ended.err


def test_a_session_is_resumed_with_a_new_work_where_that_is_said(served: Served, run: Run, started: str) -> None:
    run("session", "pause")
    run("session", "resume")
    assert served.control.new_works == 0
    run("session", "pause")
    assert run("session", "resume", "--new-work").out == "session session-2 is running\n"
    assert served.control.new_works == 1


def test_rounds_are_shown(served: Served, run: Run, started: str) -> None:
    served.control.finish_round(started, 1, 0.75)  # type: ignore[arg-type]
    assert run("round", "list", "--json").data[0]["metrics"] == {"accuracy": 0.75}
    assert "accuracy 0.75" in run("round", "list").out
    shown = run("round", "show", 1).out
    assert "anna" in shown
    assert "20" in shown


def test_a_masked_round_shows_its_scheme_its_sum_and_who_held_the_masks(served: Served, run: Run, started: str) -> None:
    served.control.mask_round(started, 1)  # type: ignore[arg-type]
    listed = run("round", "list").out
    assert "pet" in listed
    assert "30" in listed
    shown = run("round", "show", 1).out
    assert "pet: k 2, r 1, g_min 3, reopen reducer" in shown
    assert "clip_fraction 0.125" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["anna", "masked"] in rows
    assert ["bert", "masked"] in rows
    assert ["combiner-1", "5", "bert", "(0.0),", "anna", "(1.0,", "no", "answer)", "opened"] in rows
    assert ["combiner-2", "0", "TooFewUpdates:", "1", "of", "3"] in rows
    assert run("round", "show", 1, "--json").data["clients"][0] == {"name": "anna", "samples": None}


def test_a_watched_masked_round_says_that_it_is(served: Served, run: Run, started: str) -> None:
    served.control.mask_round(started, 1)  # type: ignore[arg-type]
    run("session", "stop")
    assert "round 1: 2 clients, 30 samples, masked (pet), 2.5 s" in run("session", "wait").err


def test_waiting_for_a_session_that_is_stopped_shows_its_rounds_and_exits_1(
    served: Served, run: Run, started: str
) -> None:
    served.control.finish_round(started, 1, 0.75)  # type: ignore[arg-type]
    run("session", "stop")
    ended = run("session", "wait", "--json")
    assert ended.code == 1
    assert ended.data["status"] == "stopped"
    assert "round 1: 2 clients, 30 samples, 2.5 s, accuracy 0.75" in ended.err


def test_a_wait_that_takes_too_long_exits_6(run: Run, started: str) -> None:
    ended = run("session", "wait", "--timeout", 0)
    assert ended.code == 6
    assert "It goes on" in ended.err


def test_a_model_is_downloaded(run: Run, started: str, tmp_path: Path) -> None:
    digest = run("model", "list", "--json").data[0]["digest"]
    ended = run("model", "download", digest[:10], "-o", tmp_path / "again")
    assert ended.code == 0
    assert (tmp_path / "again").read_bytes() == b"model"
    assert "(seed)" in run("model", "list").out


def test_clients_combiners_packages_and_events_are_listed(served: Served, run: Run, profile: Path) -> None:
    served.control.event_views = [EventView(1, 1.0, "round failed", "error", "too few updates", {})]
    assert "bert" in run("client", "list").out
    assert run("combiner", "list", "--json").data[0]["max_clients"] == 10
    assert "too few updates" in run("event", "list", "--severity", "error").out
    nothing = run("package", "list")
    assert nothing.out == ""
    assert "fedn-py package upload" in nothing.err


def test_a_client_is_shown_by_name_or_id_and_revoked(served: Served, run: Run, profile: Path) -> None:
    anna = served.control.client_views[ClientId(b"anna".hex())]
    reason = "Late: the round was over"
    result = ClientResultView(SessionId("5e55"), 3, "excluded", 1.0, reason)
    served.control.client_views[anna.id] = replace(anna, last_result=result)
    assert f"excluded in round 3: {reason}" in run("client", "list").out
    for name in ("anna", anna.id, anna.id[:5]):
        shown = run("client", "show", name)
        assert shown.code == 0, shown.err
        assert f"excluded in round 3: {reason}" in shown.out
    ended = run("client", "revoke", "anna")
    assert (ended.code, "client anna" in ended.out) == (0, True)
    assert served.control.client_views[anna.id].revoked
    assert not served.control.client_views[ClientId(b"bert".hex())].revoked
    assert run("client", "revoke", "dora").code == 5


def test_events_are_searched_and_shown(served: Served, run: Run, started: str) -> None:
    served.control.event_views = [
        EventView(seq, 1.0, "update.refused", "error", f"Number {seq}",
                  {"client": f"c{seq % 2}", "round": str(seq), "session": started, "combiner": "north"})
        for seq in range(1, 11)
    ]  # fmt: skip

    def seen(*words: object) -> list[int]:
        return [event["seq"] for event in run("event", "list", "--json", *words).data]

    assert seen("--client", "c1", "--limit", 2) == [7, 9]
    assert seen("--before", 5, "--limit", 2) == [3, 4]
    assert seen("--text", "NUMBER 1", "--session", started, "--combiner", "north") == [1, 10]
    assert seen("--round", 4) == [4]
    assert run("event", "list", "--before", 5, "--after", 1).code == 2
    shown = run("event", "show", 4).out
    assert "Number 4" in shown
    assert "north" in shown
    assert run("event", "show", 99).code == 5


def test_the_files_of_a_package_and_the_tensors_of_a_model_are_listed(served: Served, run: Run, started: str) -> None:
    assert "src/train.py" in run("package", "files", "digits").out
    model = run("model", "list", "--json").data[0]["digest"]
    assert "2x3" in run("model", "tensors", model[:8]).out
    assert [one["name"] for one in run("model", "tensors", model, "--json").data] == ["b", "w"]
    assert run("model", "tensors").code == 5  # the newest session has made none


def test_what_was_measured_is_listed_and_what_is_hidden_says_why(served: Served, run: Run, started: str) -> None:
    served.control.finish_round(SessionId(started), 1, 0.5)
    shown = run("round", "validations").out
    assert "accuracy" in shown
    assert "hidden: 1 clients gave it" in shown
    assert run("round", "validations", "--json").data[0]["metrics"][0]["by_client"] == {"anna": 0.25, "bert": 0.75}


def test_a_token_is_made_listed_and_revoked(run: Run, profile: Path, tmp_path: Path) -> None:
    file = tmp_path / "client.token"
    made = run("token", "create", "--role", "client", "--label", "hospital", "-o", file, "--json").data
    assert file.read_text().startswith("fedn1.")
    assert file.stat().st_mode & 0o077 == 0
    assert made["text"] is None
    assert "hospital" in run("token", "list").out
    assert "revoked" in run("token", "revoke", made["token"]["id"]).out
    assert run("token", "create", "--role", "viewer", "--label", "anna").out.startswith("fedn1.")


def test_what_is_not_there_exits_5(run: Run, profile: Path) -> None:
    ended = run("session", "show", "none", "--json")
    assert ended.code == 5
    assert json.loads(ended.out)["error"]["code"] == "NotFound"
    assert run("round", "show", 3, "--session", "none").code == 5


def test_a_refusal_exits_4_with_the_reducers_words(run: Run, started: str, tmp_path: Path) -> None:
    again = run("session", "start", "--package", "digits", "--model", tmp_path / "seed.safetensors")
    assert again.code == 4
    assert "is under way" in again.err
    assert "what to do: Wait for it, or stop it first" in again.err
    (tmp_path / "no.safetensors").write_bytes(b"not a model")
    assert run("model", "upload", tmp_path / "no.safetensors").code == 4


def test_a_token_without_the_right_exits_4(served: Served, run: Run, profile: Path) -> None:
    profile.write_text(profile.read_text().replace("admin", "other"))
    assert run("status").code == 4


def test_a_reducer_that_is_not_there_exits_3(run: Run, profile: Path, served: Served) -> None:
    profile.write_text(profile.read_text().replace(str(served.port), "1"))
    ended = run("status")
    assert ended.code == 3
    assert "nothing listens there" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--profile", "/nowhere/profile.yaml"),
        ("session", "stat"),
        ("session", "start"),
        ("session", "start", "--package", "x", "--model", "y", "--rounds", "0"),
        ("token", "create", "--role", "king", "--label", "x"),
        ("package", "upload", "/nowhere/file"),
    ],
)
def test_a_wrong_command_exits_2(run: Run, profile: Path, words: tuple[str, ...]) -> None:
    assert run(*words).code == 2


def test_parameters_that_are_no_object_are_told(run: Run, started: str) -> None:
    ended = run("session", "start", "--package", "digits", "--model", "x", "--parameters", "3")
    assert ended.code != 0


# ---- model verify


def made_rounds(served: Served, session: str, *contents: bytes) -> list[str]:
    """Put committed rounds of a session behind each other, as the reducer shows them."""
    control = served.control
    parent = control.session_views[session].options.seed_model
    digests = []
    for number, content in enumerate(contents, 1):
        digest = Digest(hashlib.sha256(content).hexdigest())
        control.objects[digest] = content
        control.model_views.append(ModelView(digest, number, SessionId(session), parent, len(content), 1.0))
        parent = digest
        digests.append(digest)
    return digests


def test_model_verify_walks_the_trail_and_has_every_object_read(run: Run, served: Served, started: str) -> None:
    made_rounds(served, started, b"one", b"two")
    ended = run("model", "verify", "--json")
    assert ended.code == 0, ended.err
    assert (ended.data["sessions"], ended.data["models"], ended.data["packages"]) == (1, 3, 1)
    assert ended.data["faults"] == []
    assert "The trail is whole" in run("model", "verify", "--session", started[:8]).err


def test_model_verify_names_what_is_wrong_and_exits_with_1(run: Run, served: Served, started: str) -> None:
    one, two = made_rounds(served, started, b"one", b"two")
    served.control.objects[Digest(one)] = b"0ne"
    del served.control.objects[Digest(two)]
    served.control.model_views[-1] = replace(served.control.model_views[-1], number=3)
    ended = run("model", "verify", "--json")
    assert ended.code == 1
    faults = ended.data["faults"]
    assert len(faults) == 3
    assert "lacks round 2" in faults[0]
    assert any(f"model {one} is corrupt" in fault for fault in faults)
    assert any(f"model {two} is missing" in fault for fault in faults)


def test_model_verify_is_an_admins(run: Run, served: Served, started: str, profile: Path) -> None:
    viewer = served.control.let_in("viewer")
    text = profile.read_text().splitlines()
    profile.write_text("\n".join([text[0], f"token: {viewer}", text[2]]))
    assert run("model", "verify").code == 4
