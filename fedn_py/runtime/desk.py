"""What a sandbox's web pages ask of the process that started it: one typed request and its answer, a line of JSON each.

Nothing of this is in a real network, where only people at the machines can do it.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from fedn_py.errors import FednError, PeerFault

MOST_BYTES = 1 << 20
"""Of one line."""

WORDS_SHOWN = 2_000
"""Of a masked update."""


class DeskMalformed(PeerFault):
    """A line is no request, or no answer, that this version knows."""


class DeskRefused(PeerFault):
    """The sandbox did not do what it was asked to.

    Attributes:
        code: of the fault there.
    """

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self._code = code

    @property
    def code(self) -> str:
        """The name of the fault in the sandbox."""
        return self._code


# ---- answers


@dataclass(frozen=True, slots=True)
class Done:
    """It is done."""


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process of the sandbox.

    Attributes:
        role: reducer, combiner or client.
        exit_code: None while it runs; -9 of one that was killed.
    """

    role: str
    name: str
    exit_code: int | None

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.exit_code is None


@dataclass(frozen=True, slots=True)
class Processes:
    """All processes, those that have ended too."""

    processes: tuple[ProcessView, ...]


@dataclass(frozen=True, slots=True)
class Added:
    """A process that is new."""

    name: str


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A client's token with its join credential.

    Attributes:
        text: what the site keeps in its token file; a secret.
        join_id: what the join credential is revoked by, in hex.
    """

    text: str = field(repr=False)
    join_id: str


@dataclass(frozen=True, slots=True)
class MadeSeed:
    """A seed model that is in the network now."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class MaskedUpdateView:
    """What left one client in a masked round, beside what came out of the round.

    Attributes:
        words: uint32[at most WORDS_SHOWN], the masked update's first, as servers got them.
        opened: of the same coordinates, what the round added to the global model: the mean over all its clients, in
            model units; empty while the round is not committed.
        n_words: of the whole masked update.
    """

    client: str
    session: str
    round: int
    words: tuple[int, ...]
    n_words: int
    opened: tuple[float, ...]


Answer = Done | Processes | Added | MadeToken | MadeSeed | MaskedUpdateView


# ---- requests


@dataclass(frozen=True, slots=True)
class Look:
    """Which processes are there?"""

    answer: ClassVar[type[Answer]] = Processes


@dataclass(frozen=True, slots=True)
class Kill:
    """End a client or combiner as a power cut would."""

    answer: ClassVar[type[Answer]] = Done
    name: str


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Start a client or combiner that has ended."""

    answer: ClassVar[type[Answer]] = Done
    name: str


@dataclass(frozen=True, slots=True)
class AddClient:
    """Start one more client, with a part of the data that is dealt for one more."""

    answer: ClassVar[type[Answer]] = Added


@dataclass(frozen=True, slots=True)
class MakeToken:
    """Make a client's token with a join credential, by the operator's key in the sandbox's folder."""

    answer: ClassVar[type[Answer]] = MadeToken
    label: str
    days: float


@dataclass(frozen=True, slots=True)
class MakeSeed:
    """Have a package make its seed model, and upload that.

    Attributes:
        package: digest of one that is in the network.
    """

    answer: ClassVar[type[Answer]] = MadeSeed
    package: str


@dataclass(frozen=True, slots=True)
class ShowMasked:
    """Show the last masked update that a client made.

    Attributes:
        client: a name; empty for whichever client made the newest.
    """

    answer: ClassVar[type[Answer]] = MaskedUpdateView
    client: str = ""


Request = Look | Kill | StartAgain | AddClient | MakeToken | MakeSeed | ShowMasked

_REQUESTS: dict[str, type[Request]] = {
    kind.__name__: kind for kind in (Look, Kill, StartAgain, AddClient, MakeToken, MakeSeed, ShowMasked)
}


# ---- lines


def write_request(request: Request) -> bytes:
    """Return a request's line."""
    return _line({"ask": type(request).__name__, **asdict(request)})


def read_request(line: bytes) -> Request:
    """Return the request of a line; raises DeskMalformed."""
    content = _content(line)
    kind = _REQUESTS.get(str(content.pop("ask", "")))
    if kind is None:
        raise DeskMalformed("the sandbox knows no such request", remedy="Start the sandbox again.")
    request: Request = _value(kind, content)
    return request


def write_answer(answer: Answer) -> bytes:
    """Return an answer's line."""
    return _line({"answer": asdict(answer)})


def write_fault(fault: FednError) -> bytes:
    """Return the line that says why there is no answer."""
    return _line({"code": fault.code, "message": fault.message, "remedy": fault.remedy})


def read_answer(request: Request, line: bytes) -> Answer:
    """Return the answer to a request; raises DeskRefused, DeskMalformed."""
    content = _content(line)
    if "answer" not in content:
        raise DeskRefused(*(str(content.get(key, "")) for key in ("code", "message", "remedy")))
    answer: Answer = _value(type(request).answer, content["answer"])
    return answer


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _content(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DeskMalformed("the sandbox's line is no JSON object", remedy="Start the sandbox again.")
    return found


def _value(kind: type[Any], content: object) -> Any:
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as invalid:
        raise DeskMalformed(
            f"the sandbox's line is no {kind.__name__}: {invalid.error_count()} faults",
            remedy="Start the sandbox again.",
        ) from None
