"""Objects in MinIO, or in any server that speaks plain S3: one bucket, each object named by its sha256.

A stream is first written to a temporary file of this machine (in TMPDIR), as its name is known only at its end. An S3
server is not trusted to have kept what it acknowledged: each object is read back and hashed before its digest is given
out.
"""

import contextlib
import hashlib
import io
import itertools
import ssl
import tempfile
import threading
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from fedn_py.identity import Digest, InvalidName, parse_digest
from fedn_py.store.disk import named_faults
from fedn_py.store.hashing import PIECE_BYTES, check_expected, corrupt, file_pieces, verified, write_hashed
from fedn_py.store.minio_faults import fault_of
from fedn_py.store.ports import Linked, ObjectStat, StoreMisconfigured
from fedn_py.store.threads import Threads

_N_THREADS = 8
_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 20.0
_LEAST_PART_BYTES = 16 * 1024**2  # held in memory while it is sent
_MAX_PARTS = 10_000  # S3's own limit
_LISTED_AT_ONCE = 1_000


class MinioObjects:
    """Objects in a bucket; ``open_minio`` makes one."""

    def __init__(self, client: Minio, pool: "ClockedPool", bucket: str, server: str) -> None:
        self._client = client
        self._pool = pool
        self._bucket = bucket
        self._server = server
        self._threads = Threads("minio", _N_THREADS)

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
        """See Objects.put."""
        stop = threading.Event()
        with _Spool(stop) as spool:
            digest, size = await write_hashed(chunks, spool.write, self._threads)
            check_expected(digest, expected)
            await self._threads.run_until(stop, lambda: self._send(spool, digest, size))
            await self._threads.run_until(stop, lambda: self._read_back(digest, stop))
        return ObjectStat(digest, size, 0.0)

    async def put_file(self, path: Path, digest: Digest) -> ObjectStat:
        """See Objects.put_file: it is sent there, and removed here."""
        with named_faults(path.parent):
            async with contextlib.aclosing(file_pieces(path, self._threads)) as pieces:
                stat = await self.put(pieces, expected=digest)
            await self._threads.run(path.unlink)
        return stat

    async def link(self, digest: Digest, into: Path) -> Linked:  # noqa: ARG002 - the port's
        """See Objects.link: the files are another host's."""
        return "not"

    async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        """See Objects.get."""
        pieces = self._pieces(digest, offset)
        checked = pieces if offset else verified(pieces, digest, self._threads)
        async with contextlib.aclosing(pieces), contextlib.aclosing(checked):
            async for piece in checked:
                yield piece

    async def stat(self, digest: Digest) -> ObjectStat:
        """See Objects.stat."""

        def work() -> ObjectStat:
            with self._named_faults(digest):
                found = self._client.stat_object(bucket_name=self._bucket, object_name=digest)
            return ObjectStat(digest, found.size or 0, self._age_s(found.last_modified))

        return await self._threads.run(work)

    async def delete(self, digest: Digest) -> None:
        """See Objects.delete."""

        def work() -> None:
            with self._named_faults(digest):
                self._client.remove_object(bucket_name=self._bucket, object_name=digest)

        await self._threads.run(work)

    async def list(self) -> AsyncIterator[ObjectStat]:
        """See Objects.list."""
        found = self._client.list_objects(bucket_name=self._bucket, recursive=True)

        def some() -> tuple[Any, ...]:
            with self._named_faults():
                return tuple(itertools.islice(found, _LISTED_AT_ONCE))

        while listed := await self._threads.run(some):
            for each in listed:
                with contextlib.suppress(InvalidName):  # somebody else's
                    yield ObjectStat(parse_digest(each.object_name), each.size, self._age_s(each.last_modified))

    async def check(self) -> None:
        """See Objects.check."""

        def work() -> None:
            with self._named_faults():
                self._client.put_object(
                    bucket_name=self._bucket, object_name="check", data=io.BytesIO(b"check"), length=len(b"check")
                )
                self._client.stat_object(bucket_name=self._bucket, object_name="check")

        await self._threads.run(work)

    async def now(self) -> datetime | None:
        """See Objects.now."""
        return self._pool.server_time

    async def close(self) -> None:
        """See Objects.close."""
        self._threads.close()
        self._pool.clear()

    async def make_bucket(self) -> None:
        """Make the bucket; nothing happens when it is there."""

        def work() -> None:
            with self._named_faults():
                if self._client.bucket_exists(bucket_name=self._bucket):
                    return
                try:
                    self._client.make_bucket(bucket_name=self._bucket)
                except S3Error as error:
                    if error.code != "BucketAlreadyOwnedByYou":  # another process was faster
                        raise

        await self._threads.run(work)

    def _send(self, spool: "_Spool", digest: Digest, size: int) -> None:
        spool.rewind()
        with self._named_faults(digest):
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=digest,
                data=cast("BinaryIO", spool),  # the library asks for read() alone
                length=size,
                part_size=max(_LEAST_PART_BYTES, -(-size // _MAX_PARTS)),
            )

    def _read_back(self, digest: Digest, stop: threading.Event) -> None:
        sha256 = hashlib.sha256()
        response = self._open(digest, 0)
        try:
            while not stop.is_set() and (piece := self._read(response)):
                sha256.update(piece)
        finally:
            _let_go(response)
        if not stop.is_set() and sha256.hexdigest() != digest:
            raise corrupt(digest)

    async def _pieces(self, digest: Digest, offset: int) -> AsyncGenerator[bytes, None]:
        response = await self._threads.run(self._open, digest, offset)
        if response is None:
            return
        try:
            while piece := await self._threads.run(self._read, response):
                yield piece
        finally:
            await self._threads.run(_let_go, response)

    def _open(self, digest: Digest, offset: int) -> urllib3.BaseHTTPResponse | None:
        """Return the answer that holds the object's bytes from ``offset``, or None where there are none."""
        with self._named_faults(digest):
            try:
                return self._client.get_object(bucket_name=self._bucket, object_name=digest, offset=offset)
            except S3Error as error:
                if error.code == "InvalidRange":
                    return None
                raise

    def _read(self, response: urllib3.BaseHTTPResponse | None) -> bytes:
        with self._named_faults():
            return b"" if response is None else response.read(PIECE_BYTES)

    def _age_s(self, modified: datetime | None) -> float:
        now = self._pool.server_time or datetime.now(UTC)
        return max(0.0, (now - (modified or now)).total_seconds())

    @contextmanager
    def _named_faults(self, digest: Digest | None = None) -> Iterator[None]:
        try:
            yield
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise fault_of(error, self._server, self._bucket, digest) from error


async def open_minio(
    url: str, access_key: str, secret_key: str, bucket: str, *, region: str = "us-east-1", ca_file: Path | None = None
) -> MinioObjects:
    """Open the objects in a bucket, which is made if it is absent.

    Args:
        url: of the S3 endpoint, http://HOST:PORT or https://HOST:PORT.
        ca_file: the certificate authority of the server, where the system does not know it.

    Raises:
        StoreUnavailable: the server does not answer in time.
        StoreMisconfigured: the URL or the bucket's name cannot be used, the server refuses the keys, or its
            certificate is not from a known authority.
    """
    server, is_secure = _endpoint(url)
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except OSError as error:
        raise StoreMisconfigured(
            f"the certificate authority in {ca_file} cannot be read: {error}", remedy="Give a readable PEM file."
        ) from error
    pool = ClockedPool(
        num_pools=4,
        maxsize=_N_THREADS,
        timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=_ANSWER_TIMEOUT_S),
        retries=urllib3.Retry(total=1, backoff_factor=0.2, status_forcelist=[502, 503, 504]),
        ssl_context=context,
    )
    try:
        client = Minio(
            endpoint=server,
            access_key=access_key,
            secret_key=secret_key,
            secure=is_secure,
            region=region,
            http_client=pool,
        )
    except ValueError as error:
        raise StoreMisconfigured(f"MinIO at {server} cannot be used: {error}", remedy="Correct its URL.") from error
    objects = MinioObjects(client, pool, bucket, server)
    try:
        await objects.make_bucket()
        await objects.check()
    except ValueError as error:
        await objects.close()
        raise StoreMisconfigured(f"the bucket {bucket!r} cannot be used: {error}", remedy="Name another.") from error
    except BaseException:
        await objects.close()
        raise
    return objects


class ClockedPool(urllib3.PoolManager):
    """Connections that note the server's clock: an object's age is by that clock, whatever ours says.

    Attributes:
        server_time: as of the last answer, None before the first.
    """

    server_time: datetime | None = None

    def urlopen(self, method: str, url: str, *args: Any, **options: Any) -> urllib3.BaseHTTPResponse:
        """Ask, as PoolManager does."""
        response = super().urlopen(method, url, *args, **options)
        with contextlib.suppress(KeyError, ValueError):
            self.server_time = parsedate_to_datetime(response.headers["Date"])
        return response


class _Spool:
    """A temporary file, gone when it is closed; its reader is stopped by an event."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._folder = Path(tempfile.gettempdir())
        with named_faults(self._folder):
            self._file: BinaryIO = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what could not be written has been told already
            self._file.close()

    def write(self, chunk: bytes) -> None:
        with named_faults(self._folder):
            self._file.write(chunk)

    def rewind(self) -> None:
        with named_faults(self._folder):
            self._file.seek(0)

    def read(self, size: int) -> bytes:
        if self._stop.is_set():
            raise InterruptedError("nobody waits for this object any more")
        with named_faults(self._folder):
            return self._file.read(size)


def _let_go(response: urllib3.BaseHTTPResponse | None) -> None:
    if response is not None:
        response.close()
        response.release_conn()


def _endpoint(url: str) -> tuple[str, bool]:
    """Return the host and port of an endpoint and whether it speaks TLS."""
    try:
        parts = urllib.parse.urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/")
        is_whole = is_whole and not (parts.username or parts.password or parts.query or parts.fragment)
        server = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:
        is_whole, server = False, ""
    if not is_whole:
        # The URL may hold a password, so it is not repeated.
        raise StoreMisconfigured(
            "the URL of MinIO cannot be used",
            remedy="Give it as http://HOST:PORT or https://HOST:PORT, and the keys by settings of their own.",
        )
    return server, parts.scheme == "https"
