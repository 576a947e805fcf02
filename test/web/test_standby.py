"""What a reducer answers while another one is active, and when it has taken over."""

import asyncio
import http.client
import json
import ssl

from fake_control import FakeControl

from fedn_py.settings import CertificateSettings, LimitSettings
from fedn_py.web import create_app, create_standby_app, serve_web

REASON = "standby: north (north.example.org:8090) is active"


def test_a_standby_answers_its_probes_and_names_the_active_reducer_until_it_has_taken_over(
    certificate: CertificateSettings,
) -> None:
    def ask(port: int, method: str, path: str, accept: str = "*/*") -> tuple[int, str, bytes]:
        context = ssl.create_default_context(cafile=str(certificate.certificate_file.parent / "authority.pem"))
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
        try:
            connection.request(method, path, headers={"Accept": accept})
            response = connection.getresponse()
            return response.status, response.headers["content-type"], response.read()
        finally:
            connection.close()

    async def story() -> None:
        web = await serve_web(create_standby_app(lambda: REASON), "127.0.0.1:0", certificate)
        port = web.address[1]
        try:
            assert (await asyncio.to_thread(ask, port, "GET", "/healthz"))[0] == 200
            status, _, body = await asyncio.to_thread(ask, port, "GET", "/readyz")
            assert (status, json.loads(body)) == (503, {"ready": False, "reasons": [REASON]})
            for method, path in (("GET", "/api/v1/status"), ("POST", "/api/v1/sessions"), ("GET", "/"), ("GET", "/no")):
                status, kind, body = await asyncio.to_thread(ask, port, method, path)
                problem = json.loads(body)
                assert (status, kind) == (503, "application/problem+json")
                assert (problem["code"], problem["detail"]) == ("NotActive", REASON)
                assert "active reducer" in problem["remedy"]
            status, kind, body = await asyncio.to_thread(ask, port, "GET", "/network", "text/html,*/*;q=0.8")
            assert (status, kind) == (503, "text/html; charset=utf-8")
            assert REASON in body.decode()
            web.show(create_app(FakeControl(), asyncio.get_running_loop(), LimitSettings()))
            status, _, body = await asyncio.to_thread(ask, port, "GET", "/readyz")
            assert (status, json.loads(body)) == (200, {"ready": True, "reasons": []})
            assert (await asyncio.to_thread(ask, port, "GET", "/api/v1/status"))[0] == 401
        finally:
            await web.stop()

    asyncio.run(story())
