"""One HTTPS request after another to the active reducer, on nothing but the standard library."""

import contextlib
import hashlib
import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from urllib.parse import urlsplit

from fedn_py.api.faults import NotFromHere, ReducerUnreachable, RemoteRefusal, unreachable
from fedn_py.reducer.control_faults import NotActive

PREFIX = "/api/v1"
PIECE = 1 << 20

Progress = Callable[[int, int], None]
"""Told of bytes done and bytes in all, often."""


def no_progress(_done: int, _total: int) -> None:
    """Tell nobody."""


class Connection:
    """Speaks to one reducer, the active one of those it knows.

    Args:
        urls: https://host:port of each; the one that answered last is asked first, the others in turn where it is away
            or a standby.
        token: shown on each request.
        authority_file: PEM that the reducer's certificate is checked against; None for the system's.
        timeout_s: without any byte from the reducer.
    """

    def __init__(
        self, urls: Sequence[str], token: str, authority_file: Path | None, *, timeout_s: float = 30.0
    ) -> None:
        self._places = [_Place.of(url) for url in urls]
        self._token, self._timeout_s = token, timeout_s
        try:
            self._tls = ssl.create_default_context(cafile=str(authority_file) if authority_file else None)
        except OSError as fault:
            raise ReducerUnreachable(
                f"the authority {authority_file} cannot be read: {fault}", remedy="Correct authority_file."
            ) from fault

    @property
    def url(self) -> str:
        """Of the reducer that answered last."""
        return self._places[0].url

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Make one request with JSON in and out; raises RemoteRefusal or ReducerUnreachable."""
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        with self._answer(lambda connection: self._request(connection, method, path, content, headers)) as response:
            return self._json(response)

    def lines(self, method: str, path: str) -> Iterator[Any]:
        """Make one request and give each line of JSON of its answer as it comes."""
        for line in self._lines(method, path):
            yield self._whole(line)

    def events(self, path: str) -> Iterator[Any]:
        """Listen to a stream of server-sent events and give the JSON of each as it comes, until the reducer ends it."""
        for line in self._lines("GET", path):
            if line.startswith(b"data:"):
                yield self._whole(line.removeprefix(b"data:"))

    def upload(self, path: str, file: Path, progress: Progress) -> Any:
        """Send a file, piece by piece, and return the JSON that comes back."""
        size = file.stat().st_size

        def send(connection: http.client.HTTPSConnection) -> None:
            connection.putrequest("POST", PREFIX + path)
            for name, value in {**self._headers(), "Content-Length": str(size)}.items():
                connection.putheader(name, value)
            connection.putheader("Content-Type", "application/octet-stream")
            connection.endheaders()
            content.seek(0)
            self._send(connection, content, size, progress)

        with file.open("rb") as content, self._answer(send) as response:
            return self._json(response)

    def download(self, path: str, sha256: str, file: Path, progress: Progress) -> None:
        """Fetch a file, piece by piece; it is in place whole and right, or not at all."""
        beside = file.with_name(file.name + ".part")
        with self._answer(lambda connection: self._request(connection, "GET", path)) as response:
            digest = hashlib.sha256()
            done, total = 0, int(response.headers.get("Content-Length") or 0)
            try:
                with beside.open("wb") as out:
                    while piece := response.read(PIECE):
                        out.write(piece)
                        digest.update(piece)
                        done += len(piece)
                        progress(done, total)
                if digest.hexdigest() != sha256:
                    raise NotFromHere(f"{done} of {total} bytes came, and they are not {sha256}", remedy="Try again.")
                beside.replace(file)
            finally:
                beside.unlink(missing_ok=True)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}

    def _request(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        connection.request(method, PREFIX + path, body=body, headers={**self._headers(), **(headers or {})})

    @contextlib.contextmanager
    def _answer(self, send: Callable[[http.client.HTTPSConnection], None]) -> Iterator[http.client.HTTPResponse]:
        """Send a request to the first reducer that takes it, and give its answer.

        One that nothing came of is tried again elsewhere: nobody was reached, or somebody who is not active.
        """
        for others_left in range(len(self._places) - 1, -1, -1):
            place = self._places[0]
            with contextlib.ExitStack() as open_until_read:
                try:
                    connection = open_until_read.enter_context(self._open(place))
                    send(connection)
                    response = connection.getresponse()
                    if response.status >= 400:
                        _refuse(place.url, response)
                except (_NobodyThere, _NotActive):
                    if not others_left:
                        raise
                    self._places.append(self._places.pop(0))
                    continue
                yield response
                return

    @contextlib.contextmanager
    def _open(self, place: "_Place") -> Iterator[http.client.HTTPSConnection]:
        connection = http.client.HTTPSConnection(place.host, place.port, context=self._tls, timeout=self._timeout_s)
        try:
            # Only what the connection itself raises is about the reducer; a full disk while downloading is not.
            connection.connect()
        except OSError as fault:
            told = unreachable(place.url, fault)
            raise _NobodyThere(told.message, remedy=told.remedy) from fault
        try:
            yield connection
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as fault:
            raise unreachable(place.url, fault) from fault
        finally:
            connection.close()

    def _send(self, connection: http.client.HTTPSConnection, content: BinaryIO, size: int, progress: Progress) -> None:
        done = 0
        # A reducer that refuses says so and closes while bytes are still to be sent; its answer is then the news.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while piece := content.read(PIECE):
                connection.send(piece)
                done += len(piece)
                progress(done, size)

    def _lines(self, method: str, path: str) -> Iterator[bytes]:
        with self._answer(lambda connection: self._request(connection, method, path)) as response:
            while line := response.readline():
                yield line

    def _whole(self, line: bytes) -> Any:
        try:
            return json.loads(line)
        except ValueError as fault:
            raise ReducerUnreachable(
                f"{self._places[0].url} broke off in the middle of a line", remedy="Try again."
            ) from fault

    def _json(self, response: http.client.HTTPResponse) -> Any:
        try:
            return json.loads(response.read())
        except ValueError as fault:
            raise ReducerUnreachable(
                f"{self._places[0].url} answers, but not as a reducer does", remedy="Check the url of the profile."
            ) from fault


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a reducer may be."""

    url: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "_Place":
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ReducerUnreachable(f"{url} is no https:// address", remedy="A reducer speaks HTTPS only.")
        return cls(url, parts.hostname, parts.port or 443)


class _NobodyThere(ReducerUnreachable):
    """No connection came to be: nothing was asked."""

    @property
    def code(self) -> str:
        return ReducerUnreachable.__name__


class _NotActive(_NobodyThere):
    """A standby answered, or one that only starts; it has done nothing. Whoever waits for a reducer waits on."""


def _refuse(url: str, response: http.client.HTTPResponse) -> NoReturn:
    try:
        problem = json.loads(response.read())
        code, detail, remedy = str(problem["code"]), str(problem["detail"]), str(problem.get("remedy", ""))
    except (ValueError, KeyError, TypeError) as fault:
        raise ReducerUnreachable(
            f"{url} answers with status {response.status}, but not as a reducer does",
            remedy="Check the url of the profile.",
        ) from fault
    if code == NotActive.__name__:
        raise _NotActive(f"{url}: {detail}", remedy=remedy)
    raise RemoteRefusal(response.status, code, detail, remedy)
