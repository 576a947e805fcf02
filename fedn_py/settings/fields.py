"""The kinds of values that settings are made of, each checked where it is read."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from fedn_py.errors import FednError
from fedn_py.identity import Digest, parse_digest, parse_name


class Section(BaseModel):
    """A group of settings: frozen, and refusing keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of ``host:port``; an IPv6 host stands in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be host:port, with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host or "/" in host:
        raise ValueError("must be host:port without a scheme; put an IPv6 host in brackets")
    return host, int(port)


def is_loopback(address: str) -> bool:
    """Tell whether host:port can be reached from this host alone."""
    host = split_address(address)[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen_address(text: str) -> str:
    split_address(text)
    return text


def _dial_address(text: str) -> str:
    if split_address(text)[1] == 0:
        raise ValueError("must name the port to dial, 1 to 65535")
    return text


def _name(text: str) -> str:
    try:
        return parse_name(text)
    except FednError as fault:
        raise ValueError(f"{fault.message}. {fault.remedy}") from None


def _digest(text: str) -> Digest:
    try:
        return parse_digest(text)
    except FednError as fault:
        raise ValueError(f"{fault.message}. {fault.remedy}") from None


def _listed(value: object) -> object:
    """Read a list from one line, as a variable has it."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _http_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return text.rstrip("/")


def _located(path: Path, context: ValidationInfo) -> Path:
    folder: Path = (context.context or {}).get("folder", Path.cwd())
    return folder / path.expanduser()


def _existing_file(path: Path, context: ValidationInfo) -> Path:
    located = _located(path, context)
    if not located.is_file():
        raise ValueError(f"there is no file {located}")
    return located


def _existing_path(path: Path, context: ValidationInfo) -> Path:
    located = _located(path, context)
    if not located.exists():
        raise ValueError(f"there is nothing at {located}")
    return located


ListenAddress = Annotated[str, AfterValidator(_listen_address)]
"""host:port to listen on; port 0 takes a free one."""

DialAddress = Annotated[str, AfterValidator(_dial_address)]
"""host:port that others or we connect to."""

DialAddresses = Annotated[tuple[DialAddress, ...], BeforeValidator(_listed), Field(min_length=1)]
"""One address or several of one server and those that stand by for it; in a variable with commas between them."""

Name = Annotated[str, AfterValidator(_name)]
"""What people call a process, in the form of identity.parse_name."""

Digests = Annotated[tuple[Annotated[Digest, AfterValidator(_digest)], ...], BeforeValidator(_listed)]
"""sha256 digests, 64 lower-case hex digits each; in a variable with commas between them."""

HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""A URL of http or https."""

Location = Annotated[Path, AfterValidator(_located)]
"""A path that may still be made, relative to the settings file."""

ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
"""A file that is there already, relative to the settings file."""

ExistingPath = Annotated[Path, AfterValidator(_existing_path)]
"""A file or folder that is there already, relative to the settings file."""
