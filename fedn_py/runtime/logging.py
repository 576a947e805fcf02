"""Logging of a process: one line per event on standard error, for people or for machines, without secrets.

Everything goes through the standard library's root logger, so that the lines of gRPC, uvicorn and the stores' drivers
look the same as ours. Secrets are taken out by the name of their field and by the form of their text.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog

STARS = "********"

_SECRET_NAMES = re.compile(r"(?i)(^|_)(token|secret|password|ticket|authorization|access_key|secret_key|private_key)$")
_TOKEN_ID = re.compile(r"[0-9a-f]{16}")
_TOKEN = re.compile(r"\bfedn1\.([0-9a-f]{16})\.[A-Za-z0-9_-]{20,}")
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]+@")
_BEARER = re.compile(r"(?i)\b(bearer)\s+(?!fedn1\.)[A-Za-z0-9._~+/=-]+")


def redact_text(text: str) -> str:
    """Return text with the secret half of tokens and the credentials in URLs replaced by stars."""
    text = _TOKEN.sub(rf"fedn1.\1.{STARS}", text)
    text = _CREDENTIALS.sub(rf"\1{STARS}@", text)
    return _BEARER.sub(rf"\1 {STARS}", text)


def redact(value: object, name: str = "") -> object:
    """Return a field's value without secrets, however deep it is nested."""
    if value is not None and _SECRET_NAMES.search(name):
        # A token's id says which token and proves nothing; people look for it in the log.
        return value if isinstance(value, str) and _TOKEN_ID.fullmatch(value) else STARS
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {key: redact(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact(inner) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, BaseException):
        return redact_text(f"{type(value).__name__}: {value}")
    return value


def _redact_event(_logger: object, _method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: value if name.startswith("_") else redact(value, name) for name, value in fields.items()}


def configure_logging(
    format: Literal["console", "json"] = "console",  # noqa: A002 - the settings' own word
    level: Literal["debug", "info", "warning", "error"] = "info",
    *,
    stream: TextIO | None = None,
    fields: Mapping[str, str] | None = None,
) -> None:
    """Set how this process logs; called once, at its start.

    Args:
        stream: where to; standard error by default.
        fields: what every line says, such as role and name.
    """
    out = stream or sys.stderr
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.stdlib.ExtraAdder(),
        _redact_event,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(default=str)
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for chatty in ("asyncio", "grpc", "pymongo", "urllib3", "uvicorn"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *chain,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**dict(fields or {}))


def logger(name: str) -> Any:
    """Return a logger by the name of the module that it speaks for; its methods take the event and named fields."""
    return structlog.get_logger(name)
