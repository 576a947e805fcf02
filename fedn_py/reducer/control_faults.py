"""What is wrong with what is asked of a reducer."""

from fedn_py.errors import PeerFault


class Unknown(PeerFault):
    """What was asked for is not here."""

    def __init__(self, kind: str, name: object, remedy: str = "") -> None:
        super().__init__(f"there is no {kind} {name}", remedy=remedy)


class UnknownSession(Unknown):
    """No session has this id."""

    def __init__(self, session: object) -> None:
        super().__init__("session", session, "List them: fedn-py session list.")


class UnknownRound(Unknown):
    """The session has no round of this number."""

    def __init__(self, session: object, number: int) -> None:
        super().__init__("round", f"{number} of session {session}", "List them: fedn-py round list.")


class UnknownModel(Unknown):
    """No model has this digest."""

    def __init__(self, digest: object) -> None:
        super().__init__("model", digest, "List them: fedn-py model list.")


class UnknownPackage(Unknown):
    """No compute package has this digest."""

    def __init__(self, digest: object) -> None:
        super().__init__("package", digest, "List them: fedn-py package list.")


class UnknownObject(Unknown):
    """No model and no package has this digest."""

    def __init__(self, digest: object) -> None:
        super().__init__("model or package", digest, "List them: fedn-py model list, fedn-py package list.")


class UnknownClient(Unknown):
    """No client has this id."""

    def __init__(self, client: object) -> None:
        super().__init__("client", client, "List them: fedn-py client list.")


class UnknownEvent(Unknown):
    """No event has this number, or it is not stored yet."""

    def __init__(self, seq: int) -> None:
        super().__init__("event", seq, "List them: fedn-py event list.")


class UnknownToken(Unknown):
    """No token has this id."""

    def __init__(self, token: object) -> None:
        super().__init__("token", token, "List them: fedn-py token list.")


class Conflict(PeerFault):
    """The request does not fit the state that things are in now."""


class SessionUnderWay(Conflict):
    """Only one session runs at a time, and one does."""

    def __init__(self, session: object) -> None:
        super().__init__(
            f"session {session} is under way",
            remedy=f"Wait for it, or stop it first: fedn-py session stop {session}.",
        )


class WrongSessionStatus(Conflict):
    """A session cannot be paused, resumed, changed or stopped in the status it has."""

    def __init__(self, session: object, status: str, wanted: str) -> None:
        super().__init__(f"session {session} is {status} and cannot be {wanted}", remedy="See fedn-py session show.")


class NotAuthenticated(PeerFault):
    """The caller showed no token, or one that is unknown, expired or revoked."""


class NotAllowed(PeerFault):
    """The caller's token does not carry the right to do this."""


class NotActive(PeerFault):
    """This reducer is not the active one, so it answers nothing but its probes."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            reason,
            remedy="Ask the active reducer. This one takes over by itself when that one ends; fedn-py and the probe "
            "/readyz tell when it has.",
        )


class TooLarge(PeerFault):
    """An upload or a request is larger than the reducer takes."""
