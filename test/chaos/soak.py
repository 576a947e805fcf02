"""Masked rounds for a long time, with faults at random: make soak ROUNDS=200, make soak ROUNDS=200 ARGS="--seed 7".

The stores are the embedded ones, so that rounds are fast however many there were. The reducer and combiner-1 are killed
in the first quarter alone, and the clients up to LIVE never, so that there are processes whose memory can be followed;
all others are killed at any time.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from chaos.links import BLACK_HOLE, FINE, Weather
from chaos.network import SMALL, ChaosNetwork
from chaos.samples import Sample, rows, sampled, table
from chaos.verdict import faults_of_session

from fedn_py.api.faults import ReducerUnreachable, RemoteRefusal
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView

CLIENTS, LIVE = 6, 4
SAMPLE_EVERY = 10
FAULT_IN_A_ROUND = 0.15
STUCK_S = 600.0
_LOOK_EVERY_S = 0.2


class Stuck(AssertionError):
    """No round was committed for a long time."""


class Faults:
    """Does something to the network now and then, by a seed."""

    def __init__(self, network: ChaosNetwork, seed: int) -> None:
        self._network = network
        self._chance = random.Random(seed)
        self.done: Counter[str] = Counter()

    def perhaps(self, *, early: bool) -> None:
        """Do something, or nothing, behind a round; ``early``: in the first quarter."""
        if self._chance.random() >= FAULT_IN_A_ROUND:
            return
        name, fault = self._chance.choice([*self._any_time(), *(self._early() if early else ())])
        self.done[name] += 1
        fault()

    def _any_time(self) -> list[tuple[str, Callable[[], None]]]:
        spare = [f"client-{number}" for number in range(LIVE + 1, CLIENTS + 1)]
        links = ["combiner-1", "combiner-2", "combiner-1 to reducer", "combiner-2 to reducer", "clients to reducer"]
        return [
            ("client killed", lambda: self._killed(self._chance.choice(spare))),
            ("combiner killed", lambda: self._killed("combiner-2")),
            ("link cut", lambda: self._network.links.cut(self._chance.choice(links))),
            ("upload cut", lambda: self._for_a_while("far to combiner-2", Weather(cut_after=(2_000,)))),
            ("black hole", lambda: self._for_a_while(self._chance.choice(links), BLACK_HOLE)),
            ("latency", lambda: self._for_a_while(self._chance.choice(links), Weather(latency_s=0.2))),
        ]

    def _early(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("reducer killed", lambda: self._killed("reducer")),
            ("combiner killed", lambda: self._killed("combiner-1")),
        ]

    def _killed(self, name: str) -> None:
        self._network.crew.kill(name)
        self._network.crew.restart(name)

    def _for_a_while(self, link: str, weather: Weather) -> None:
        self._network.links.become(link, weather)
        time.sleep(self._chance.uniform(0.5, 2.0))
        self._network.links.become(link, FINE)


class Soak:
    """One run.

    Attributes:
        samples: of each process, one for each time that all were sampled.
        resumed: why the session had to be resumed, as its operator would.
    """

    def __init__(self, network: ChaosNetwork, rounds: int, seed: int) -> None:
        self._network, self._rounds = network, rounds
        self.faults = Faults(network, seed)
        self.samples: dict[str, list[Sample | None]] = defaultdict(list)
        self.resumed: Counter[str] = Counter()

    def run(self) -> list[str]:
        """Run to the end of the session; return what is wrong with it."""
        network = self._network
        package = network.uploaded_package()
        seed, seed_file = network.uploaded_seed(SMALL)
        options = SessionOptions(
            package=package,  # type: ignore[arg-type]
            seed_model=seed,  # type: ignore[arg-type]
            rounds=self._rounds,
            masking="pet",
            validate=False,
            update_timeout_s=20.0,
            retry_delay_s=0.5,
            gather_timeout_s=5.0,
            max_attempts=20,
        )
        session = network.network.start_session(options).id
        done, since = 0, time.monotonic()
        while (view := self._seen(session)) is None or view.status != "finished":
            if view is not None and view.rounds_done > done:
                done, since = view.rounds_done, time.monotonic()
                self._round_done(done)
            if view is not None and view.status == "failed":
                self.resumed[view.reason] += 1
                network.network.resume_session(session)
            if time.monotonic() - since > STUCK_S:
                raise Stuck(f"round {done + 1} is not done after {STUCK_S:g} s: {view}")
            time.sleep(_LOOK_EVERY_S)
        self._sample()
        return list(faults_of_session(network, session, seed_file))

    def _round_done(self, number: int) -> None:
        if number % SAMPLE_EVERY == 0:
            self._sample()
            sys.stderr.write(f"{number} rounds, {sum(self.faults.done.values())} faults\n")
        self.faults.perhaps(early=number < self._rounds // 4)

    def _sample(self) -> None:
        found = sampled(self._network)
        for role in ("reducer", "combiner", "client"):
            for name in self._network.crew.names(role):
                self.samples[name].append(found.get(name))

    def _seen(self, session: str) -> SessionView | None:
        try:
            return self._network.network.session(session)
        except (ReducerUnreachable, RemoteRefusal):
            return None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    said = parser.parse_args()
    folder, began = Path(tempfile.mkdtemp(prefix="soak-")), time.monotonic()
    network = ChaosNetwork(folder / "network", clients=CLIENTS, embedded=True)
    try:
        soak = Soak(network, said.rounds, said.seed)
        wrong = soak.run()
    except Stuck as fault:
        wrong = [str(fault)]
    finally:
        network.stop()
    judged = rows(soak.samples)
    wrong += [f"{row.name}: {fault}" for row in judged for fault in row.faults]
    wrong += [] if judged else ["no process lived long enough to be judged"]
    done = ", ".join(f"{name} {count}" for name, count in sorted(soak.faults.done.items()))
    resumed = ", ".join(f"{count} times for {why}" for why, count in soak.resumed.items()) or "never"
    lines = [table(judged), f"faults: {done}", f"resumed: {resumed}", *wrong]
    lines.append(f"{said.rounds} rounds in {time.monotonic() - began:.0f} s, {len(wrong)} faults found")
    if wrong:
        lines.append(f"logs in {folder}")
    else:
        shutil.rmtree(folder)
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
