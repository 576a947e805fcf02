"""How long the reducer takes to make each page, over a network with a history.

A real reducer on the embedded stores, with clients in its registry and rounds in its past; each page is asked for by a
signed-in browser over HTTPS on loopback, one request after another. The time is from the request to the answer's last
byte, the TLS connection being open already. Nothing is attached: what is measured is what a page costs the server.
"""

import asyncio
import http.client
import io
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedn_py.execution.packing import create_package
from fedn_py.execution.projects import project_folder
from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, Generation, SessionId
from fedn_py.protocol.messages import RoundPlan
from fedn_py.protocol.reducer_terms import SessionTerms
from fedn_py.reducer.assemble import assemble
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import (
    ClientRecord,
    CombinerRecord,
    EventRecord,
    ExcludedClient,
    IncludedClient,
    Measured,
    PackageRecord,
    RoundRecord,
    SessionRecord,
    round_key,
)
from fedn_py.settings import ReducerSettings
from fedn_py.store.opening import EmbeddedStores, open_stores
from fedn_py.transport.certificates import issue_server_certificate, make_authority, write_pair
from fedn_py.web import create_app, serve_web
from fedn_py.web.sign_in import SignInLinks

SESSION = SessionId("5e55" * 8)
_SEED = Digest("b" * 64)
_UPDATE = Digest("d" * 64)
_BEGAN = 1_700_000_000.0
_ROUND_S = 30.0
_COMBINERS = (CombinerName("combiner-1"), CombinerName("combiner-2"))
_EVENTS_A_ROUND = 25

AIM_MS = 300.0
"""Each page shall take less at its median, over a history of the default size."""

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class History:
    """What lies in the stores.

    Attributes:
        clients: in the registry.
        in_round: of them in each round.
    """

    clients: int = 1_000
    rounds: int = 200
    in_round: int = 100


def pages(session: SessionId, model: Digest, package: Digest) -> dict[str, str]:
    """Return the pages that are measured, by name, with their addresses."""
    return {
        "start": "/",
        "sessions": "/sessions",
        "session": f"/sessions/{session}",
        "round": f"/sessions/{session}/rounds/1",
        "new session": "/sessions/new",
        "package": f"/packages/{package}",
        "network": "/network",
        "models": "/models",
        "model": f"/models/{model}",
        "tensors": f"/models/{model}/tensors",
        "validation": f"/validation?session={session}",
        "events": "/events",
        "event": "/events/1",
        "clients": "/clients",
        "privacy": f"/privacy?session={session}",
        "session's privacy": f"/sessions/{session}/privacy",
        "privacy report": f"/api/v1/sessions/{session}/privacy.html",
        "api": "/api",
    }


async def measure(history: History = History(), repeats: int = 7) -> dict[str, Row]:
    """Return, for each page, the median and the longest time in ms, and its bytes.

    The first answer of each page, which compiles its template, is not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        async with _served(Path(folder), history) as served:
            return await asyncio.to_thread(_ask_all, served, repeats)


def over_aim(rows: Mapping[str, Row]) -> frozenset[str]:
    """Return the pages whose median misses the aim."""
    return frozenset(name for name, row in rows.items() if row["median_ms"] >= AIM_MS)


@dataclass(frozen=True, slots=True)
class _Served:
    port: int
    context: ssl.SSLContext
    link: str
    model: Digest
    package: Digest


@asynccontextmanager
async def _served(folder: Path, history: History) -> AsyncIterator[_Served]:
    settings = _settings(folder)
    model, package = await _write(folder / "state", history)
    reducer = assemble(settings)
    await reducer.start()
    working = asyncio.create_task(reducer.run())
    links = SignInLinks()
    app = create_app(reducer.control, asyncio.get_running_loop(), settings.limits, links=links)
    web = await serve_web(app, settings.listen_web, settings.certificate)
    try:
        assert reducer.new_admin is not None
        context = ssl.create_default_context(cafile=str(folder / "authority.pem"))
        yield _Served(web.address[1], context, links.make(reducer.new_admin), model, package)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await web.stop()
        await reducer.stop()


def _ask_all(served: _Served, repeats: int) -> dict[str, Row]:
    connection = http.client.HTTPSConnection("localhost", served.port, context=served.context, timeout=120)
    cookie = _ask(connection, served.link, "")[1].getheader("Set-Cookie", "").partition(";")[0]
    rows = {}
    for name, address in pages(SESSION, served.model, served.package).items():
        times, size = [], 0
        for _ in range(repeats + 1):
            began = time.perf_counter()
            body, answer = _ask(connection, address, cookie)
            times.append((time.perf_counter() - began) * 1e3)
            size = len(body)
            if answer.status != 200:
                raise AssertionError(f"{address} answered {answer.status}: {body[:300]!r}")
        rows[name] = {"median_ms": statistics.median(times[1:]), "max_ms": max(times[1:]), "bytes": size}
    connection.close()
    return rows


def _ask(connection: http.client.HTTPSConnection, address: str, cookie: str) -> tuple[bytes, http.client.HTTPResponse]:
    connection.request("GET", address, headers={"Cookie": cookie, "Accept": "text/html"})
    answer = connection.getresponse()
    return answer.read(), answer


def _settings(folder: Path) -> ReducerSettings:
    authority = make_authority("bench")
    issued = issue_server_certificate(authority, "reducer", ["localhost", "127.0.0.1"])
    write_pair(issued.certificate_pem, issued.key_pem, folder / "reducer.pem", folder / "reducer.key")
    (folder / "authority.pem").write_bytes(authority.certificate_pem)
    return ReducerSettings.model_validate(
        {
            "deployment": "bench",
            "listen_web": "127.0.0.1:0",
            "listen_grpc": "127.0.0.1:0",
            "state_dir": folder / "state",
            "certificate": {
                "certificate_file": folder / "reducer.pem",
                "key_file": folder / "reducer.key",
                "authority_file": folder / "authority.pem",
            },
        }
    )


# ---- the history


async def _write(state: Path, history: History) -> tuple[Digest, Digest]:
    """Write what a reducer would have written in the course of a session; return its last model and its package."""
    stores = await open_stores(EmbeddedStores(state), EmbeddedStores(state))
    try:
        ledger = Ledger(stores.documents, 1)
        last = (await stores.objects.put(_chunks(_model()))).digest
        names = [ClientName(f"hospital-{number:04}") for number in range(history.clients)]
        for name in names:
            record = ClientRecord(_id(name), name, "0.1.0", _BEGAN, _BEGAN)
            await ledger.add("clients", record.client, record, name=name)
        for combiner in _COMBINERS:
            found = CombinerRecord(combiner, f"{combiner}.example.org:12080", 1_000, "0.1.0", _BEGAN)
            await ledger.add("combiners", combiner, found, name=combiner)
        package = (await stores.objects.put(_chunks(_archive()))).digest
        known = PackageRecord(package, "digits", "1.0", 10_000, 6, {"train": "python model.py train"}, _BEGAN)
        await ledger.add("packages", package, known, created=_ms(_BEGAN))
        terms = SessionTerms(SESSION, 1, history.rounds, package, _SEED)
        session = SessionRecord("bench", terms, "finished", "", _BEGAN)
        await ledger.add("sessions", SESSION, session, number=1, status="finished")
        for number in range(1, history.rounds + 1):
            await _write_round(ledger, number, history, names, last=last, package=package)
        for seq in range(1, history.rounds * _EVENTS_A_ROUND + 1):
            event = EventRecord(
                seq, _BEGAN + seq, "update.admitted", "info", f"update {seq} is in", {"session": SESSION}
            )
            await ledger.add("events", f"{seq:012d}", event, seq=seq, kind=event.kind, severity=event.severity)
        return last, package
    finally:
        await stores.close()


async def _write_round(
    ledger: Ledger, number: int, history: History, names: list[ClientName], *, last: Digest, package: Digest
) -> None:
    began = _BEGAN + number * _ROUND_S
    model = last if number == history.rounds else Digest(f"{number:064x}")
    drawn = [names[(number * 37 + place) % len(names)] for place in range(min(history.in_round, len(names)))]
    plan = RoundPlan(
        SESSION, 1, number, 1, _SEED if number == 1 else Digest(f"{number - 1:064x}"), package, "{}", "none", 600.0
    )
    measured = Measured(
        len(drawn),
        len(drawn) * 100,
        {"accuracy": 1 - 1 / (number + 1), "loss": 1 / number},
        {name: {"accuracy": 1 - 1 / (number + 1), "loss": 1 / number} for name in drawn},
        counts={"accuracy": len(drawn), "loss": len(drawn)},
    )
    record = RoundRecord(
        plan,
        "committed",
        Generation(number * 2),
        (),
        began,
        began,
        began + _ROUND_S,
        _ROUND_S,
        model,
        1_000_000,
        len(drawn) * 100,
        tuple(
            IncludedClient(_id(name), name, _COMBINERS[place % 2], 100, _UPDATE) for place, name in enumerate(drawn[1:])
        ),
        (ExcludedClient(_id(drawn[0]), drawn[0], "TimedOut: no update before the deadline", ""),),
        training=measured,
        validation=measured,
    )
    key, created = round_key(SESSION, number), _ms(record.ended)
    await ledger.add(
        "rounds", key, record, session=SESSION, number=number, status="committed", model=model, created=created
    )


def _id(name: ClientName) -> ClientId:
    return ClientId(name.encode().hex()[-32:].rjust(32, "0"))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _model() -> bytes:
    from safetensors.numpy import save

    random = np.random.default_rng(0)
    return save({f"layer.{number}.weight": random.normal(size=(64, 64)).astype(np.float32) for number in range(20)})


def _archive() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "package.tar.gz"
        create_package(project_folder("sklearn"), archive)
        return archive.read_bytes()


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    stream = io.BytesIO(content)
    while piece := stream.read(1 << 20):
        yield piece
