"""What a sandbox's session came to, for scripts."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionView


def summary_of(session: SessionView, rounds: Sequence[RoundView], timings: dict[str, float]) -> dict[str, Any]:
    """Return the summary of a session as a JSON object.

    Args:
        timings: seconds, by what they went into.
    """
    done = [one for one in rounds if one.model is not None]
    return {
        "session": session.id,
        "status": session.status,
        "package": session.options.package,
        "seed_model": session.options.seed_model,
        "masking": session.options.masking,
        "rounds": [
            {
                "number": one.number,
                "attempt": one.attempt,
                "seconds": round(one.seconds, 3),
                "clients": sorted(client.name for client in one.clients),
                "combiners": list(one.combiners),
                "samples": one.samples,
                "metrics": dict(one.metrics),
                "training_metrics": dict(one.training_metrics),
                "model": one.model,
                "masking": None if one.masking is None else asdict(one.masking),
            }
            for one in done
        ],
        "final_model": done[-1].model if done else None,
        "seconds": {name: round(value, 2) for name, value in timings.items()},
    }


def write_summary(file: Path, summary: dict[str, Any]) -> None:
    """Write the summary to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
