import asyncio
import json
import re
import shlex
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from artifacts import a_model
from awaiting import until
from browser import Browser
from fake_trail import counted_calls
from reducer_network import a_network
from web_server import Answer, Served

from fedn_py.identity import CombinerName
from fedn_py.protocol.messages import CellOrder
from fedn_py.settings import CertificateSettings, LimitSettings
from fedn_py.web import create_app, serve_web


@pytest.fixture
def admin(served: Served, browser: Browser) -> Browser:
    browser.enter(served.control.let_in("admin"))
    return browser


def uploaded(served: Served) -> dict[str, str]:
    token = served.control.let_in("admin")
    package = served.ask("POST", "/api/v1/packages", b"an archive", token=token).json["digest"]
    model = served.ask("POST", "/api/v1/models", a_model(), token=token).json["digest"]
    return {"package": package, "seed_model": model}


def post(browser: Browser, path: str, **form: str) -> Answer:
    body = urlencode({"csrf_token": browser.csrf, **form}).encode()
    return browser.ask("POST", path, body, Referer=f"https://localhost:{browser.served.port}/")


def value_of(page: str, name: str) -> str:
    found = re.search(rf'<input id="{re.escape(name)}"[^>]*? value="([^"]*)"', page)
    assert found is not None, name
    return found[1]


def test_without_package_or_model_the_page_leads_to_what_takes_them(admin: Browser) -> None:
    page = admin.page("/sessions/new")
    assert "There is no package yet and no model" in page
    assert "<form class" not in page.split("<main")[1]
    assert "cannot stay so" not in page


def test_it_is_filled_in_for_who_is_attached_now(served: Served, admin: Browser) -> None:
    uploaded(served)
    served.control.told = {"clients": 7}
    page = admin.page("/sessions/new")
    assert value_of(page, "clients_required") == "4"
    assert "7 clients on 1 combiner attached now" in page
    assert "no operator has certified this reducer" in page
    assert 'value="none" checked' in page
    assert "wrong-why" not in page
    assert "fedn-py session start --package" in page


def test_masking_is_chosen_where_an_operator_and_three_clients_are_there(served: Served, admin: Browser) -> None:
    uploaded(served)
    served.control.told = {"clients": 2, "masks": True}
    page = admin.page("/sessions/new")
    assert "Not possible now: a sum hides a client among 3 and more, and 2 clients are attached." in page
    assert 'value="none" checked' in page
    served.control.combiner_views = [replace(one, clients=3) for one in served.control.combiner_views]
    served.control.told = {"clients": 3, "masks": True}
    page = admin.page("/sessions/new")
    assert "Not possible now" not in page
    assert 'value="pet" id="masking-pet" checked' in page
    assert value_of(page, "clients_required") == "3"


def test_masking_stays_chosen_where_clients_of_a_small_cell_will_be_moved(served: Served, admin: Browser) -> None:
    uploaded(served)
    (view,) = served.control.combiner_views
    served.control.combiner_views = [
        replace(view, clients=3), replace(view, name=CombinerName("combiner-2"), clients=2),
    ]  # fmt: skip
    served.control.told = {"clients": 5, "masks": True}
    page = admin.page("/sessions/new")
    assert "Not possible now" not in page
    assert 'value="pet" id="masking-pet" checked' in page
    assert "2 clients of combiner-2 will be sent to a larger cell" in page


def test_a_package_and_a_seed_are_chosen_in_advance(served: Served, admin: Browser) -> None:
    old = uploaded(served)
    served.ask("POST", "/api/v1/packages", b"a newer archive", token=served.control.let_in("admin"))
    assert f'<option value="{old["package"]}" selected>' not in admin.page("/sessions/new")
    page = admin.page(f"/sessions/new?package={old['package']}&seed={old['seed_model']}")
    assert f'<option value="{old["package"]}" selected>' in page
    assert f'<option value="{old["seed_model"]}" selected>' in page


def test_a_session_starts_with_what_was_typed(served: Served, admin: Browser) -> None:
    answer = post(
        admin,
        "/sessions",
        **uploaded(served),
        rounds="7",
        name="nightly",
        clients_required="2",
        update_timeout_s="30.5",
        validate="on",
        parameters='{"epochs": 2}',
        masking="pet",
        **{"masked.k": "2", "masked.r": "1", "masked.g_min": "4", "masked.metrics": "loss=10\nsome=thing=0.5"},
    )
    assert answer.status == 303
    (started,) = served.control.session_views.values()
    assert answer.headers["location"] == f"/sessions/{started.id}"
    options = started.options
    assert (options.rounds, options.name, options.clients_required, options.update_timeout_s) == (7, "nightly", 2, 30.5)
    assert options.validate is True
    assert options.parameters == {"epochs": 2}
    assert (options.masked.k, options.masked.r, options.masked.g_min) == (2, 1, 4)
    assert options.masked.metrics == {"loss": 10.0, "some=thing": 0.5}


def test_what_belongs_to_masking_is_not_sent_without_it_and_an_empty_box_validates_nothing(
    served: Served, admin: Browser
) -> None:
    assert post(admin, "/sessions", **uploaded(served), rounds="1", masking="none", **{"masked.k": "5"}).status == 303
    (started,) = served.control.session_views.values()
    assert started.options.masked.k == 0
    assert started.options.validate is False


def test_everything_wrong_is_said_beside_its_field_and_what_was_typed_stays(served: Served, admin: Browser) -> None:
    answer = post(
        admin, "/sessions", **uploaded(served), rounds="0", name="<i>x", clients_required="many", parameters="[1]"
    )
    assert answer.status == 422
    page = answer.body.decode()
    for name, why in {
        "rounds": "must be greater than or equal to 1",
        "clients_required": "must be a valid integer",
        "parameters": "must be a JSON object",
    }.items():
        assert re.search(rf'<p class="why wrong-why" id="{name}-why"[^>]*>[^<]*{why}', page), name
    assert '<p class="why wrong-why" id="name-why"' in page
    assert '<a href="#clients_required">Required</a>' in page
    assert value_of(page, "clients_required") == "many"
    assert value_of(page, "name") == "&lt;i&gt;x"
    assert not served.control.session_views


def test_what_the_reducer_refuses_is_said_above_and_what_was_typed_stays(served: Served, admin: Browser) -> None:
    chosen = uploaded(served)
    assert post(admin, "/sessions", **chosen, rounds="1").status == 303
    answer = post(admin, "/sessions", **chosen, rounds="8")
    assert answer.status == 409
    page = answer.body.decode()
    assert "SessionUnderWay" in page
    assert "stop it first" in page
    assert value_of(page, "rounds") == "8"
    assert value_of(page, "masked.clip") == "10"  # a part that was not shown was not sent, and is there again


def test_the_same_is_shown_as_a_command_and_as_a_request(served: Served, admin: Browser) -> None:
    chosen = uploaded(served)
    answer = post(
        admin, "/sessions/check", **chosen, rounds="3", name="nightly", parameters='{"it\'s": 1}', clients_wanted="4"
    )
    shown = [unescape(code) for code in re.findall(r"<code>(.*?)</code>", answer.body.decode(), re.DOTALL)]
    words = shlex.split(shown[0])
    assert words[:7] == ["fedn-py", "session", "start", "--package", chosen["package"], "--model", chosen["seed_model"]]
    assert words[7:] == [
        *("--rounds", "3", "--name", "nightly", "--clients-wanted", "4", "--no-validate"),
        *("--parameters", '{"it\'s": 1}'),
    ]
    curl = shlex.split(shown[1])
    body = json.loads(curl[curl.index("-d") + 1])
    assert body == {
        **chosen, "rounds": 3, "name": "nightly", "clients_wanted": 4, "validate": False, "parameters": {"it's": 1},
    }  # fmt: skip
    assert served.ask("POST", "/api/v1/sessions", body, token=served.control.let_in("admin")).status == 201


def test_a_check_says_what_is_wrong_and_starts_nothing(served: Served, admin: Browser) -> None:
    answer = post(admin, "/sessions/check", **uploaded(served), rounds="0")
    assert b'<a href="#rounds">Rounds</a>: must be greater than or equal to 1' in answer.body
    assert b"<html" not in answer.body
    assert not served.control.session_views


def said_of(answer: Answer) -> dict[str, tuple[bool, str]]:
    """Return what a check puts beside each field: whether that is a fault, and its text."""
    found = re.findall(
        r'<p class="why ([\w-]+)" id="([\w.]+)-why" data-why="[\w.]+" hx-swap-oob="true">(.*?)</p>',
        answer.body.decode(),
    )
    return {name: (look == "wrong-why", text) for look, name, text in found}


def test_a_check_marks_each_field_in_place_and_clears_what_is_right_again(served: Served, admin: Browser) -> None:
    fields = set(re.findall(r'id="([\w.]+)-why"', (uploaded(served), admin.page("/sessions/new"))[1]))
    wrong = said_of(
        post(admin, "/sessions/check", **uploaded(served), rounds="0", **{"masked.clip": "x"}, masking="pet")
    )
    assert wrong["rounds"] == (True, "must be greater than or equal to 1")
    assert wrong["masked.clip"][0]
    right = said_of(post(admin, "/sessions/check", **uploaded(served), rounds="1"))
    assert set(right) == set(wrong) == fields
    assert set(right.values()) == {(False, "")}


def test_a_check_says_that_it_will_wait_and_what_masking_needs(served: Served, admin: Browser) -> None:
    chosen = {**uploaded(served), "rounds": "1"}
    served.control.told = {"clients": 5, "masks": True}

    def required(**typed: str) -> tuple[bool, str]:
        return said_of(post(admin, "/sessions/check", **chosen, **typed))["clients_required"]

    assert required(clients_required="5") == (False, "")
    assert required(clients_required="6") == (False, "5 are attached: it will wait.")
    needs = "Masking with these terms needs {} and more: so many will be required."
    assert required(clients_required="2", masking="pet") == (False, needs.format(3))
    assert required(clients_required="3", masking="pet") == (False, "")
    assert required(clients_required="3", masking="pet", **{"masked.k": "3", "masked.r": "2"}) == (
        False,
        needs.format(5),
    )
    assert required(clients_required="2", masking="pet", **{"masked.g_min": "7"}) == (
        False,
        f"{needs.format(7)} 5 are attached: it will wait.",
    )


def test_the_page_asks_the_reducer_for_four_things(served: Served, admin: Browser) -> None:
    uploaded(served)
    with counted_calls(served.control) as asked:
        admin.page("/sessions/new")
    assert asked == {"status": 1, "packages": 1, "models": 1, "combiners": 1}


def test_a_real_reducer_starts_what_the_form_asks_for_and_its_page_shows_the_round(
    certificate: CertificateSettings, tmp_path: Path
) -> None:
    async def story() -> None:
        async with a_network(tmp_path) as network:
            app = create_app(network.control, asyncio.get_running_loop(), LimitSettings())
            server = await serve_web(app, "127.0.0.1:0", certificate)
            authority = certificate.certificate_file.parent / "authority.pem"
            served = Served(cast("Any", network.control), server.address[1], authority, asyncio.get_running_loop())
            browser = Browser(served)
            token, _ = await network.control.create_token("admin", "a person", 3600.0)
            combiner = await network.combiner(silent=True)
            options = await network.options()
            chosen = {"package": options.package, "seed_model": options.seed_model, "rounds": "1", "name": "nightly"}

            def visit() -> str:
                browser.enter(token)
                page = browser.page("/sessions/new")
                assert value_of(page, "clients_required") == "1"
                answer = post(browser, "/sessions", **chosen, validate="on", masking="none", parameters="{}")
                assert answer.status == 303, answer.body
                return answer.headers["location"]

            place = await asyncio.to_thread(visit)
            await until(lambda: len(combiner.orders) == 1)
            order = combiner.orders[0]
            assert isinstance(order, CellOrder)
            await combiner.tell_progress(order, "collecting", 1, 1, 0)
            page = await asyncio.to_thread(browser.page, place)
            assert "Session nightly" in page
            assert "north: 1 of 2 clients are in" in page
            assert "Stop now" in page
            combiner.silent = False
            await combiner.answer(order)
            await network.at_rest()
            page = await asyncio.to_thread(browser.page, place)
            assert "1 of 1 round done" in page
            assert "committing" in page
            assert "All is well" in await asyncio.to_thread(browser.page, "/")
            await server.stop()

    asyncio.run(story())
