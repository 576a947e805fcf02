"""What is told of the privacy of a masked session and of one that is not."""

from typing import Any

from fedn_py.identity import SessionId
from fedn_py.reducer.privacy_masked import masked_assumptions, masked_rows
from fedn_py.reducer.privacy_plain import plain_assumptions, plain_rows
from fedn_py.reducer.privacy_words import PrivacyView, Setting

MASKED = Setting("pet", True, 2, 1, 3, "reducer", 64, 1, ("loss",))
PLAIN = Setting("none", True)


def a_view(setting: Setting) -> PrivacyView:
    """Return the view of a session with this setting."""
    masked = setting.scheme != "none"
    rows = masked_rows(setting) if masked else plain_rows(setting)
    rests = masked_assumptions(setting) if masked else plain_assumptions()
    told: dict[str, Any] = {name: getattr(setting, name) for name in ("k", "r", "g_min", "reopen", "n_max", "cells")}
    return PrivacyView(
        session=SessionId(f"{1:032x}"),
        name="digits",
        scheme=setting.scheme,
        metrics=setting.metrics,
        metrics_by_client=setting.by_client,
        round_number=1,
        generated_at=1.0,
        rows=tuple(rows),
        assumptions=tuple(rests),
        **told,
    )
