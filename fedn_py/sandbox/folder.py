"""The sandbox's folder: one authority, settings, tokens and state for every process, all below it.

Everything that a real deployment spreads over hosts and people lies in one place here: that is what makes it a
sandbox. Nothing listens beyond this machine.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedn_py.errors import OwnFault
from fedn_py.runtime.credential_files import TokenFile, write_token_file
from fedn_py.runtime.secret_files import write_secret
from fedn_py.sandbox.operator_folder import OperatorFolder
from fedn_py.transport.certificates import (
    Authority,
    CertificateProblem,
    check_server_certificate,
    issue_server_certificate,
    make_authority,
    read_authority,
    write_pair,
)

HOST = "127.0.0.1"
_HOSTS = ("localhost", HOST)
_WEB_PORT, _GRPC_PORT, _COMBINER_PORT = 8090, 12070, 12080


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the sandbox's servers listen."""

    web: int
    grpc: int
    combiners: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Where:
    """The stores, where they are not the embedded ones.

    Attributes:
        mongodb: connection string.
        minio: URL of an S3 endpoint; its keys come from the environment.
    """

    mongodb: str | None = None
    minio: str | None = None


class SandboxInUse(OwnFault):
    """Another sandbox runs in this folder."""


class PortTaken(OwnFault):
    """A port that was asked for is in use."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"port {port} is taken by another process, or is not this user's to take",
            remedy="Choose another --port, 0 for any that is free, or leave it out.",
        )


class SandboxFolder:
    """Writes and finds what the sandbox's processes need.

    Attributes:
        operator: what makes masked rounds possible here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.operator = OperatorFolder(self.path / "operator")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other sandboxes out of the folder.

        Raises:
            SandboxInUse: one is in it.
        """
        with (self.path / "lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as fault:
                lock.seek(0)
                raise SandboxInUse(
                    f"another sandbox runs in {self.path} (process {lock.read(20).strip() or 'unknown'})",
                    remedy="End it with Ctrl-C where it runs, or give this one a folder of its own with --dir.",
                ) from fault
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    # ---- places

    @property
    def certificates(self) -> Path:
        """Folder of the authority and the servers' certificates."""
        return self.path / "certificates"

    @property
    def authority_file(self) -> Path:
        """The authority's certificate."""
        return self.certificates / "authority.pem"

    @property
    def profile(self) -> Path:
        """How the command line reaches this sandbox."""
        return self.path / "profile.yaml"

    @property
    def admin_token(self) -> Path:
        """Where the reducer writes its operator's token."""
        return self.state("reducer") / "admin.token"

    def state(self, name: str) -> Path:
        """Return a process's own folder."""
        return self.path / "state" / name

    def log(self, name: str) -> Path:
        """Return the file that a process's output goes to."""
        return self.path / "logs" / f"{name}.log"

    def token(self, name: str) -> Path:
        """Return the file of a process's token."""
        return self.path / "tokens" / name

    def settings(self, name: str) -> Path:
        """Return a process's settings file."""
        return self.path / "config" / f"{name}.yaml"

    @property
    def data(self) -> Path:
        """Folder of the clients' data."""
        return self.path / "data"

    # ---- what is written into them

    def write_certificates(self, names: list[str]) -> None:
        """Make the authority on the first start, and certificates for all servers whose own no longer serve."""
        key = self.certificates / "authority.key"
        if not self.authority_file.exists():
            authority = make_authority("fedn_py sandbox")
            write_pair(authority.certificate_pem, authority.key_pem, self.authority_file, key)
        authority = read_authority(self.authority_file, key)
        for name in names:
            if not self._serves(name, authority):
                made = issue_server_certificate(authority, name, _HOSTS)
                files = self._certificate(name)
                write_pair(made.certificate_pem, made.key_pem, files["certificate_file"], files["key_file"])

    def _serves(self, name: str, authority: Authority) -> bool:
        file = self._certificate(name)["certificate_file"]
        try:
            check_server_certificate(file.read_bytes(), hosts=_HOSTS, authority_pem=authority.certificate_pem)
        except (OSError, CertificateProblem):
            return False
        return True

    def _certificate(self, name: str) -> dict[str, Path]:
        return {
            "certificate_file": self.certificates / f"{name}.pem",
            "key_file": self.certificates / f"{name}.key",
        }

    def write_operator(self, names: list[str]) -> None:
        """Make the operator's key and policy on the first start, and credentials for all servers that have none."""
        self.operator.write(names)

    def write_token(self, name: str, bearer: str) -> None:
        """Keep a process's token, readable by its owner alone; a client's join credential stays beside it.

        The servers have been named to ``write_operator`` before; every other process is a client.
        """
        file = self.token(name)
        join = None if self.operator.credential(name).exists() else self.operator.join_for(name, file)
        write_token_file(file, TokenFile(bearer, join), replace=True)

    def write_profile(self, ports: Ports) -> None:
        """Write how the command line reaches this sandbox."""
        profile = {
            "url": f"https://localhost:{ports.web}",
            "token_file": str(self.admin_token.relative_to(self.path)),
            "authority_file": str(self.authority_file.relative_to(self.path)),
        }
        _write_yaml(self.profile, profile)

    def write_reducer(self, ports: Ports, where: Where, desk: Path | None = None) -> None:
        """Write the reducer's settings.

        Args:
            desk: the socket of the sandbox's desk, None where nobody serves one.
        """
        settings: dict[str, Any] = {
            "deployment": "sandbox",
            "listen_web": f"{HOST}:{ports.web}",
            "listen_grpc": f"{HOST}:{ports.grpc}",
            "certificate": {**self._named_certificate("reducer"), "authority_file": str(self.authority_file)},
            "masking": {
                "credential_file": str(self.operator.credential("reducer")),
                "policy_file": str(self.operator.policy),
            },
            "state_dir": str(self.state("reducer")),
            "heartbeat_s": 2.0,
        }
        if desk is not None:
            settings["sandbox_socket"] = str(desk)
        if where.mongodb is not None:
            write_secret(self.token("mongodb-uri"), where.mongodb + "\n")
            settings["mongodb"] = {"uri_file": str(self.token("mongodb-uri"))}
        _write_yaml(self.settings("reducer"), settings | _minio(where))

    def write_combiner(self, number: int, ports: Ports, where: Where) -> str:
        """Write a combiner's settings and return its name."""
        name, port = f"combiner-{number}", ports.combiners[number - 1]
        settings = {
            "name": name,
            "listen": f"{HOST}:{port}",
            "advertise": f"localhost:{port}",
            "reducer": f"localhost:{ports.grpc}",
            "authority_file": str(self.authority_file),
            "certificate": self._named_certificate(name),
            "token_file": str(self.token(name)),
            "masking_credential_file": str(self.operator.credential(name)),
            "state_dir": str(self.state(name)),
            "heartbeat_s": 2.0,
            "reconnect_grace_s": 5.0,
        }
        _write_yaml(self.settings(name), settings | _minio(where))
        return name

    def write_client(self, number: int, ports: Ports, data: Path, keep_updates: Path | None) -> str:
        """Write a client's settings and return its name."""
        name = f"client-{number}"
        settings = {
            "name": name,
            "reducer": f"localhost:{ports.grpc}",
            "authority_file": str(self.authority_file),
            "token_file": str(self.token(name)),
            "state_dir": str(self.state(name)),
            "data_path": str(data),
        }
        if keep_updates is not None:
            settings["keep_updates"] = str(keep_updates.absolute())
        _write_yaml(self.settings(name), settings)
        return name

    def _named_certificate(self, name: str) -> dict[str, str]:
        return {key: str(file) for key, file in self._certificate(name).items()}

    # ---- ports

    def choose_ports(self, combiners: int, first: int | None) -> Ports:
        """Return the ports of the last start if they are free, else the usual ones, else any that are free.

        Args:
            first: the reducer's web port; the others follow it. 0 for any that are free, None for the usual ones.

        Raises:
            PortTaken: ``first`` was asked for and is not to be had.
        """
        if first and not _is_free(first):
            raise PortTaken(first)
        kept = self.path / "ports.json"
        wanted = _in_a_row(first, combiners) if first is not None else _usual(combiners)
        if first is None and kept.exists():
            numbers = _kept_ports(kept)
            wanted = [*numbers, *_usual(combiners)[len(numbers) :]][: combiners + 2]
        chosen: list[int] = []
        for port in wanted:
            chosen.append(port if port not in chosen and _is_free(port) else _any_free(chosen))
        kept.write_text(json.dumps(chosen), encoding="utf-8")
        return Ports(chosen[0], chosen[1], tuple(chosen[2:]))


def _kept_ports(file: Path) -> list[int]:
    """Return the ports of the last start; a file that cannot be read is worth no more than none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) and all(type(port) is int for port in found) else []


def _usual(combiners: int) -> list[int]:
    return [_WEB_PORT, _GRPC_PORT, *range(_COMBINER_PORT, _COMBINER_PORT + combiners)]


def _in_a_row(first: int, combiners: int) -> list[int]:
    """Return ports that follow each other; 0, which asks for any, is followed by more of it."""
    return [first + place if first else 0 for place in range(2 + combiners)]


def _is_free(port: int) -> bool:
    if not port:
        return False  # asks for any port; which one must be known before the server has started
    if port == 0:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):  # taken, or beyond the last port
            return False
    return True


def _any_free(taken: list[int]) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port


def _minio(where: Where) -> dict[str, Any]:
    """Return the object store's section; its keys come from the process's environment."""
    return {} if where.minio is None else {"minio": {"url": where.minio}}


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
