"""A sandbox's desk of the tests' own: it does what it is asked to and remembers that."""

from dataclasses import replace

from fedn_py.errors import FednError
from fedn_py.runtime.desk import DeskRefused, MadeSeed, MadeToken, MaskedUpdateView, ProcessView


class FakeDesk:
    """Holds processes that are none.

    Attributes:
        away: raised by every request, where the sandbox does not answer.
        tokens: what was asked for, label and days.
    """

    def __init__(self) -> None:
        self.views = {
            name: ProcessView(role, name, None)
            for role, name in (
                ("reducer", "reducer"), ("combiner", "combiner-1"), ("client", "anna"), ("client", "bert"),
            )
        }  # fmt: skip
        self.away: FednError | None = None
        self.tokens: list[tuple[str, float]] = []

    async def processes(self) -> tuple[ProcessView, ...]:
        self._answer()
        return tuple(self.views.values())

    async def kill(self, name: str) -> None:
        self._end(name, -9)

    async def start_again(self, name: str) -> None:
        self._end(name, None)

    async def add_client(self) -> str:
        self._answer()
        self.views["client-3"] = ProcessView("client", "client-3", None)
        return "client-3"

    async def make_token(self, label: str, days: float) -> MadeToken:
        self._answer()
        self.tokens.append((label, days))
        return MadeToken(f"fedn1.secret-of-{label}\nfedn-join-1:c2VjcmV0\n", "0f" * 16)

    async def make_seed(self, package: str) -> MadeSeed:
        self._answer()
        return MadeSeed(package, 1)

    async def masked_update(self, client: str = "") -> MaskedUpdateView:
        self._answer()
        return MaskedUpdateView(client or "anna", "ab" * 16, 1, (1, 2), 4, (0.5, 0.25))

    def _answer(self) -> None:
        if self.away is not None:
            raise self.away

    def _end(self, name: str, code: int | None) -> None:
        self._answer()
        if name not in self.views or (self.views[name].exit_code is None) == (code is None):
            raise DeskRefused("NotOfTheFleet", f"this sandbox started no {name}", "Only what it started.")
        self.views[name] = replace(self.views[name], exit_code=code)
