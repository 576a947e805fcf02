"""What the errors of MongoDB and of the way to it mean."""

from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    DocumentTooLarge,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from fedn_py.errors import OwnFault
from fedn_py.store.content import MAX_DOCUMENT_BYTES
from fedn_py.store.ports import NotStorable, StoreFull, StoreMisconfigured, StoreUnavailable

_UNAUTHORIZED, _AUTHENTICATION_FAILED, _ATLAS_ERROR, _OUT_OF_DISK_SPACE = 13, 18, 8000, 14031
_TOO_LARGE = frozenset({10334, 17419, 17420})


class AnswerLost(StoreUnavailable):
    """A command was sent, perhaps, and no answer came that says what became of it."""


def fault_of(error: PyMongoError, server: str) -> OwnFault:
    """Return what an error of the library means for whoever runs this process."""
    match error:
        case ServerSelectionTimeoutError() | WaitQueueTimeoutError():
            reason = str(error).split(", Timeout:")[0].split(" (configured timeouts:")[0]
            return StoreUnavailable(
                f"MongoDB at {server} cannot be reached: {reason[:300]}",
                remedy="Start MongoDB, or correct its URI in the settings; check names, ports, firewalls and TLS.",
            )
        case AutoReconnect() | WriteConcernError() | ExecutionTimeout():
            return AnswerLost(
                f"MongoDB at {server} was asked and gave no answer ({type(error).__name__})",
                remedy="Check that it runs and has a primary; the work goes on when it answers.",
            )
        case OperationFailure(code=code):
            return _refusal(error, code, server)
        case DocumentTooLarge():
            return _too_large()
        case ConfigurationError():
            return StoreMisconfigured(
                f"MongoDB at {server} cannot be used: {str(error)[:300]}",
                remedy="Use a MongoDB server of a version that is supported, and correct its URI.",
            )
        case _:
            return AnswerLost(
                f"talking to MongoDB at {server} failed ({type(error).__name__})",
                remedy="Check the log of MongoDB; the work goes on when it answers.",
            )


def _refusal(error: OperationFailure, code: int | None, server: str) -> OwnFault:
    name = (error.details or {}).get("codeName") or f"code {code}"
    if code in (_UNAUTHORIZED, _AUTHENTICATION_FAILED, _ATLAS_ERROR):
        return StoreMisconfigured(
            f"MongoDB at {server} refuses this user ({name})",
            remedy="Correct the user name and password in the URI, and give the user the role readWrite.",
        )
    if code == _OUT_OF_DISK_SPACE:
        return StoreFull(
            f"MongoDB at {server} has no disk space left ({name})", remedy="Free some there; the write did not happen."
        )
    if code in _TOO_LARGE:
        return _too_large()
    if error.has_error_label("RetryableWriteError"):
        return AnswerLost(
            f"MongoDB at {server} broke off ({name})", remedy="The work goes on when it has a primary again."
        )
    return StoreUnavailable(
        f"MongoDB at {server} refuses a command ({name})", remedy="Look into the log of MongoDB for the reason."
    )


def _too_large() -> NotStorable:
    return NotStorable(
        f"a document is above MongoDB's limit of {MAX_DOCUMENT_BYTES} bytes",
        remedy="Lower the number of clients of a round, or the length of the logs they send.",
    )


def not_acknowledged(error: WriteConcernError, server: str) -> StoreMisconfigured:
    """Return the fault of a server that does not acknowledge a write as it is asked to."""
    name = (error.details or {}).get("codeName") or f"code {error.code}"
    return StoreMisconfigured(
        f"MongoDB at {server} does not acknowledge writes by a majority and its journals ({name})",
        remedy="Run it with journaling, and with a majority of members that hold data up; a single server is enough.",
    )
