"""The form that starts a session: what it is filled with at first, what was typed, what is wrong, and its command.

What is right is decided by ``StartSession``, as for REST, and by the reducer; nothing is checked by another rule here.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from fedn_py.protocol.masked.options import LEAST_CLIENTS
from fedn_py.reducer.shown_network import StatusView
from fedn_py.web.problems import located
from fedn_py.web.schemas import MaskedTerms, StartSession, strict_json
from fedn_py.web.ui.session_fit import why_not_masked

_CHECKED = "on"
_MASKED = "masked."
_METRICS = f"{_MASKED}metrics"
_OPTIONS = {
    "package": "--package",
    "seed_model": "--model",
    "rounds": "--rounds",
    "name": "--name",
    "clients_wanted": "--clients-wanted",
    "clients_required": "--clients-required",
    "update_timeout_s": "--update-timeout",
    "validation_timeout_s": "--validation-timeout",
    "max_attempts": "--max-attempts",
    "retry_delay_s": "--retry-delay",
    "gather_timeout_s": "--gather-timeout",
    "masking": "--masking",
    "masked.clip": "--clip",
    "masked.n_max": "--n-max",
    "masked.weight_cap": "--weight-cap",
    "masked.weight_unit": "--weight-unit",
    "masked.k": "--slots",
    "masked.r": "--replicas",
    "masked.g_min": "--g-min",
    "masked.reopen": "--reopen",
}
"""Field to the option of ``fedn-py session start`` that takes the same value."""

LABELS = {
    "rounds": "Rounds",
    "name": "Name",
    "clients_wanted": "Wanted",
    "clients_required": "Required",
    "gather_timeout_s": "Gathering timeout, s",
    "update_timeout_s": "Update timeout, s",
    "max_attempts": "Attempts",
    "retry_delay_s": "Retry delay, s",
    "validation_timeout_s": "Validation timeout, s",
    "masked.k": "k, slots",
    "masked.r": "r, replicas",
    "masked.g_min": "g_min",
    "masked.n_max": "Largest cell",
    "masked.clip": "Clip",
    "masked.weight_cap": "Weight cap",
    "masked.weight_unit": "Weight unit",
    "package": "Compute package",
    "seed_model": "Seed model",
    "masked.reopen": "Reopen",
    "masked.metrics": "Metrics under the masks",
    "parameters": "Parameters, JSON",
    "validate": "Validation",
    "masking": "Masking",
}
"""Field to what people call it."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A form as somebody filled it in.

    Attributes:
        typed: field to text, as it is shown again.
        wrong: field to what is wrong with it.
        request: what it asks for; None where something is wrong.
    """

    typed: Mapping[str, str]
    wrong: Mapping[str, str] = field(default_factory=dict)
    request: StartSession | None = None

    def over(self, first: Mapping[str, str]) -> "Filled":
        """Return the same, with what an untouched form holds in fields that were not sent, as they were not shown."""
        unsent = {name: text for name, text in first.items() if name.startswith(_MASKED)}
        return replace(self, typed={**unsent, **self.typed})


def read_form(form: Mapping[str, str]) -> Filled:
    """Read what was typed; an empty field keeps its default."""
    typed = {name: text.strip() for name, text in form.items() if name != "csrf_token"}
    wrong: dict[str, str] = {}
    body: dict[str, Any] = {name: text for name, text in typed.items() if text and not name.startswith(_MASKED)}
    body["validate"] = typed.get("validate") == _CHECKED
    body["parameters"] = _parameters(typed.get("parameters", ""), wrong)
    if typed.get("masking", "none") != "none":
        terms = {name: text for name, text in typed.items() if text and name.startswith(_MASKED) and name != _METRICS}
        body["masked"] = {name.removeprefix(_MASKED): text for name, text in terms.items()}
        body["masked"]["metrics"] = dict(_bounds(typed.get(_METRICS, "")))
    request = None
    try:
        request = StartSession.model_validate(body)
    except ValidationError as invalid:
        for fault in located(invalid).faults:
            wrong.setdefault(_field_of(fault.where), fault.text)
    return Filled(typed, wrong, None if wrong else request)


def _field_of(where: str) -> str:
    return _METRICS if where.startswith(f"{_METRICS}.") else where


def _parameters(text: str, wrong: dict[str, str]) -> Mapping[str, Any]:
    try:
        found = strict_json(text) if text else {}
    except ValueError as fault:
        wrong["parameters"] = f"not JSON: {fault}"
        return {}
    if not isinstance(found, dict):
        wrong["parameters"] = 'must be a JSON object, such as {"epochs": 2}'
        return {}
    return found


def _bounds(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if line.strip():
            name, _, bound = line.rpartition("=")
            yield name.strip(), bound.strip()


# ---- what it is filled with at first


def first_values(network: StatusView, package: str, seed_model: str) -> dict[str, str]:
    """Return what an untouched form holds: the defaults, and what fits who is attached now."""
    masked = not why_not_masked(network)
    required = max(LEAST_CLIENTS if masked else 1, (network.clients + 1) // 2)
    fields = {one.alias or name: one.default for name, one in StartSession.model_fields.items()}
    plain = {name: _shown(default) for name, default in fields.items() if isinstance(default, int | float | str)}
    terms = {f"{_MASKED}{name}": _shown(one.default) for name, one in MaskedTerms.model_fields.items()}
    return {
        **plain,
        **{name: text for name, text in terms.items() if name != _METRICS},
        "validate": _CHECKED,
        "rounds": "5",
        "package": package,
        "seed_model": seed_model,
        "clients_required": str(required),
        "masking": "pet" if masked else "none",
        "parameters": "{}",
        _METRICS: "",
    }


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---- the same from a terminal


def as_body(request: StartSession) -> str:
    """Return the JSON that asks REST for the same, fit for a shell's single quotes."""
    told = request.model_dump(by_alias=True, exclude_defaults=True)
    return json.dumps(told).replace("'", "\\u0027")


def as_command(request: StartSession) -> str:
    """Return the command that asks for the same; what has its default is left out."""
    told = request.model_dump(by_alias=True, exclude_defaults=True)
    masked = told.pop("masked", {})
    words = ["fedn-py", "session", "start"]
    for name, value in (*told.items(), *((f"{_MASKED}{name}", value) for name, value in masked.items())):
        if name in _OPTIONS:
            words += [_OPTIONS[name], _shown(value)]
    if not request.validates:
        words.append("--no-validate")
    if request.parameters:
        words += ["--parameters", json.dumps(request.parameters)]
    for name, bound in request.masked.metrics.items():
        words += ["--metric", f"{name}={bound:g}"]
    return shlex.join(words)
