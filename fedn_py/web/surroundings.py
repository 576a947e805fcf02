"""What the web pages know of their reducer's process beside what it controls."""

from dataclasses import dataclass

from fedn_py.settings import ReducerSettings, split_address
from fedn_py.web.sandbox_desk import SandboxDesk, SocketDesk


@dataclass(frozen=True, slots=True)
class Joining:
    """What a site needs to reach this network, beside the name that the reducer is called by.

    Attributes:
        grpc_port: of the reducer, for combiners and clients.
        authority_pem: that the network's certificates come from.
    """

    grpc_port: int
    authority_pem: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Around the reducer.

    Attributes:
        sandbox: None in every network but a sandbox.
        joining: None where it is not known.
    """

    sandbox: SandboxDesk | None = None
    joining: Joining | None = None


def surroundings_of(settings: ReducerSettings) -> Surroundings:
    """Return what is around a reducer with these settings."""
    return Surroundings(
        sandbox=None if settings.sandbox_socket is None else SocketDesk(settings.sandbox_socket),
        joining=Joining(
            split_address(settings.listen_grpc)[1], settings.certificate.authority_file.read_text(encoding="ascii")
        ),
    )
