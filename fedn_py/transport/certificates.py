"""The network's own certificate authority and its servers' certificates (ECDSA P-256, X.509).

Rules: a private key is written readable for its owner only and read only so; a server's certificate names every
host name and address at which it is called, since nothing else is checked by those who call.
"""

import contextlib
import datetime
import ipaddress
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedn_py.errors import OwnFault

AUTHORITY_LIFETIME = datetime.timedelta(days=3_650)
SERVER_LIFETIME = datetime.timedelta(days=365)
BACKDATED = datetime.timedelta(hours=1)
"""A certificate is valid from this long before its issue: hosts' clocks differ."""

SOON = datetime.timedelta(days=14)
"""Before its end a certificate is warned of."""

_REISSUE = "Issue a new certificate from the network's authority."


class CertificateProblem(OwnFault):
    """A certificate or key cannot serve: unreadable, expired, not yet valid, for another host, or open to others."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that can issue.

    Attributes:
        certificate_pem: public; those who verify need nothing else.
        key_pem: secret.
    """

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What a server shows, and the key that proves it.

    Attributes:
        certificate_pem: the server's certificate.
        key_pem: secret.
    """

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


def make_authority(name: str, *, now: datetime.datetime | None = None) -> Authority:
    """Make a certificate authority that is valid for ten years."""
    now = now or _now()
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(name)
    builder = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Authority(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def issue_server_certificate(
    authority: Authority, name: str, hosts: Sequence[str], *, now: datetime.datetime | None = None
) -> ServerCertificate:
    """Issue a server's certificate that is valid for one year.

    Args:
        name: what the certificate is called; plays no part in verification.
        hosts: DNS names and IP addresses, all at which the server will be called.
    """
    if not hosts:
        raise CertificateProblem("a server's certificate names no host", remedy="Give the hosts at which it is called.")
    now = now or _now()
    issuer, issuer_key = read_certificate(authority.certificate_pem), _private_key(authority.key_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_named(name), issuer.subject, key.public_key(), now, SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative_name(host) for host in hosts]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    return ServerCertificate(_pem(builder.sign(issuer_key, hashes.SHA256())), _key_pem(key))


def check_server_certificate(
    certificate_pem: bytes,
    *,
    hosts: Sequence[str] = (),
    authority_pem: bytes | None = None,
    now: datetime.datetime | None = None,
) -> None:
    """Raise CertificateProblem unless a certificate is valid now, names all hosts and is signed by the authority."""
    certificate = read_certificate(certificate_pem)
    _check_dates(certificate, now or _now())
    _check_hosts(certificate, hosts)
    if authority_pem is not None:
        _check_issuer(certificate, read_certificate(authority_pem))


def fingerprint(certificate_pem: bytes) -> str:
    """Return the sha256 of a certificate as 64 lower-case hex digits: what people compare over the telephone."""
    return read_certificate(certificate_pem).fingerprint(hashes.SHA256()).hex()


def expires_at(certificate_pem: bytes) -> datetime.datetime:
    """Return the instant, in UTC, after which a certificate is no longer valid."""
    return read_certificate(certificate_pem).not_valid_after_utc


def read_certificate(certificate_pem: bytes, source: str = "the certificate") -> x509.Certificate:
    """Parse the first certificate of a PEM text, or raise CertificateProblem naming ``source``."""
    try:
        return x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as fault:
        raise CertificateProblem(
            f"{source} is no certificate in PEM form", remedy='A PEM certificate begins with "-----BEGIN CERTIFICATE".'
        ) from fault


# ---- files


def write_pair(certificate_pem: bytes, key_pem: bytes, certificate_path: Path, key_path: Path) -> None:
    """Write a certificate and its key, the key readable for its owner only from the first byte on."""
    key_path.parent.mkdir(parents=True, exist_ok=True)
    certificate_path.parent.mkdir(parents=True, exist_ok=True)
    _write(key_path, key_pem, 0o600)
    _write(certificate_path, certificate_pem, 0o644)


def read_authority(certificate_path: Path, key_path: Path) -> Authority:
    """Read an authority that can issue."""
    certificate_pem, key_pem = _read_pair(certificate_path, key_path)
    return Authority(certificate_pem, key_pem)


def read_server_certificate(certificate_path: Path, key_path: Path) -> ServerCertificate:
    """Read a server's certificate and key; they must belong together and be valid now."""
    certificate_pem, key_pem = _read_pair(certificate_path, key_path)
    _check_dates(read_certificate(certificate_pem, str(certificate_path)), _now())
    return ServerCertificate(certificate_pem, key_pem)


def read_authority_certificate(path: Path) -> bytes:
    """Read the public certificate of an authority, for those who verify."""
    certificate_pem = _read(path)
    _check_dates(read_certificate(certificate_pem, str(path)), _now())
    return certificate_pem


def _read_pair(certificate_path: Path, key_path: Path) -> tuple[bytes, bytes]:
    certificate_pem, key_pem = _read(certificate_path), _read_key(key_path)
    certificate = read_certificate(certificate_pem, str(certificate_path))
    if certificate.public_key() != _private_key(key_pem, str(key_path)).public_key():
        raise CertificateProblem(f"{key_path} is not the key of {certificate_path}", remedy=_REISSUE)
    return certificate_pem, key_pem


def _read_key(path: Path) -> bytes:
    key_pem = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise CertificateProblem(f"{path} can be read by others (mode {mode:04o})", remedy=f"Run: chmod 600 {path}")
    return key_pem


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise CertificateProblem(
            f"{path} cannot be read: {fault.strerror}", remedy="Check the path and who may read it."
        ) from fault


def _write(path: Path, content: bytes, mode: int) -> None:
    beside = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


# ---- checks


def certificate_warnings(
    certificate_pem: bytes, hosts: Sequence[str] = (), *, now: datetime.datetime | None = None
) -> Iterator[str]:
    """Say what will go wrong with a certificate: it ends soon, or does not name a host that its server is called by."""
    certificate = read_certificate(certificate_pem)
    called, ends = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
    if ends - (now or _now()) < SOON:
        yield f"the certificate {called} ends on {ends:%Y-%m-%d %H:%M} UTC: issue a new one and start again"
    names = {str(one.value) for one in _names_of(certificate)}
    for host in hosts:
        if not names & {host, f"*.{host.partition('.')[2]}"}:
            known = ", ".join(sorted(names)) or "nothing"
            yield f"the certificate {called} does not name {host}, by which clients call; it names {known}"


def _check_dates(certificate: x509.Certificate, now: datetime.datetime) -> None:
    called = certificate.subject.rfc4514_string()
    if now > certificate.not_valid_after_utc:
        raise CertificateProblem(
            f"the certificate {called} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", remedy=_REISSUE
        )
    if now < certificate.not_valid_before_utc:
        raise CertificateProblem(
            f"the certificate {called} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: "
            f"clock or certificate is wrong (the clock here says {now:%Y-%m-%d %H:%M} UTC)",
            remedy="Set the clock of this host; if it is right, issue a new certificate.",
        )


def _check_hosts(certificate: x509.Certificate, hosts: Sequence[str]) -> None:
    named = _names_of(certificate)
    missing = [host for host in hosts if _alternative_name(host) not in list(named)]
    if missing:
        known = ", ".join(str(one.value) for one in named) or "none"
        raise CertificateProblem(
            f"the certificate does not name {', '.join(missing)}; it names {known}",
            remedy="Issue a certificate with all hosts at which the server is called.",
        )


def _names_of(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def _check_issuer(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError) as fault:
        raise CertificateProblem(
            f"the certificate {certificate.subject.rfc4514_string()} is not signed by "
            f"{authority.subject.rfc4514_string()}",
            remedy="Use the authority that issued it, or issue a new certificate.",
        ) from fault


# ---- building


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    lifetime: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private_key(key_pem: bytes, source: str = "the key") -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as fault:
        raise CertificateProblem(
            f"{source} is no private key in PEM form without a password", remedy=_REISSUE
        ) from fault
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateProblem(f"{source} is no elliptic-curve key", remedy=_REISSUE)
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
