"""How a session that somebody is about to start fits who is attached now, in words."""

from collections.abc import Iterator, Mapping

from fedn_py.protocol.masked.committee import seats_needed
from fedn_py.protocol.masked.options import LEAST_CLIENTS
from fedn_py.reducer.masked_sessions import LEAST_SLOTS
from fedn_py.reducer.shown_network import CombinerView, StatusView
from fedn_py.web.ui.words import plural

_MOST_DIGITS = 9


def why_not_masked(network: StatusView) -> str:
    """Return why masked rounds could not be run now; empty where they could."""
    if not network.masks:
        return "no operator has certified this reducer (fedn-py operator init, policy and certify)"
    if network.clients < LEAST_CLIENTS:
        have = f"{plural(network.clients, 'client')} {_are(network.clients)} attached"
        return f"a sum hides a client among {LEAST_CLIENTS} and more, and {have}"
    return ""


def who_is_moved(combiners: tuple[CombinerView, ...]) -> str:
    """Return whom the reducer sends to another combiner for masked rounds; empty where all can stay."""
    there = sorted((one for one in combiners if one.connected and one.clients), key=lambda one: (one.clients, one.name))
    # The largest cell takes the others, even where it is too small itself.
    small = [one for one in there[:-1] if one.clients < LEAST_CLIENTS]
    if not small:
        return ""
    whose = ", ".join(f"{plural(one.clients, 'client')} of {one.name}" for one in small)
    return (
        f"For masked rounds, {whose} will be sent to a larger cell: one of fewer than {LEAST_CLIENTS} hides nobody. "
        "Whom no other combiner has room for sits out."
    )


def notes_on(typed: Mapping[str, str], network: StatusView) -> dict[str, str]:
    """Return, by field, what will follow from what was typed while so many clients are attached."""
    notes = " ".join(_on_required(typed, network.clients))
    return {"clients_required": notes} if notes else {}


def _on_required(typed: Mapping[str, str], attached: int) -> Iterator[str]:
    required = _whole(typed, "clients_required", 1)
    if typed.get("masking", "none") != "none":
        k, r = _whole(typed, "masked.k", LEAST_SLOTS), _whole(typed, "masked.r", 1)
        least = max(LEAST_CLIENTS, _whole(typed, "masked.g_min", 0), seats_needed(k, r))
        if required < least:
            yield f"Masking with these terms needs {least} and more: so many will be required."
            required = least
    if required > attached:
        yield f"{attached} {_are(attached)} attached: it will wait."


def _whole(typed: Mapping[str, str], name: str, default: int) -> int:
    """Return a whole number that was typed; the default for none, 0 and what is no such number."""
    text = typed.get(name, "")
    return (int(text) or default) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else default


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
