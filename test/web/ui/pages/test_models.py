import re

import pytest
from browser import Browser
from fake_trail import SEED, a_trained_session, counted_calls, model_of
from web_server import Served

from fedn_py.reducer.shown_objects import ModelView


def text_of(page: str) -> str:
    """Return what people read of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition('id="live"')[2]).split())


@pytest.fixture
def viewer(served: Served, browser: Browser) -> Browser:
    browser.enter(served.control.let_in("viewer"))
    return browser


def test_without_models_the_page_says_what_makes_them(viewer: Browser) -> None:
    page = viewer.page("/models")
    assert "No models yet" in page
    assert "fedn-py model upload" in page


def test_models_tell_what_made_them_and_what_they_were_made_from(served: Served, viewer: Browser) -> None:
    session = a_trained_session(served.control, name="x" * 60)
    text = text_of(viewer.page("/models"))
    assert f"{model_of(session.id, 3)[:12]} round 3 of {'x' * 60} {model_of(session.id, 2)[:12]} 2 clients" in text
    assert f"{SEED[:12]} seed model" in text
    assert "accuracy 0.9375" in text
    assert "recall hidden: 2 clients gave it, and a mean is shown of at least 3" in text


def test_a_session_s_trail_goes_from_the_newest_model_to_its_seed(served: Served, viewer: Browser) -> None:
    session = a_trained_session(served.control)
    a_trained_session(served.control, name="another", number=2)
    page = viewer.page(f"/models?session={session.id}")
    heads = re.findall(r"<b>(Round \d|Seed model)</b>", page)
    assert heads == ["Round 3", "Round 2", "Round 1", "Seed model"]
    text = text_of(page)
    assert f"from {model_of(session.id, 2)[:12]} by 2 clients with 30 samples" in text
    assert f"from the seed model {SEED[:12]}" in text
    assert text.count("newest") == 1
    assert f'href="/models/{model_of(session.id, 2)}"' in page
    assert f'href="/api/v1/models/{SEED}/content" download' in page
    assert '<option value="00000000000000000000000000000001" selected>digits' in page


def test_a_long_trail_comes_in_pages_and_ends_with_its_seed(served: Served, viewer: Browser) -> None:
    session = a_trained_session(served.control, rounds=120)
    path, seen = f"/models?session={session.id}", 0
    for _ in range(3):
        page = viewer.page(path)
        seen += len(re.findall(r"<b>Round \d+</b>", page))
        older = re.search(r'href="(/models\?[^"]*after=[^"]*)"', page)
        assert ("<b>Seed model</b>" in page) == (older is None)
        path = older[1].replace("&amp;", "&") if older else ""
    assert (seen, path) == (120, "")


def test_a_session_without_a_committed_round_says_so_and_shows_its_seed(served: Served, viewer: Browser) -> None:
    session = a_trained_session(served.control, rounds=0)
    page = viewer.page(f"/models?session={session.id}")
    assert "No model has been made yet" in page
    assert "<b>Seed model</b>" in page


def test_a_model_tells_all_that_is_known_and_how_to_load_it(served: Served, viewer: Browser) -> None:
    session = a_trained_session(served.control)
    model = model_of(session.id, 2)
    page = viewer.page(f"/models/{model}")
    text = text_of(page)
    assert "Made by round 2 of digits" in text
    assert "updates of 2 clients, 30 samples" in text
    assert f"From {model_of(session.id, 1)[:12]}" in text
    assert f'href="/api/v1/models/{model}/content" download="{model[:12]}.safetensors"' in page
    for library in ("safetensors.numpy", "fedn_py.package.pytorch", "fedn_py.package.keras"):
        assert f"from {library} import" in page
    assert f"/api/v1/objects/{model}/verify" in page


def test_tensors_have_their_shape_and_statistics_and_bad_numbers_stand_out(served: Served, viewer: Browser) -> None:
    a_trained_session(served.control)
    assert f'hx-get="/models/{SEED}/tensors"' in viewer.page(f"/models/{SEED}")
    page = viewer.page(f"/models/{SEED}/tensors")
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "2 tensors with 7 numbers" in text
    assert "w 6 not finite 2 by 3 F32" in text
    assert "b scalar F32 0.5 0 0.5 0.5 0.0 %" in text


def test_an_admin_verifies_a_model_and_reads_the_outcome(served: Served, browser: Browser) -> None:
    browser.enter(served.control.let_in("admin"))
    served.control.model_views.append(ModelView(SEED, 0, None, None, 4, 1.0))
    csrf = f"csrf_token={browser.csrf}".encode()
    for content, said in ((None, "<strong>Missing</strong>"), (b"else", "<strong>Corrupt</strong>")):
        if content is not None:
            served.control.objects[SEED] = content
        page = browser.ask(
            "POST", f"/models/{SEED}/verify", csrf, Referer=f"https://localhost:{served.port}/models/{SEED}"
        )
        assert said in page.body.decode()


def test_a_viewer_is_told_who_may_verify(served: Served, viewer: Browser) -> None:
    a_trained_session(served.control)
    page = viewer.page(f"/models/{SEED}")
    assert "data-verify" not in page
    assert "takes a token of role admin" in page


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/models/xyz", 422, "64 lower-case hex digits"),
        (f"/models/{'0' * 64}", 404, "there is no model"),
        ("/models?session=zz", 422, "session"),
        ("/models?session=00", 404, "there is no session"),
    ],
)
def test_what_is_not_there_is_told_as_a_page(viewer: Browser, path: str, status: int, said: str) -> None:
    answer = viewer.ask("GET", path)
    assert answer.status == status
    assert said in answer.body.decode()
    assert "<h1>" in answer.body.decode()


@pytest.mark.parametrize(("query", "most"), [("", 3), ("?session=00000000000000000000000000000001", 5)])
def test_a_page_asks_the_reducer_a_few_things_however_long_the_trail_is(
    served: Served, viewer: Browser, query: str, most: int
) -> None:
    a_trained_session(served.control, rounds=60)
    with counted_calls(served.control) as calls:
        viewer.page(f"/models{query}")
    assert calls.total() <= most
