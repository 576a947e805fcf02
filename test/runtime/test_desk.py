"""The lines between a sandbox's pages and the process that started it."""

import json

import pytest

from fedn_py.errors import PeerFault
from fedn_py.runtime.desk import (
    AddClient,
    Added,
    Answer,
    DeskMalformed,
    DeskRefused,
    Done,
    Kill,
    Look,
    MadeSeed,
    MadeToken,
    MakeSeed,
    MakeToken,
    MaskedUpdateView,
    Processes,
    ProcessView,
    Request,
    ShowMasked,
    StartAgain,
    read_answer,
    read_request,
    write_answer,
    write_fault,
    write_request,
)

EXCHANGES: list[tuple[Request, Answer]] = [
    (Look(), Processes((ProcessView("client", "client-1", None), ProcessView("combiner", "combiner-1", -9)))),
    (Kill("client-1"), Done()),
    (StartAgain("client-1"), Done()),
    (AddClient(), Added("client-9")),
    (MakeToken("hospital-a", 30.0), MadeToken("fedn1.x\nfedn-join-1:y\n", "00ff")),
    (MakeSeed("ab" * 32), MadeSeed("cd" * 32, 2_744)),
    (ShowMasked("client-1"), MaskedUpdateView("client-1", "ef" * 16, 3, (0, 2**32 - 1), 663, (0.5, -0.25))),
]


@pytest.mark.parametrize(("request_", "answer"), EXCHANGES)
def test_every_request_and_its_answer_come_back_as_they_were(request_: Request, answer: Answer) -> None:
    assert read_request(write_request(request_)) == request_
    assert read_answer(request_, write_answer(answer)) == answer
    assert write_request(request_).count(b"\n") == write_answer(answer).count(b"\n") == 1


@pytest.mark.parametrize(
    "line",
    [b"", b"[]\n", b"{}\n", b'{"ask": "Reboot"}\n', b'{"ask": "Kill"}\n', b'{"ask": "Kill", "name": [1]}\n', b"\xff\n"],
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(DeskMalformed):
        read_request(line)


def test_an_answer_to_another_question_is_refused() -> None:
    with pytest.raises(DeskMalformed):
        read_answer(AddClient(), write_answer(Processes(())))


def test_a_refusal_keeps_its_name_its_words_and_its_remedy() -> None:
    class NoRoom(PeerFault):
        pass

    with pytest.raises(DeskRefused) as refused:
        read_answer(Look(), write_fault(NoRoom("the house is full", remedy="Build another.")))
    assert refused.value.code == "NoRoom"
    assert (refused.value.message, refused.value.remedy) == ("the house is full", "Build another.")


def test_a_made_token_is_not_shown_where_values_are_printed() -> None:
    assert "fedn1" not in repr(MadeToken("fedn1.secret", "00ff"))
    assert json.loads(write_answer(MadeToken("fedn1.secret", "00ff")))["answer"]["text"] == "fedn1.secret"
