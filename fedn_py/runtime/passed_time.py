"""How long ago something was, as people say it."""

import time

_STEPS = ((86_400.0, "day"), (3_600.0, "hour"), (60.0, "minute"), (1.0, "second"))


def ago(instant: float | None, now: float | None = None) -> str:
    """Return how long ago an instant in seconds since 1970 was: "4 minutes ago"."""
    if instant is None:
        return "never"
    passed = (time.time() if now is None else now) - instant
    for length, name in _STEPS:
        if passed >= length:
            count = int(passed // length)
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "now"
