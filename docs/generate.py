"""Writes the pages of docs/reference that the code itself knows: settings, commands, REST, metrics, messages, faults.

``python docs/generate.py`` writes them; with ``--check`` it only tells whether they are as the code has it.
"""

import asyncio
import inspect
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import click
import typer
from pydantic_core import PydanticUndefined

from fedn_py.cli.exits import MEANING
from fedn_py.cli.main import build
from fedn_py.combiner.metering import CombinerMetrics
from fedn_py.protocol.masked import certificates, differencing, round_messages, signing, words
from fedn_py.protocol.masked.encoding import (
    Body,
    Exactly,
    Form,
    Many,
    Nested,
    OneOf,
    Real,
    Text,
    Unsigned,
    UpTo,
    layout,
)
from fedn_py.reducer.control import Control
from fedn_py.reducer.metering import ReducerMetrics
from fedn_py.runtime.metrics import measure_certificate, measure_disk
from fedn_py.runtime.reason_codes import OTHER, REASON_CODES
from fedn_py.settings import ROLES, LimitSettings
from fedn_py.settings.fields import Section
from fedn_py.settings.sources import ALIASES, section_of, variable
from fedn_py.web import create_app

PAGES = Path(__file__).resolve().parent / "reference"
_SETTINGS = """# Settings

<!-- Written by docs/generate.py from the code; change it there. -->

Each process reads one YAML file (`fedn-py run ROLE -c FILE`) and the environment, which wins over the file. A key in a
section is `section.key` here; its variable is `FEDN_SECTION__KEY`. Relative paths start at the settings file's folder,
and without a file at the present one. Unknown keys and variables are refused, and all faults are told at once.
`fedn-py config check -c FILE --role ROLE` checks a file and shows where each value came from. Templates with every key
are in [config/](../../config/reducer.yaml).

"""

_CLI = """# Command line

<!-- Written by docs/generate.py from the code; change it there. -->

`fedn-py COMMAND --help` says the same in the terminal; `fedn-py --install-completion` completes commands in your shell.

Data goes to standard output, everything for people to standard error. With `--json` the data is one object,
`{"schema_version": 1, "data": ...}`, or `{"schema_version": 1, "error": {"code", "message", "remedy"}}`.

Commands that speak to a reducer find it by a connection profile: `--profile FILE`, else `$FEDN_PROFILE`, else
`.fedn/sandbox/profile.yaml` here, else `profile.yaml` in your configuration folder (on Linux `~/.config/fedn-py`). It
holds `url`, `token_file` (or `token`) and `authority_file`.

| exit code | meaning |
| --- | --- |
"""

_REST = """# REST API

<!-- Written by docs/generate.py from the code; change it there. -->

The reducer serves it over HTTPS under `/api/v1`; `/api/v1/openapi.json` describes it in full (OpenAPI 3.1) and needs no
token. Every other route asks for `Authorization: Bearer TOKEN`: a token of role viewer or admin to look, of role admin
to change anything or to see tokens. The cookie of a browser that such a token signed in is as good; to change anything
it takes the header `X-CSRFToken` beside it, with the token that every page holds in `data-csrf`, and a `Referer` of
this address. From Python: `from fedn_py.api import connect`.

Instants are seconds since 1970 in UTC, durations are in seconds. A list comes as `{"items": [...], "next": ...}`; ask
again with `after=NEXT` until `next` is null. Uploads are the bare file as the body, with its `Content-Length`.

Errors are `application/problem+json` (RFC 9457) with `code`, `title`, `status`, `detail`, `remedy`, and `faults`
(`where`, `text`) when a request has several:

| status | when |
| --- | --- |
| 400 | the body is not JSON, or an upload broke off |
| 401, 403 | no valid token, or one without the right |
| 404 | no such session, round, model, package, token or route |
| 408 | the body was not whole within 10 seconds; uploads have longer |
| 409 | it does not fit the present state, such as a second session |
| 411, 413, 415 | no Content-Length, too large, not JSON |
| 422 | a field is wrong, or the model or package is refused |
| 503, 507 | a store cannot be reached, or is full; 503 too while more bodies come in than can be held |
"""


_METRICS = """# Metrics

<!-- Written by docs/generate.py from the code; change it there. -->

What reducers and combiners show to Prometheus under `/metrics`
([how to read it](../how-to/watch-with-prometheus.md)). A counter only rises, and starts anew with its process; of a
histogram there are `_bucket`, `_sum` and `_count`. Beside these are the usual ones of the process: `process_*` and
`python_*`.

The label `reason` holds one of these codes, whatever else was said with them:
"""

_MASKED = """# Messages of masked rounds

<!-- Written by docs/generate.py from the code; change it there. -->

What is signed, sealed or stored in a masked round, byte by byte. A body is its fields in this order: integers (`u32`:
32 bits) and reals (`f64`) little-endian, byte strings of fixed length as they are, everything else behind a length or
a count of 4 bytes; of several words the place in the list, as one byte. There is one way to write a body, and no other
bytes are read.

A *signed message* carries a body as bytes: its signature is Ed25519 over `H("sign/" + kind, body)`, with H as in
`fedn_py/masking/hashing.py`. What these messages are for is in [Masking](../explanation/masking.md).
"""

_MASKED_PARTS = {
    "Signing": (signing,),
    "Certificates and policy": (certificates,),
    "The round": (round_messages,),
    "Words and what travels inside orders, tasks and uploads": (words,),
    "Records on a client's disk": (differencing,),
}


def settings_page() -> str:
    """Return every key of every role."""
    aliases = ", ".join(f"`{name}` for `{'.'.join(key)}`" for name, key in ALIASES.items())
    secrets = "A key `x_file` beside a key `x` names a file that holds the secret `x`."
    text = f"{_SETTINGS}{secrets} Further names of variables:\n{aliases}.\n"
    for role, model in ROLES.items():
        text += f"\n## {role.capitalize()}\n\n| key | default | what it is | variable |\n| --- | --- | --- | --- |\n"
        text += "".join(_rows(model))
    return text


def _rows(model: type[Section], prefix: tuple[str, ...] = ()) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = (*prefix, name)
        section = section_of(field.annotation)
        what = field.description or ""
        choices = _choices(field.annotation)
        if choices:
            what += f" ({choices})"
        if section is not None:
            optional = field.default is None
            required = "required" if field.is_required() else "absent" if optional else ""
            yield f"| `{'.'.join(key)}` | {required} | {what} | |\n"
            yield from _rows(section, key)
            continue
        default = "required" if field.default is PydanticUndefined else _default(field.default)
        yield f"| `{'.'.join(key)}` | {default} | {what} | `{variable(key)}` |\n"


def _default(value: object) -> str:
    if value is None:
        return "absent"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _choices(annotation: object) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(annotation))
    return ""


def cli_page() -> str:
    """Return every command with its arguments and options."""
    root = cast("click.Group", typer.main.get_command(build()))
    text = _CLI
    text += "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANING.items())
    for path, command in _commands(root, ("fedn-py",)):
        text += f"\n## {path}\n\n{_help(command)}\n"
        rows = "".join(_parameter(parameter) for parameter in command.params if parameter.name != "help")
        text += f"\n| argument or option | default | what it is |\n| --- | --- | --- |\n{rows}" if rows else ""
    return text


def _commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(cast("click.Group", command), (*path, name))
        else:
            yield " ".join((*path, name)), command


def _help(command: click.Command) -> str:
    paragraphs = (command.help or "").replace("\n", " ").split("  ")
    return "\n\n".join(
        f"Example: `{text.removeprefix('Example: ').strip()}`" if text.startswith("Example: ") else text.strip()
        for text in (part.strip() for part in paragraphs)
        if text
    )


def _parameter(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    default = parameter.default() if callable(parameter.default) else parameter.default
    if parameter.required:
        shown = "required"
    elif default in (None, "") or default is False or isinstance(default, type) or "Sentinel" in type(default).__name__:
        shown = ""
    else:
        shown = f"`{getattr(default, 'value', default)}`"
    return f"| {names} | {shown} | {(getattr(parameter, 'help', '') or '').replace('|', chr(92) + '|')} |\n"


def rest_page() -> str:
    """Return every route of the REST API."""
    loop = asyncio.new_event_loop()
    try:
        document: Mapping[str, Any] = create_app(cast("Control", None), loop, LimitSettings()).api_doc
    finally:
        loop.close()
    text = _REST
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            text += f"\n## {method.upper()} {path}\n\n{operation['summary'].rstrip('.')}.\n"
            text += _inputs(operation, document) + _answer(operation)
    return text


def _inputs(operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    rows = [
        (f"`{given['name']}` ({given['in']})", given["schema"], given.get("description", ""), given.get("required"))
        for given in operation.get("parameters", ())
    ]
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    if "$ref" in schema:
        rows += _fields(schema["$ref"], document)
    table = "".join(
        f"| {name} | {'required' if required else _json_default(field)} | {what} |\n"
        for name, field, what, required in rows
    )
    return f"\n| field | default | what it is |\n| --- | --- | --- |\n{table}" if table else ""


def _fields(reference: str, document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, str, bool]]:
    """Yield the fields of a body, and of the objects in it."""
    body = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
    for name, field in body["properties"].items():
        yield f"`{prefix}{name}` (body)", field, field.get("description", ""), name in body.get("required", ())
        if "$ref" in field:
            yield from _fields(field["$ref"], document, f"{prefix}{name}.")


def _json_default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    return "" if value in (None, "", {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _answer(operation: Mapping[str, Any]) -> str:
    for status, response in operation["responses"].items():
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        if "$ref" in schema:
            return f"\nAnswers {status} with a `{schema['$ref'].rsplit('/', 1)[1]}`.\n"
        if "text/event-stream" in response.get("content", {}):
            return f"\nAnswers {status} with a stream. {response['description']}.\n"
        if "application/x-ndjson" in response.get("content", {}):
            return f"\nAnswers {status} with a `VerificationView` on each line, as it goes on.\n"
    return "\nAnswers 200 with the file.\n"


def masked_messages_page() -> str:
    """Return every body of a masked round, field by field."""
    text = _MASKED
    for title, modules in _MASKED_PARTS.items():
        text += f"\n## {title}\n"
        for body in _bodies(modules):
            what, _, rest = inspect.cleandoc(body.__doc__ or "").partition("\n\n")
            said = dict(_attributes(rest))
            rows = "".join(f"| `{name}` | {_form(form)} | {said.get(name, '')} |\n" for name, form in layout(body))
            text += f"\n### {body.kind}\n\n`{body.__name__}`. {' '.join(what.split())}\n\n"
            text += f"| field | form | what it is |\n| --- | --- | --- |\n{rows}"
    return text


def _bodies(modules: tuple[ModuleType, ...]) -> Iterator[type[Body]]:
    for module in modules:
        for body in vars(module).values():
            if isinstance(body, type) and issubclass(body, Body) and body.__module__ == module.__name__:
                yield body


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and description of each attribute of a docstring; one line may have several."""
    flat = " ".join(text.removeprefix("Attributes:").split())
    found = list(re.finditer(r"(?:^|(?<=[.] ))([a-z_0-9]+(?:, [a-z_0-9]+)*): ", flat))
    ends = [one.start() for one in found[1:]] + [len(flat)]
    for one, end in zip(found, ends, strict=False):
        for name in one[1].split(", "):
            yield name, flat[one.end() : end].strip().replace("|", chr(92) + "|")


def _form(form: Form) -> str:
    match form:
        case Unsigned(width, least, most):
            bounds = f", {least or 0} to {most}" if most is not None else f", at least {least}" if least else ""
            return f"u{8 * width}{bounds}"
        case Real():
            return "f64"
        case Exactly(size):
            return f"{size} bytes"
        case UpTo(size):
            return f"up to {size:,} bytes"
        case Text(size):
            return f"text, up to {size} bytes"
        case OneOf(words):
            return "one of " + ", ".join(f"`{word}`" for word in words)
        case Many(item, most, least):
            return f"{least} to {most:,} of: {_form(item)}"
        case Nested(body):
            return f"[{body.kind}](#{body.kind.replace(' ', '-')})"
        case _:
            raise TypeError(form)


def measured_page() -> str:
    """Return every metric of every process."""
    codes = ", ".join(f"`{code}`" for code in (*sorted(REASON_CODES), OTHER))
    text = f"{_METRICS}{codes}.\n"
    for role, registry in (("Reducer", ReducerMetrics().registry), ("Combiner", CombinerMetrics().registry)):
        measure_certificate(registry, datetime.now(UTC))
        measure_disk(registry, PAGES)
        text += f"\n## {role}\n\n| metric | kind | what it says |\n| --- | --- | --- |\n"
        ours = [family for family in registry.collect() if family.name.startswith("fedn_")]
        for family in sorted(ours, key=lambda one: one.name):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            text += f"| `{name}` | {family.type} | {family.documentation} |\n"
    return text


def pages() -> dict[str, str]:
    """Return file name to text of each page."""
    return {
        "settings.md": settings_page(),
        "cli.md": cli_page(),
        "rest-api.md": rest_page(),
        "masked-messages.md": masked_messages_page(),
        "metrics.md": measured_page(),
    }


def main() -> int:
    """Write the pages, or with ``--check`` tell which are stale."""
    stale = [name for name, text in pages().items() if not _is(PAGES / name, text)]
    if "--check" in sys.argv[1:]:
        sys.stderr.write("".join(f"docs/reference/{name} is stale: run python docs/generate.py\n" for name in stale))
        return len(stale)
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")
    return _fault_matrix()


def _fault_matrix() -> int:
    """Have the simulator write the fault matrix, which takes a minute; test/simulator checks that page."""
    root = PAGES.parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root / "test")}
    command = [sys.executable, "-m", "simulator.matrix_page"]
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode  # noqa: S603


def _is(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
