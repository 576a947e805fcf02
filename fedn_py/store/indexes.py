"""The fields by which documents are found, beside their keys: whoever asks by others reads a whole collection.

Each index has the key behind its fields, so that documents of one place in it are in the order of their keys.
"""

from collections.abc import Container, Mapping

from fedn_py.store.ports import Collection

Fields = tuple[str, ...]

INDEXES: Mapping[Collection, tuple[Fields, ...]] = {
    "sessions": (("status",), ("number",)),
    "rounds": (("session",), ("model",), ("created",)),
    "packages": (("created",),),
    "models": (("created",),),
    "clients": (("name",),),
    "tokens": (("created",),),
    "events": (("seq",), ("kind", "seq"), ("severity", "seq")),
}


def index_for(collection: str, equals: Container[str], order_by: str) -> Fields | None:
    """Return the index that finds what a query asks for, None where there is none.

    Its fields are among those that are to be equal; the last one may be that of the order instead.
    """
    found = [fields for fields in _of(collection) if _finds(fields, equals, order_by)]
    return max(found, key=len, default=None)


def _of(collection: str) -> tuple[Fields, ...]:
    return next((indexes for name, indexes in INDEXES.items() if name == collection), ())


def _finds(fields: Fields, equals: Container[str], order_by: str) -> bool:
    *first, last = fields
    return all(name in equals for name in first) and (last in equals or last == order_by)
