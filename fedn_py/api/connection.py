"""One HTTPS request after another to a reducer, on nothing but the standard library."""

import contextlib
import hashlib
import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from fedn_py.api.faults import NotFromHere, ReducerUnreachable, RemoteRefusal, unreachable

PREFIX = "/api/v1"
PIECE = 1 << 20

Progress = Callable[[int, int], None]
"""Told of bytes done and bytes in all, often."""


def no_progress(_done: int, _total: int) -> None:
    """Tell nobody."""


class Connection:
    """Speaks to one reducer.

    Args:
        url: https://host:port.
        token: shown on each request.
        authority_file: PEM that the reducer's certificate is checked against; None for the system's.
        timeout_s: without any byte from the reducer.
    """

    def __init__(self, url: str, token: str, authority_file: Path | None, *, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ReducerUnreachable(f"{url} is no https:// address", remedy="A reducer speaks HTTPS only.")
        self._url, self._token, self._timeout_s = url, token, timeout_s
        self._host, self._port = parts.hostname, parts.port or 443
        try:
            self._tls = ssl.create_default_context(cafile=str(authority_file) if authority_file else None)
        except OSError as fault:
            raise ReducerUnreachable(
                f"the authority {authority_file} cannot be read: {fault}", remedy="Correct authority_file."
            ) from fault

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Make one request with JSON in and out; raises RemoteRefusal or ReducerUnreachable."""
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        with self._open() as connection:
            connection.request(method, PREFIX + path, body=content, headers={**self._headers(), **headers})
            return self._json(connection.getresponse())

    def lines(self, method: str, path: str) -> Iterator[Any]:
        """Make one request and give each line of JSON of its answer as it comes."""
        with self._open() as connection:
            connection.request(method, PREFIX + path, headers=self._headers())
            response = connection.getresponse()
            if response.status != 200:
                self._refuse(response)
            while line := response.readline():
                try:
                    yield json.loads(line)
                except ValueError as fault:
                    raise ReducerUnreachable(
                        f"{self._url} broke off in the middle of a line", remedy="Try again."
                    ) from fault

    def upload(self, path: str, file: Path, progress: Progress) -> Any:
        """Send a file, piece by piece, and return the JSON that comes back."""
        size = file.stat().st_size
        with file.open("rb") as content, self._open() as connection:
            connection.putrequest("POST", PREFIX + path)
            for name, value in {**self._headers(), "Content-Length": str(size)}.items():
                connection.putheader(name, value)
            connection.putheader("Content-Type", "application/octet-stream")
            connection.endheaders()
            self._send(connection, content, size, progress)
            return self._json(connection.getresponse())

    def download(self, path: str, sha256: str, file: Path, progress: Progress) -> None:
        """Fetch a file, piece by piece; it is in place whole and right, or not at all."""
        beside = file.with_name(file.name + ".part")
        with self._open() as connection:
            connection.request("GET", PREFIX + path, headers=self._headers())
            response = connection.getresponse()
            if response.status != 200:
                self._refuse(response)
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

    @contextlib.contextmanager
    def _open(self) -> Iterator[http.client.HTTPSConnection]:
        connection = http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=self._timeout_s)
        try:
            # Only what the connection itself raises is about the reducer; a full disk while downloading is not.
            connection.connect()
        except OSError as fault:
            raise unreachable(self._url, fault) from fault
        try:
            yield connection
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as fault:
            raise unreachable(self._url, fault) from fault
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

    def _json(self, response: http.client.HTTPResponse) -> Any:
        if response.status >= 400:
            self._refuse(response)
        try:
            return json.loads(response.read())
        except ValueError as fault:
            raise ReducerUnreachable(
                f"{self._url} answers, but not as a reducer does", remedy="Check the url of the profile."
            ) from fault

    def _refuse(self, response: http.client.HTTPResponse) -> None:
        try:
            problem = json.loads(response.read())
            raise RemoteRefusal(
                response.status, str(problem["code"]), str(problem["detail"]), str(problem.get("remedy", ""))
            )
        except (ValueError, KeyError, TypeError) as fault:
            raise ReducerUnreachable(
                f"{self._url} answers with status {response.status}, but not as a reducer does",
                remedy="Check the url of the profile.",
            ) from fault
