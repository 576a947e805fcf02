import asyncio
import http.client
import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_control import FakeControl
from web_server import Served

from fedn_py.runtime.https_server import CannotListen
from fedn_py.settings import CertificateSettings, LimitSettings
from fedn_py.web import create_app, serve_web

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


def test_the_page_to_sign_in_says_what_this_is_without_a_token(served: Served) -> None:
    page = served.ask("GET", "/sign-in")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert b"federated learning" in page.body


def test_probes_tell_whether_it_lives_and_whether_it_is_ready(served: Served) -> None:
    assert served.ask("GET", "/healthz").status == 200
    answer = served.ask("GET", "/readyz")
    assert (answer.status, answer.json) == (200, {"ready": True, "reasons": []})
    served.control.healthy = False
    assert served.ask("GET", "/healthz").status == 200
    answer = served.ask("GET", "/readyz")
    assert answer.status == 503
    assert answer.json == {"ready": False, "reasons": ["documents (memory): does not answer"]}


def test_silent_connections_stall_nobody(served: Served) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
    try:
        token = served.control.let_in("viewer")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: served.ask("GET", "/api/v1/status", token=token).status, range(16)))
        assert answers == [200] * 16
    finally:
        for connection in silent:
            connection.close()


def test_bodies_that_stall_stall_nobody(served: Served) -> None:
    stalled = [begin_sign_in(served) for _ in range(60)]
    try:
        assert served.ask("GET", "/healthz").status == 200
        assert served.ask("GET", "/api/v1/status", token=served.control.let_in("viewer")).status == 200
        assert served.ask("POST", "/sign-in", b"token=none", headers=FORM).status != 200
    finally:
        for connection in stalled:
            connection.close()


def test_a_body_that_is_not_whole_in_time_is_refused_and_its_connection_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedn_py.web.bodies.WHOLE_IN_S", 0.05)
    connection = begin_sign_in(served)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    problem = json.loads(answer.read())
    assert (problem["code"], problem["detail"]) == ("RequestTimeout", "6 of 1000 bytes came within 0.05 seconds")
    connection.close()


def test_more_bodies_than_can_be_held_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedn_py.web.bodies._MOST_HELD", 0)
    assert served.ask("POST", "/sign-in", b"token=none", headers=FORM).status == 503


def test_what_a_body_held_is_free_again_after_its_answer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedn_py.web.bodies._MOST_HELD", 1)
    token = served.control.let_in("admin")
    body = b'"' + b"x" * 3000 + b'"'
    # Whoever has an answer may ask again a moment before its body is let go of.
    answers = [served.ask("POST", "/api/v1/tokens", body, token=token, headers=JSON).status for _ in range(30)]
    assert set(answers) <= {422, 503}
    assert answers.count(422) > 2


def begin_sign_in(served: Served) -> http.client.HTTPSConnection:
    """Return a connection on which the body of a request has begun and does not go on."""
    connection = served.connect()
    connection.putrequest("POST", "/sign-in")
    for name, value in FORM.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b"token=")
    return connection


def test_a_reader_that_leaves_in_the_middle_of_a_download_harms_nobody(served: Served) -> None:
    token = served.control.let_in("admin")
    digest = served.ask("POST", "/api/v1/models", b"x" * (4 << 20), token=token).json["digest"]
    for _ in range(45):
        connection = served.connect()
        connection.request("GET", f"/api/v1/models/{digest}/content", headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        assert response.read(1) == b"x"
        connection.close()
        response.close()
    assert served.ask("GET", "/healthz").status == 200


def test_a_port_that_is_taken_is_told_with_the_way_out(served: Served, certificate: CertificateSettings) -> None:
    async def main() -> None:
        app = create_app(FakeControl(), asyncio.get_running_loop(), LimitSettings())
        with pytest.raises(CannotListen, match="cannot be listened on"):
            await serve_web(app, f"127.0.0.1:{served.port}", certificate)

    asyncio.run(main())


def test_the_end_of_an_answer_does_not_wait_for_an_acknowledgement(certificate: CertificateSettings) -> None:
    async def main() -> None:
        app = create_app(FakeControl(), asyncio.get_running_loop(), LimitSettings())
        server = await serve_web(app, "127.0.0.1:0", certificate)
        trusted = ssl.create_default_context(cafile=str(certificate.certificate_file.parent / "authority.pem"))
        reader, writer = await asyncio.open_connection(*server.address, ssl=trusted, server_hostname="localhost")
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in await reader.readline()
        (connection,) = server._server._server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await server.stop()

    asyncio.run(main())


def test_a_certificate_that_is_none_is_told(certificate: CertificateSettings) -> None:
    async def main() -> None:
        app = create_app(FakeControl(), asyncio.get_running_loop(), LimitSettings())
        wrong = CertificateSettings.model_construct(
            certificate_file=certificate.key_file, key_file=certificate.certificate_file
        )
        with pytest.raises(CannotListen, match="certificate"):
            await serve_web(app, "127.0.0.1:0", wrong)

    asyncio.run(main())


def test_an_upload_that_stalls_is_given_up_and_stores_nothing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedn_py.web.server.IDLE_S", 0.05)
    connection = served.connect()
    connection.putrequest("POST", "/api/v1/models")
    connection.putheader("Authorization", f"Bearer {served.control.let_in('admin')}")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b"half of it")
    response = connection.getresponse()
    assert response.status == 400
    assert b"after 10 of 1000 bytes" in response.read()
    connection.close()
    assert served.control.model_views == []
