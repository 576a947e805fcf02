import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from fedn_py.runtime.logging import configure_logging, logger, redact, redact_text

TOKEN = "fedn1.0123456789abcdef." + "s" * 43


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_for_machines_is_one_json_object_with_the_fields_of_the_process() -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream, fields={"role": "combiner"})
    logger("fedn_py.combiner").info("update added", client="anna", samples=12)
    (line,) = lines(stream)
    assert line["event"] == "update added"
    assert line["role"] == "combiner"
    assert line["samples"] == 12
    assert line["level"] == "info"
    assert line["logger"] == "fedn_py.combiner"


def test_lines_of_other_libraries_look_the_same() -> None:
    stream = io.StringIO()
    configure_logging("json", "warning", stream=stream)
    logging.getLogger("library").warning("port %d is taken", 8090)
    logging.getLogger("library").info("not shown")
    assert [line["event"] for line in lines(stream)] == ["port 8090 is taken"]


def test_no_secret_reaches_a_line() -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    try:
        raise ValueError(f"refused {TOKEN}")
    except ValueError:
        logger("fedn_py").exception(
            f"with {TOKEN}",
            token=TOKEN,
            deep={"minio": [{"secret_key": "hunter2"}]},
            uri="mongodb://me:hunter2@host/db",
            blob=b"hunter2",
        )
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "sssss" not in text
    assert "fedn1.0123456789abcdef.****" in text


def test_the_public_half_of_a_token_stays() -> None:
    assert redact("0123456789abcdef", "token_id") == "0123456789abcdef"
    assert redact("0123456789abcdef", "token") == "0123456789abcdef"
    assert redact(TOKEN, "token") == "********"
    assert redact_text(f"Bearer {TOKEN}") == "Bearer fedn1.0123456789abcdef.********"
    assert redact_text("authorization: bearer abc.def") == "authorization: bearer ********"


def test_a_line_for_people_is_plain_text_where_no_terminal_is() -> None:
    stream = io.StringIO()
    configure_logging("console", stream=stream)
    logger("fedn_py").info("combiner joined", name="combiner-1")
    assert "combiner joined" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()
