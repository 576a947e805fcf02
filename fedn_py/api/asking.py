"""What is asked of a reducer, and answered in views: one of them, a whole list, or some of a long one."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from pydantic import TypeAdapter

from fedn_py.api.connection import Connection
from fedn_py.api.rows import Rows

View = TypeVar("View")

_A_PAGE = 500
_MOST_IN_A_PAGE = 1_000


class Asking:
    """Asks over a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def one(self, method: str, path: str, view: type[View], body: object = None) -> View:
        """Return the view that answers one request."""
        return TypeAdapter(view).validate_python(self._connection.ask(method, path, body))

    def rows(
        self, path: str, view: type[View], *, limit: int | None = _A_PAGE, begin: str | None = None, **filters: Any
    ) -> Rows[View]:
        """Return a whole list, from all its pages.

        Args:
            limit: of one page; None for a list that comes in one.
            begin: the mark that the list begins behind.
        """
        return Rows(self._all(path, view, {"limit": limit, **filters}, begin))

    def some(
        self, path: str, view: type[View], *, limit: int, direction: str, begin: int, filters: Mapping[str, Any]
    ) -> Rows[View]:
        """Return at most ``limit`` of a list whose pages may be short of what is behind them.

        Args:
            direction: the name that the marks go by: "after" or "before".
            begin: the first mark.
        """
        found: Rows[View] = Rows()
        items = TypeAdapter(list[view])  # type: ignore[valid-type]
        mark: Any = begin
        while mark is not None and len(found) < limit:
            size = min(limit - len(found), _MOST_IN_A_PAGE)
            page = self._connection.ask("GET", path + query(**{direction: mark}, limit=size, **filters))
            found += items.validate_python(page["items"])
            mark = page.get("next")
        return found

    def _all(self, path: str, view: type[View], asked: Mapping[str, Any], begin: str | None) -> Iterator[View]:
        after = begin
        items = TypeAdapter(list[view])  # type: ignore[valid-type]
        while True:
            page = self._connection.ask("GET", path + query(after=after, **asked))
            yield from items.validate_python(page["items"])
            after = page.get("next")
            if after is None:
                return


def query(**values: object) -> str:
    """Return a query of what is given; what is None is left out."""
    given = {name: value for name, value in values.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
