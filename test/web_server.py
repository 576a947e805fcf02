"""A reducer's web face, served over TLS, in front of a control in memory."""

import asyncio
import copy
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fake_control import FakeControl
from flask_openapi3 import openapi, utils
from flask_openapi3.openapi import OpenAPI

from fedn_py.settings import CertificateSettings, LimitSettings
from fedn_py.transport.certificates import issue_server_certificate, make_authority, write_pair
from fedn_py.web import create_app, serve_web
from fedn_py.web.surroundings import Surroundings

_ending: list[threading.Thread] = []
"""Of servers that have been told to stop."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    """A web face under test."""

    control: FakeControl
    port: int
    authority_file: Path
    loop: asyncio.AbstractEventLoop
    kept: threading.local = field(default_factory=threading.local)

    def connect(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.authority_file))
        return http.client.HTTPSConnection("localhost", self.port, context=context, timeout=20)

    def ask(
        self, method: str, path: str, body: object = None, *, token: str = "", headers: dict[str, str] | None = None
    ) -> Answer:
        """Make one request; a body that is not bytes goes as JSON."""
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        # One connection per thread is kept open: a TLS handshake per request would be most of the tests' time.
        if not hasattr(self.kept, "connection"):
            self.kept.connection = self.connect()
        connection: http.client.HTTPSConnection = self.kept.connection
        connection.request(method, path, body=body, headers=sent)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CertificateSettings]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = make_authority("test")
    issued = issue_server_certificate(authority, "reducer", ["localhost", "127.0.0.1"])
    write_pair(issued.certificate_pem, issued.key_pem, folder / "reducer.pem", folder / "reducer.key")
    (folder / "authority.pem").write_bytes(authority.certificate_pem)
    yield CertificateSettings.model_validate(
        {"certificate_file": folder / "reducer.pem", "key_file": folder / "reducer.key"}
    )
    for thread in _ending:
        thread.join(20)
    assert not [thread for thread in _ending if thread.is_alive()]


_schema_of = cache(utils.get_model_schema)


@contextmanager
def schemas_made_once() -> Iterator[None]:
    """Make the JSON schema of a form once for all applications: it would be most of what it takes to make each."""

    def a_copy(*of: Any, **how: Any) -> dict[str, Any]:
        return copy.deepcopy(_schema_of(*of, **how))

    with pytest.MonkeyPatch.context() as patched:
        for module in (openapi, utils):
            patched.setattr(module, "get_model_schema", a_copy)
        yield


@contextmanager
def serving(make: Callable[[asyncio.AbstractEventLoop], OpenAPI], certificate: CertificateSettings) -> Iterator[int]:
    """Serve an application in an event loop of a thread of its own; gives its port.

    It ends behind the next tests, by the end of them all: to wait for each would be a third of their time.
    """
    box: list[tuple[int, asyncio.Event, asyncio.AbstractEventLoop]] = []
    up = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        with schemas_made_once():
            app = make(loop)
        server = await serve_web(app, "127.0.0.1:0", certificate)
        box.append((server.address[1], stop, loop))
        up.set()
        await stop.wait()
        await server.stop()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert up.wait(20)
    port, stop, loop = box[0]
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        _ending.append(thread)


@contextmanager
def served_around(certificate: CertificateSettings, around: Surroundings) -> Iterator[Served]:
    """Serve a fresh control with something around it."""
    control = FakeControl()
    limits = LimitSettings(max_model_bytes=4 << 20, max_package_bytes=1 << 20, max_json_bytes=4096)
    loops: list[asyncio.AbstractEventLoop] = []

    def make(loop: asyncio.AbstractEventLoop) -> OpenAPI:
        loops.append(loop)
        return create_app(control, loop, limits, around=around)

    with serving(make, certificate) as port:
        served = Served(control, port, certificate.certificate_file.parent / "authority.pem", loops[0])
        try:
            yield served
        finally:
            if hasattr(served.kept, "connection"):
                served.kept.connection.close()


@pytest.fixture
def served(certificate: CertificateSettings) -> Iterator[Served]:
    """Serve a fresh control."""
    with served_around(certificate, Surroundings()) as served:
        yield served
