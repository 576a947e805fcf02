"""Values as people read them: durations, sizes, instants, digests."""

import json
import time
from datetime import UTC, datetime

from flask import Flask
from markupsafe import Markup

from fedn_py.runtime.passed_time import ago

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def duration(seconds: float | None) -> str:
    """Return a duration such as 350 ms, 4.2 s, 3 min 5 s or 2 h 10 min."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size(count: int | None) -> str:
    """Return a number of bytes with three digits: 1.21 MB."""
    if count is None:
        return ""
    value = float(count)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{count} bytes" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError("the last unit takes any size")


def for_now(since: float, now: float | None = None) -> str:
    """Return how long something that goes on has lasted."""
    seconds = round(max((time.time() if now is None else now) - since, 0.0))
    return f"{seconds} s" if seconds < 60 else duration(seconds)


def time_left(deadline: float, now: float | None = None) -> str:
    """Return how long it is until a deadline, in whole seconds; nothing is left behind it."""
    return for_now(time.time() if now is None else now, deadline)


def moment(instant: float | None) -> Markup:
    """Return an instant as a <time>, in UTC; a script shows it in the reader's own zone."""
    if instant is None:
        return Markup("")
    at = datetime.fromtimestamp(instant, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="seconds"), f"{at:%Y-%m-%d %H:%M:%S} UTC"
    )


def short(digest: str | None) -> str:
    """Return the first twelve digits of a digest."""
    return (digest or "")[:12]


def number(value: float | None) -> str:
    """Return a number with four digits at most behind the point, and whole ones in groups."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:,.4f}".rstrip("0").rstrip(".")


def plural(count: int, one: str, many: str = "") -> str:
    """Return "1 client", "2 clients"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def as_json(value: object) -> str:
    """Return JSON for an attribute of an element, which Jinja escapes."""
    return json.dumps(value, separators=(",", ":"), default=str)


def install(app: Flask) -> None:
    """Give templates these words as filters."""
    for word in (duration, size, ago, for_now, time_left, moment, short, number, plural, as_json):
        app.add_template_filter(word, word.__name__)
