"""The object server's own ways to fail: keys it refuses, no answer, no TLS, no room, and lies."""

import asyncio
import datetime
import ipaddress
import ssl
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lying_s3 import lying_s3
from servers.running import S3Server, free_port

from fedn_py.store.minio import open_minio
from fedn_py.store.ports import ObjectCorrupt, StoreFull, StoreMisconfigured, StoreUnavailable

CONTENT = b"global model"


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def opened_and_closed(url: str, ca_file: Path | None = None) -> None:
    await (await open_minio(url, "access", "secret-key", "models", ca_file=ca_file)).close()


@pytest.fixture(params=["minio", "versitygw"])
def server(request: pytest.FixtureRequest) -> S3Server:
    return request.getfixturevalue(f"{request.param}_server")


@pytest.mark.services
@pytest.mark.parametrize("wrong", ["access", "secret"])
def test_wrong_keys_are_said_without_the_keys(server: S3Server, wrong: str) -> None:
    access = "planted-access" if wrong == "access" else server.access_key
    with pytest.raises(StoreMisconfigured, match="refuses these keys") as raised:
        asyncio.run(open_minio(server.url, access, "planted-secret", "models"))
    assert "secret key" in raised.value.remedy
    assert "planted-secret" not in "".join(traceback.format_exception(raised.value, limit=0))


@pytest.mark.services
@pytest.mark.parametrize("bucket", ["", "No_Such Name!", "ab"])
def test_a_bucket_that_cannot_be_is_said(minio_server: S3Server, bucket: str) -> None:
    with pytest.raises(StoreMisconfigured, match="bucket"):
        asyncio.run(open_minio(minio_server.url, minio_server.access_key, minio_server.secret_key, bucket))


@pytest.mark.services
def test_objects_of_others_in_the_bucket_are_not_listed(server: S3Server) -> None:
    async def steps() -> None:
        objects = await open_minio(server.url, server.access_key, server.secret_key, "with-others")
        objects._client.put_object(bucket_name="with-others", object_name="a/b.txt", data=_Nothing(), length=0)
        put = await objects.put(one(CONTENT))
        assert [stat.digest async for stat in objects.list()] == [put.digest]
        await objects.close()

    asyncio.run(steps())


class _Nothing:
    def read(self, _: int) -> bytes:
        return b""


def test_a_server_that_is_not_there_is_said_with_the_way_out() -> None:
    port = free_port()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}") as raised:
        asyncio.run(opened_and_closed(f"http://127.0.0.1:{port}"))
    assert "Start MinIO" in raised.value.remedy


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:9000",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://user:planted@host",
        "http://host/folder",
    ],
)
def test_a_url_that_is_no_endpoint_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StoreMisconfigured, match="URL") as raised:
        asyncio.run(opened_and_closed(url))
    assert "planted" not in "".join(traceback.format_exception(raised.value, limit=0))


@pytest.mark.parametrize("keeps", [0, len(CONTENT) - 1])
def test_an_object_that_was_acknowledged_and_not_kept_is_found_before_it_is_named(keeps: int) -> None:
    async def steps() -> None:
        with lying_s3() as server:
            objects = await open_minio(server.url, "access", "secret-key", "models")
            server.keeps = keeps
            with pytest.raises(ObjectCorrupt):
                await objects.put(one(CONTENT))
            await objects.close()

    asyncio.run(steps())


def test_the_age_of_an_object_and_the_time_are_by_the_server_s_own_clock() -> None:
    async def steps() -> None:
        with lying_s3() as server:
            server.date = "Mon, 23 Nov 2026 10:00:00 GMT"
            objects = await open_minio(server.url, "access", "secret-key", "models")
            stat = await objects.put(one(CONTENT))
            assert (await objects.stat(stat.digest)).age_s == 3_600.0
            assert await objects.now() == datetime.datetime(2026, 11, 23, 10, tzinfo=datetime.UTC)
            await objects.close()

    asyncio.run(steps())


def test_a_refused_removal_is_said_and_the_object_stays() -> None:
    async def steps() -> None:
        with lying_s3() as server:
            objects = await open_minio(server.url, "access", "secret-key", "models")
            stat = await objects.put(one(CONTENT))
            server.delete_status = 403
            with pytest.raises(StoreMisconfigured) as raised:
                await objects.delete(stat.digest)
            assert raised.value.remedy
            assert (await objects.stat(stat.digest)).size == len(CONTENT)
            await objects.close()

    asyncio.run(steps())


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("XMinioStorageFull", StoreFull),
        ("QuotaExceeded", StoreFull),
        ("RequestTimeTooSkewed", StoreMisconfigured),
        ("NoSuchBucket", StoreMisconfigured),
        ("SlowDown", StoreUnavailable),
    ],
)
def test_a_refused_put_raises_what_it_means(code: str, fault: type[Exception]) -> None:
    async def steps() -> None:
        with lying_s3() as server:
            objects = await open_minio(server.url, "access", "secret-key", "models")
            server.put_error = code
            with pytest.raises(fault) as raised:
                await objects.put(one(CONTENT))
            assert raised.value.remedy
            await objects.close()

    asyncio.run(steps())


def test_a_server_with_an_own_authority_is_trusted_by_its_file_alone(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with lying_s3(context) as server:
        with pytest.raises(StoreMisconfigured, match="certificate") as raised:
            asyncio.run(opened_and_closed(server.url))
        assert "ca_file" in raised.value.remedy
        asyncio.run(opened_and_closed(server.url, certificate))


def test_an_authority_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreMisconfigured, match=r"absent\.pem"):
        asyncio.run(opened_and_closed("https://127.0.0.1:1", tmp_path / "absent.pem"))
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(StoreMisconfigured, match=r"text\.pem"):
        asyncio.run(opened_and_closed("https://127.0.0.1:1", tmp_path / "text.pem"))


def make_certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1 that vouches for itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
