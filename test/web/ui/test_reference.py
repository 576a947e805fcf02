from typing import Any

import pytest

from fedn_py.web.ui.reference import Kind, Reference, Route, kind_of, read

DOCSTRING = """A model.

Attributes:
    size, digest: two of
        its facts.
    unit: ``None`` without."""

DOCUMENT: dict[str, Any] = {
    "tags": [{"name": "models", "description": "The trail"}],
    "paths": {
        "/api/v1/models/{digest}": {
            "get": {
                "tags": ["models"],
                "summary": "One model.",
                "security": [{"token": []}],
                "parameters": [
                    {"name": "digest", "in": "path", "required": True, "schema": {"type": "string"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 5}},
                ],
                "responses": {
                    "200": {
                        "description": "OK",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Model"}}},
                    },
                    "304": {"description": "You have it already"},
                    "422": {"description": "wrong"},
                },
            },
            "post": {
                "tags": ["models"],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Model"}}}},
                "responses": {},
            },
            "patch": {
                "tags": ["models"],
                "parameters": [{"name": "unit", "in": "query", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"description": "Events", "content": {"text/event-stream": {}}}},
            },
        }
    },
    "components": {
        "schemas": {
            "Model": {
                "description": DOCSTRING,
                "required": ["size", "digest"],
                "properties": {
                    "size": {"type": "integer", "description": "bytes"},
                    "digest": {"type": "string"},
                    "unit": {"type": "string", "default": "m"},
                },
            }
        }
    },
}  # fmt: skip


def reference() -> Reference:
    return read(DOCUMENT, "https://reducer:8090")


def route(method: str) -> Route:
    return next(one for one in reference().areas[0].routes if one.method == method)


def test_a_route_has_its_parameters_and_the_answers_that_are_its_own() -> None:
    got = route("GET")
    assert [(one.name, one.kind.text, one.required, one.default) for one in got.parameters] == [
        ("digest", "string, in the path", True, ""),
        ("limit", "integer, in the query", False, "5"),
    ]
    assert [(one.status, one.media, one.kind.schema) for one in got.answers] == [
        ("200", "application/json", "Model"),
        ("304", "", ""),
    ]


def test_a_curl_line_leaves_to_the_shell_what_only_the_caller_knows() -> None:
    assert route("GET").curl == (
        'curl --cacert authority.pem -H "Authorization: Bearer $TOKEN" "https://reducer:8090/api/v1/models/$DIGEST"'
    )
    assert route("PATCH").curl.endswith('--no-buffer "https://reducer:8090/api/v1/models/$DIGEST?unit=$UNIT"')
    assert """-d '{"size": 10, "digest": "DIGEST"}'""" in route("POST").curl
    assert "TOKEN" not in route("POST").curl


def test_what_a_field_means_stands_beside_it_wherever_it_was_described() -> None:
    (model,) = reference().schemas
    assert model.text == "A model."
    assert {one.name: one.text for one in model.fields} == {
        "size": "bytes",
        "digest": "two of its facts.",
        "unit": "None without.",
    }


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ({"$ref": "#/components/schemas/Model"}, Kind("", "Model")),
        ({"anyOf": [{"$ref": "#/components/schemas/Model"}, {"type": "null"}]}, Kind("null", "Model")),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Model"}}, Kind("list of", "Model")),
        ({"type": "object", "additionalProperties": {"type": "number"}}, Kind("object, each value: number")),
        ({"type": "integer", "minimum": 1.0, "maximum": 10}, Kind("integer, at least 1, at most 10")),
        ({"enum": ["none", "pet"], "type": "string"}, Kind('"none" or "pet"')),
        ({"format": "binary"}, Kind("the bare file")),
        ({}, Kind("any value")),
    ],
)
def test_a_form_is_told_in_words(form: dict[str, Any], kind: Kind) -> None:
    assert kind_of(form) == kind
