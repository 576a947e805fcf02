"""The form that changes a session's limits while it is under way, checked by what REST checks with."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from fedn_py.reducer.shown_sessions import SessionView
from fedn_py.web.problems import located
from fedn_py.web.schemas import ChangeSession


@dataclass(frozen=True, slots=True)
class Limit:
    """One field.

    Attributes:
        label: what people call it; option: what the command does.
        least: its smallest value, as HTML has it.
        step: "1" for whole numbers, else "any".
    """

    name: str
    label: str
    option: str
    least: str = "1"
    step: str = "1"


LIMITS = (
    Limit("rounds", "Rounds", "--rounds"),
    Limit("clients_wanted", "Clients wanted (0: all)", "--clients-wanted", "0"),
    Limit("clients_required", "Clients required", "--clients-required"),
    Limit("update_timeout_s", "Update timeout, s", "--update-timeout", "0.001", "any"),
    Limit("validation_timeout_s", "Validation timeout, s", "--validation-timeout", "0.001", "any"),
    Limit("gather_timeout_s", "Gathering timeout, s", "--gather-timeout", "0", "any"),
    Limit("max_attempts", "Attempts", "--max-attempts"),
    Limit("retry_delay_s", "Retry delay, s", "--retry-delay", "0", "any"),
)


@dataclass(frozen=True, slots=True)
class Changing:
    """The form as somebody filled it in, what is wrong with it, and what it asks for; see ``session_form.Filled``."""

    typed: Mapping[str, str]
    wrong: Mapping[str, str] = field(default_factory=dict)
    request: ChangeSession | None = None

    @staticmethod
    def of(view: SessionView) -> "Changing":
        """Return the form with what a session has now."""
        return read_changes({one.name: f"{getattr(view.options, one.name):g}" for one in LIMITS})


def read_changes(form: Mapping[str, str]) -> Changing:
    """Read what was typed; whether the session can have it is the reducer's to say."""
    typed = {one.name: form.get(one.name, "").strip() for one in LIMITS}
    try:
        request = ChangeSession.model_validate({name: text for name, text in typed.items() if text})
    except ValidationError as invalid:
        return Changing(typed, {fault.where: fault.text for fault in located(invalid).faults})
    return Changing(typed, request=request)


def as_command(view: SessionView, changing: Changing) -> str:
    """Return the command that asks for the same."""
    words = ["fedn-py", "session", "change", view.name]
    for one in LIMITS:
        if changing.typed[one.name]:
            words += [one.option, changing.typed[one.name]]
    return shlex.join(words)


def as_body(changing: Changing) -> str:
    """Return the JSON that asks REST for the same."""
    return json.dumps(changing.request.model_dump(exclude_none=True)) if changing.request is not None else "{}"
