"""The reducer's metrics: for tokens of role viewer and admin, while it is active and while it stands by."""

import asyncio
from collections.abc import Iterator

import pytest
from fake_control import FakeControl
from flask_openapi3.openapi import OpenAPI
from web_server import Answer, Served, serving

from fedn_py.runtime.metrics import new_registry
from fedn_py.settings import CertificateSettings, LimitSettings
from fedn_py.transport.authentication import TokenRecord
from fedn_py.web import create_app, create_standby_app
from fedn_py.web.metrics import install_metrics, install_standby_metrics

REASON = "standby: north is active"


@pytest.fixture(params=["active", "standby"])
def measured(request: pytest.FixtureRequest, certificate: CertificateSettings) -> Iterator[Served]:
    """Serve the metrics of a reducer that is active, or one that stands by."""
    control, loops = FakeControl(), list[asyncio.AbstractEventLoop]()

    async def known(bearer: str) -> TokenRecord:
        caller = await control.authenticate(bearer)
        return TokenRecord(caller.token, caller.role, caller.label, "0" * 64, 2e9)

    def make(loop: asyncio.AbstractEventLoop) -> OpenAPI:
        loops.append(loop)
        if request.param == "standby":
            standby = create_standby_app(lambda: REASON)
            install_standby_metrics(standby, new_registry("reducer"), known, loop)
            return standby
        app = create_app(control, loop, LimitSettings())
        install_metrics(app, new_registry("reducer"))
        return app

    with serving(make, certificate) as port:
        served = Served(control, port, certificate.certificate_file.parent / "authority.pem", loops[0])
        yield served
        if hasattr(served.kept, "connection"):
            served.kept.connection.close()


def ask(served: Served, bearer: str = "", **headers: str) -> Answer:
    return served.ask("GET", "/metrics", token=bearer, headers=headers)


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_who_may_look_reads_the_metrics(measured: Served, role: str) -> None:
    answer = ask(measured, measured.control.let_in(role))  # type: ignore[arg-type]
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert b"fedn_build_info{" in answer.body


def test_the_metrics_come_in_the_form_that_is_asked_for(measured: Served) -> None:
    answer = ask(measured, measured.control.let_in("viewer"), Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


def test_nobody_else_reads_them(measured: Served) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp4"}, {"Authorization": ""}):
        answer = ask(measured, **headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    for role in ("client", "combiner"):
        assert ask(measured, measured.control.let_in(role)).status == 403  # type: ignore[arg-type]
