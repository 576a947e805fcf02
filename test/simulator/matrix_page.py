"""Writes docs/reference/fault-matrix.md from what the simulator counts in the runs of the test suite.

PYTHONPATH=test python -m simulator.matrix_page
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from simulator.matrix import OUTCOMES, PHASES, ROWS
from simulator.swarm import SUITE, Swarm, run_swarms

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "fault-matrix.md"

_NAMES = {
    "I": "idle",
    "S": "sum",
    "U": "update",
    "C": "commit",
    "2": "sum2",
    "M": "unmask and commit",
    "V": "validate",
}
_HEAD = """# Fault matrix

<!-- Written by docs/generate.py from the simulator's counters; run it again rather than edit this page. -->

What became of attempts and sessions that a fault has struck, by the phase in which it struck. The counts are those of
the runs that are part of `make test`: the machines of all roles on virtual time, with every kind of fault at rates that
each run draws for itself, so that an attempt is often struck by several. In all of them every invariant of
[the simulator](../../test/simulator/fences.py) held: one model for each round, an unbroken trail, nothing lost that
was told.

"""


def page(swarms: Mapping[str, Swarm]) -> str:
    """Return the page."""
    letters = "\n".join(f"- **{letter}**: {what}" for letter, what in OUTCOMES.items())
    return _HEAD + letters + "\n" + "".join(_table(name, swarm) for name, swarm in swarms.items())


def _table(name: str, swarm: Swarm) -> str:
    phases = PHASES[name]
    runs = sum(swarm.ends.values())
    ends = ", ".join(f"{count} {end}" for end, count in sorted(swarm.ends.items()))
    lines = [f"\n## {name.capitalize()} rounds\n", f"{runs} runs; how their last sessions ended: {ends}.\n"]
    lines.append("| fault | " + " | ".join(_NAMES[phase] for phase in phases) + " |")
    lines.append("| --- |" + " --- |" * len(phases))
    for row in ROWS:
        cells = [_cell(swarm, row, phase) for phase in phases]
        if any(cells):
            lines.append(f"| {row} | " + " | ".join(cell or "-" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(swarm: Swarm, row: str, phase: str) -> str:
    counts = ((letter, swarm.cells[row, phase, letter]) for letter in OUTCOMES)
    return ", ".join(f"{letter} {count}" for letter, count in counts if count)


def main() -> int:
    """Write the page, unless a rule was broken."""
    swarms = run_swarms(SUITE)
    if any(swarm.broken for swarm in swarms.values()):
        sys.stderr.write("The simulator found a broken rule: see make swarm. The fault matrix is not written.\n")
        return 1
    PAGE.write_text(page(swarms), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
