"""What can go wrong between a program and its reducer."""

import socket
import ssl

from fedn_py.errors import OwnFault, PeerFault


class RemoteRefusal(PeerFault):
    """The reducer answered, and refused.

    Attributes:
        status: the HTTP status of the answer.
    """

    def __init__(self, status: int, code: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self._code = code

    @property
    def code(self) -> str:
        """The name of the fault, as the reducer gave it."""
        return self._code


class ReducerUnreachable(OwnFault):
    """The reducer does not answer, or not as a reducer does."""


class NotFromHere(OwnFault):
    """Bytes that came are not those that were asked for."""


class WaitedTooLong(OwnFault):
    """What was waited for had not happened when the time was over."""


class InvalidProfile(OwnFault):
    """A connection profile that cannot be used, or none at all."""


def unreachable(url: str, cause: Exception) -> ReducerUnreachable:
    """Return why a reducer cannot be reached, with a hint for the commonest causes."""
    match cause:
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not trusted: {cause.verify_message}"
            hint = "Give the authority_file of this network in the profile, and the host name in its certificate."
        case ssl.SSLError():
            why, hint = f"TLS failed: {cause.reason or cause}", "Check that the port is the reducer's HTTPS port."
        case ConnectionRefusedError():
            why = "nothing listens there"
            hint = "Start it (fedn-py run reducer -c reducer.yaml, or fedn-py sandbox), or correct the profile's url."
        case socket.gaierror():
            why, hint = "its host name is not known", "Correct the url of the profile, or the name server."
        case TimeoutError():
            why, hint = "no answer in time", "Check that a firewall lets this host through, and the reducer's log."
        case _:
            why, hint = str(cause) or type(cause).__name__, "Check that the reducer runs: its log says what it does."
    return ReducerUnreachable(f"the reducer at {url} cannot be reached: {why}", remedy=hint)
