"""Runs the trials of the table: make chaos, make chaos ARGS="--only NAME", make chaos ARGS="--list"."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from chaos.masked_trials import TRIALS as MASKED
from chaos.network import ChaosNetwork
from chaos.plain_trials import TRIALS as PLAIN
from chaos.playing import run
from chaos.standby_trials import TRIALS as STANDBY
from chaos.trial import Outcome, Trial

CLIENTS = 8
"""Two masked cells of four."""

TRIALS: tuple[Trial, ...] = (*PLAIN, *MASKED, *STANDBY)


class Course:
    """Runs one trial after another on one network, and on a new one where a trial went wrong."""

    def __init__(self, folder: Path, clients: int = CLIENTS) -> None:
        self._folder, self._clients = folder, clients
        self._networks = 0
        self._network: ChaosNetwork | None = None

    def run(self, trial: Trial) -> Outcome:
        """Run one trial."""
        if self._network is not None and trial.standby != (len(self._network.reducers) > 1):
            self.end()
        if self._network is None:
            self._networks += 1
            folder = self._folder / f"network-{self._networks}"
            self._network = ChaosNetwork(folder, clients=self._clients, standby=trial.standby)
        outcome = run(self._network, trial, self._folder)
        if outcome.faults:
            self.end()
        return outcome

    def end(self) -> None:
        """End the network."""
        if self._network is not None:
            self._network.stop()
            self._network = None


def told(trial: Trial, outcome: Outcome) -> str:
    """Say for people what was done and what came of it."""
    verdict = "FAILED" if outcome.faults else "passed"
    lines = [
        f"{verdict}  {trial.name}  ({outcome.seconds:.1f} s)",
        f"    done       {trial.does}",
        f"    recovered  {_recovered(outcome.recovered_s)}; {outcome.came}",
    ]
    lines += [f"    fault      {fault}" for fault in outcome.faults]
    if outcome.faults:
        lines.append(f"    history    {outcome.history}")
    return "\n".join(lines)


def _recovered(seconds: float | None) -> str:
    return "no commit came afterwards" if seconds is None else f"{seconds:.1f} s to the next commit"


def chosen(only: Iterable[str]) -> list[Trial]:
    """Return the trials whose names contain one of these, or all."""
    wanted = tuple(only)
    found = [trial for trial in TRIALS if not wanted or any(part in trial.name for part in wanted)]
    if not found:
        sys.exit(f"no trial is named like {', '.join(wanted)}; --list lists them")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="trials whose names contain this")
    parser.add_argument("--list", action="store_true", help="list the trials and what must hold")
    said = parser.parse_args()
    trials = chosen(said.only)
    if said.list:
        for trial in trials:
            sys.stdout.write(f"{trial.name}\n    {trial.does}\n    must: {trial.must}\n")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    course, failed, began = Course(folder), 0, time.monotonic()
    try:
        for trial in trials:
            outcome = course.run(trial)
            failed += bool(outcome.faults)
            sys.stdout.write(told(trial, outcome) + "\n")
            sys.stdout.flush()
    finally:
        course.end()
    if not failed:
        shutil.rmtree(folder)
    seconds = time.monotonic() - began
    sys.stdout.write(f"{len(trials) - failed} trials passed, {failed} failed, in {seconds:.0f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
