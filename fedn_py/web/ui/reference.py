"""The REST API as a page tells of it: the OpenAPI document, read into what people look for.

Pure: the document comes in as JSON has it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]

_REFERENCE = "#/components/schemas/"
_METHODS = ("get", "post", "put", "patch", "delete")
_SAID_ONCE = frozenset({"default", "422"})
"""Answers that every route can give: a page says once how errors look."""

_ATTRIBUTE = re.compile(r"^    (\w+(?:, \w+)*): (.+(?:\n {8}.+)*)", re.MULTILINE)
"""Names and meaning of an entry under "Attributes:" in a docstring."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What form a value has.

    Attributes:
        text: in words, such as "list of" or "number, at least 1".
        schema: the described form it is, or is made of; empty where words say all.
    """

    text: str
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a body or an answer, or one parameter of a request.

    Attributes:
        default: as JSON; empty where it has none.
    """

    name: str
    kind: Kind
    required: bool
    text: str = ""
    default: str = ""


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A body or an answer.

    Attributes:
        status: of an answer, such as "201"; empty for a body.
        media: its Content-Type; empty for nothing.
    """

    status: str
    media: str
    kind: Kind
    text: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        anchor: names it in the page's URL.
        curl: a line for a shell in which TOKEN and the path's parameters are variables.
    """

    method: str
    path: str
    anchor: str
    text: str
    parameters: tuple[Field, ...]
    body: Exchanged | None
    answers: tuple[Exchanged, ...]
    needs_token: bool
    curl: str


@dataclass(frozen=True, slots=True)
class Area:
    """Routes that belong together."""

    name: str
    text: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """A form with a name."""

    name: str
    text: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """All of it."""

    areas: tuple[Area, ...]
    schemas: tuple[Schema, ...]


def read(document: Document, address: str) -> Reference:
    """Return what an OpenAPI 3.1 document describes.

    Args:
        address: where the API is served, such as ``https://reducer.example:8090``.
    """
    schemas: Document = document["components"]["schemas"]
    routes = [
        (operation["tags"][0], _route(method, path, operation, schemas, address))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
    ]
    areas = tuple(
        Area(tag["name"], tag.get("description", ""), tuple(route for name, route in routes if name == tag["name"]))
        for tag in document["tags"]
    )
    return Reference(areas, tuple(_schema(name, schemas[name]) for name in sorted(schemas)))


def _route(method: str, path: str, operation: Document, schemas: Document, address: str) -> Route:
    body = _body(operation)
    return Route(
        method=method.upper(),
        path=path,
        anchor=re.sub(r"\W+", "-", f"{method}{path}").strip("-"),
        text=operation.get("summary", ""),
        parameters=tuple(_parameter(one) for one in operation.get("parameters", [])),
        body=body,
        answers=tuple(_answers(operation)),
        needs_token=_needs_token(operation),
        curl=" ".join(
            [
                *_options(method.upper(), operation, body, schemas),
                f'"{_with_variables(address + path + _query(operation))}"',
            ]
        ),
    )


def _parameter(described: Document) -> Field:
    kind = kind_of(described["schema"])
    where = Kind(f"{kind.text}, in the {described['in']}", kind.schema)
    text, default = described.get("description", ""), described["schema"].get("default")
    return Field(described["name"], where, described.get("required", False), text, _as_json(default))


def _body(operation: Document) -> Exchanged | None:
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        return Exchanged("", media, kind_of(content["schema"]))
    return None


def _answers(operation: Document) -> Iterator[Exchanged]:
    for status, answer in operation["responses"].items():
        if status in _SAID_ONCE:
            continue
        said = answer.get("description", "")
        for media, content in (answer.get("content") or {"": {}}).items():
            yield Exchanged(status, media, kind_of(content.get("schema", {})), said)


def _schema(name: str, schema: Document) -> Schema:
    required = schema.get("required", ())
    text, meanings = _docstring(schema.get("description", ""))
    fields = tuple(
        Field(
            name=field,
            kind=kind_of(form),
            required=field in required,
            text=form.get("description", "") or meanings.get(field, ""),
            default=_as_json(form.get("default")),
        )
        for field, form in schema.get("properties", {}).items()
    )
    return Schema(name, text, fields)


def _docstring(description: str) -> tuple[str, Mapping[str, str]]:
    """Return what a class's docstring says of it, and of its attributes by name."""
    text, _, attributes = description.partition("\nAttributes:\n")
    meanings: dict[str, str] = {}
    for names, meaning in _ATTRIBUTE.findall(attributes):
        meanings |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return text.strip().replace("``", ""), {name: said.replace("``", "") for name, said in meanings.items()}


def kind_of(form: Document) -> Kind:
    """Return the form that a JSON Schema asks for, in words."""
    match form:
        case {"$ref": str(reference)}:
            return Kind("", reference.removeprefix(_REFERENCE))
        case {"anyOf": [*several]}:
            kinds = [kind_of(one) for one in several]
            schema = next((kind.schema for kind in kinds if kind.schema), "")
            return Kind(" or ".join(kind.text for kind in kinds if kind.text), schema)
        case {"enum": [*values]}:
            return Kind(" or ".join(json.dumps(value) for value in values))
        case {"type": "array", "items": items}:
            return _made_of("list of", kind_of(items))
        case {"type": "object", "additionalProperties": Mapping() as values}:
            return _made_of("object, each value:", kind_of(values))
        case {"format": "binary"}:
            return Kind("the bare file")
        case {"type": str(name)}:
            return Kind(", ".join([name, *_bounds(form)]))
        case _:
            return Kind("any value")


def _made_of(outer: str, inner: Kind) -> Kind:
    return Kind(f"{outer} {inner.text}".strip(), inner.schema)


_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "like {}",
}


def _bounds(form: Document) -> Iterator[str]:
    for name, words in _BOUNDS.items():
        if name in form:
            bound = form[name]
            yield words.format(int(bound) if isinstance(bound, float) and bound.is_integer() else bound)


def _needs_token(operation: Document) -> bool:
    return bool(operation.get("security"))


def _options(method: str, operation: Document, body: Exchanged | None, schemas: Document) -> Iterator[str]:
    """Give the words of a curl line before its URL."""
    yield "curl --cacert authority.pem"
    if _needs_token(operation):
        yield '-H "Authorization: Bearer $TOKEN"'
    if method != "GET":
        yield f"-X {method}"
    if any("text/event-stream" in (answer.get("content") or {}) for answer in operation["responses"].values()):
        yield "--no-buffer"
    if body is not None and body.media == "application/json":
        example = json.dumps(_example(schemas[body.kind.schema]))
        yield f"-H 'Content-Type: application/json' -d '{example}'"
    elif body is not None:
        yield f"-H 'Content-Type: {body.media}' --data-binary @FILE"


def _query(operation: Document) -> str:
    """Return the part of a URL that asks for what has to be said."""
    needed = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query" and one.get("required")]
    return "?" + "&".join(f"{name}={{{name}}}" for name in needed) if needed else ""


def _with_variables(url: str) -> str:
    """Return a URL for a shell: {session} becomes $SESSION."""
    return re.sub(r"{(\w+)}", lambda found: f"${found[1].upper()}", url)


def _example(schema: Document) -> dict[str, object]:
    """Return the least that a body has to say; capitals stand for what the caller knows."""
    fields: Document = schema.get("properties", {})
    return {name: _some(name, fields[name]) for name in schema.get("required", ())}


def _some(name: str, form: Document) -> object:
    if "enum" in form:
        return form["enum"][0]
    return 10 if form.get("type") in {"integer", "number"} else name.upper()


def _as_json(default: object) -> str:
    return "" if default is None else json.dumps(default)
