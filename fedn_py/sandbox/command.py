"""``fedn-py sandbox``: a whole network on this machine, from nothing to a trained model."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from fedn_py.api.network import Network
from fedn_py.client.package_learner import WARM_UP_METRIC
from fedn_py.errors import OwnFault
from fedn_py.execution.packing import create_package
from fedn_py.identity import Digest
from fedn_py.protocol.masked.committee import FEWEST_IN_CELL
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.sandbox.dealing import deal
from fedn_py.sandbox.desk import Desk, desk_place
from fedn_py.sandbox.fleet import Fleet, environment
from fedn_py.sandbox.folder import Ports, SandboxFolder, Where
from fedn_py.sandbox.options import SandboxOptions
from fedn_py.sandbox.processes import Children
from fedn_py.sandbox.reaching import reached
from fedn_py.sandbox.screen import Screen
from fedn_py.sandbox.seeding import make_seed
from fedn_py.sandbox.stopping import Stopped, stoppable
from fedn_py.sandbox.summary import summary_of, write_summary

Found = TypeVar("Found")

_LOOK_EVERY_S = 0.2
_ROUNDS_SHOWN = 15
_UP_WITHIN_S = 120.0
_UNDER_WAY = frozenset({"running", "waiting", "paused", "failed"})
_SUMMED = {WARM_UP_METRIC: 600.0}
"""Metrics of training that are summed under the masks, and their bounds."""


class SandboxFailed(OwnFault):
    """The sandbox did not get to where it was asked to."""


def run_sandbox(options: SandboxOptions, console: Console) -> None:
    """Start a network, train, and wait for Ctrl-C, or end with the session.

    Raises:
        ProcessEnded, NotUp, SandboxFailed, SandboxInUse: with what to do.
        FednError: of the project, the package or the stores.
    """
    with stoppable():
        sandbox = Sandbox(options, console)
        with sandbox.folder.held():
            try:
                sandbox.run()
            except Stopped:
                console.print("\nstopping ...", highlight=False)
            finally:
                sandbox.stop()
    console.print("All processes have ended. Start again with the same state: the same command.", highlight=False)


class Sandbox:
    """One run of a sandbox.

    Attributes:
        folder: of its state.
    """

    def __init__(self, options: SandboxOptions, console: Console) -> None:
        self._options = options
        self._console = console
        self.folder = SandboxFolder(options.dir)
        self._children = Children()
        self._began = time.monotonic()
        self._timings: dict[str, float] = {}

    def run(self) -> None:
        """Do everything that the options ask for."""
        options = self._options
        _check(options)
        with desk_place(self.folder) as place:
            network, desk = self._start_network(place)
            try:
                if options.session:
                    self._train(network)
                else:
                    self._say("next          open the web pages by the link above: they take it from here")
                if not options.exit_when_done:
                    self._say("Ctrl-C ends all processes.")
                    while True:
                        self._tell_lost()
                        time.sleep(1.0)
            finally:
                desk.close()

    def stop(self) -> None:
        """End all processes."""
        self._children.stop()

    # ---- starting

    def _start_network(self, place: Path) -> tuple[Network, Desk]:
        options = self._options
        ports = self.folder.choose_ports(options.combiners, options.port)
        self._say(f"sandbox in {self.folder.path}: everything stays on this machine; not for production")
        self._say(f"operator      its key is in {self.folder.operator.key}; a real network keeps it off the servers")
        network = self._start_reducer(ports, place)
        self._say(f"reducer       https://localhost:{ports.web}   (gRPC localhost:{ports.grpc})")
        self._say(f"web pages     {network.sign_in_link()}   (signs you in, once)")
        fleet = Fleet(self.folder, self._children, options, ports, network)
        for number in range(1, options.combiners + 1):
            fleet.start_combiner(number)
        data = deal(self.folder, options.project_folder(), options.clients, options.split)
        # All combiners first: the earliest clients would all go to the first of them otherwise.
        self._await_count("combiners", options.combiners, lambda: network.status().combiners)
        for number, part in enumerate(data, start=1):
            fleet.start_client(number, part)
        self._await_count("clients", options.clients, lambda: network.status().clients)
        self._timings["network_up"] = time.monotonic() - self._began
        self._say(
            f"network       {options.combiners} combiners and {options.clients} clients attached after "
            f"{self._timings['network_up']:.1f} s, the imports of their processes included"
        )
        desk = Desk(place, self.folder, self._children, fleet, network)
        desk.open()
        return network, desk

    def _start_reducer(self, ports: Ports, desk: Path) -> Network:
        options, folder = self._options, self.folder
        where = Where(options.mongodb, options.minio)
        names = [f"combiner-{number}" for number in range(1, options.combiners + 1)]
        folder.write_certificates(["reducer", *names])
        folder.write_operator(["reducer", *names])
        folder.write_reducer(ports, where, desk)
        self._children.start(
            "reducer", "reducer", folder.settings("reducer"), folder.log("reducer"), environment(stores=True)
        )
        folder.write_profile(ports)
        return self._await("the reducer", lambda: reached(self.folder))

    def _await_count(self, what: str, wanted: int, count: Callable[[], int]) -> None:
        self._await(f"{wanted} {what}", lambda: True if count() >= wanted else None)

    def _await(self, what: str, look: Callable[[], Found | None]) -> Found:
        return self._children.awaited(what, look, within_s=_UP_WITHIN_S, every_s=_LOOK_EVERY_S)

    # ---- the session

    def _train(self, network: Network) -> None:
        session = self._session(network, self._options.project_folder())
        self._tell_end(network, self._watch(network, session))

    def _session(self, network: Network, project: Path) -> SessionView:
        """Go on with the session under way, or start one, from the newest model of the same package if there is one."""
        sessions = network.sessions()
        under_way = next((one for one in sessions if one.status in _UNDER_WAY), None)
        with tempfile.TemporaryDirectory(dir=self.folder.path) as scratch:
            archive = Path(scratch) / "package.tar.gz"
            digest = create_package(project, archive)
            if under_way is not None and self._options.new_session:
                self._say(f"session       {under_way.name} is stopped after {under_way.rounds_done} rounds")
                network.stop_session(under_way.id)
            elif under_way is not None:
                return self._gone_on_with(network, under_way, digest)
            package = network.upload_package(archive)
            self._say(f"package       {package.name} {package.version}, {package.size:,} bytes, {digest[:12]}")
            before = next((one for one in sessions if one.options.package == digest and one.final_model), None)
            if before is not None and before.final_model is not None:
                seed = before.final_model
                self._say(f"seed model    the last model of {before.name}, {seed[:12]}")
            else:
                seed = self._seed_model(network, archive, Path(scratch))
        return network.start_session(
            SessionOptions(
                package=digest,
                seed_model=seed,
                rounds=self._options.rounds,
                clients_required=max(_fewest(self._options), self._options.clients // 2),
                masking=self._options.masking,
                masked=MaskedOptions(metrics=_SUMMED if self._options.masking == "pet" else {}),
            )
        )

    def _gone_on_with(self, network: Network, under_way: SessionView, package: Digest) -> SessionView:
        """Go on with a session, which keeps to what it was started with."""
        if under_way.options.package != package:
            raise SandboxFailed(
                f"{under_way.name} is under way here with another package, after {under_way.rounds_done} of "
                f"{under_way.rounds_wanted} rounds",
                remedy="Add --new-session to stop it and begin one with this project; or choose another --dir.",
            )
        self._say(f"session       {under_way.name} goes on after {under_way.rounds_done} rounds")
        if under_way.rounds_wanted != self._options.rounds:
            self._say(f"              to its own {under_way.rounds_wanted} rounds (--new-session begins another one)")
        return network.resume_session(under_way.id) if under_way.status in {"paused", "failed"} else under_way

    def _seed_model(self, network: Network, archive: Path, scratch: Path) -> Digest:
        file = asyncio.run(make_seed(archive, scratch))
        model = network.upload_seed_model(file)
        self._say(f"seed model    {model.size:,} bytes, made by the package, {model.digest[:12]}")
        return model.digest

    def _watch(self, network: Network, session: SessionView) -> SessionView:
        began, before = time.monotonic(), session.rounds_done
        with Screen(self._console) as screen:
            while True:
                self._tell_lost()
                view = network.session(session.id)
                rounds = network.rounds(session.id, after=max(before, view.rounds_done - _ROUNDS_SHOWN))
                screen.show(view, rounds)
                if view.rounds_done > before and "first_round" not in self._timings:
                    self._timings["first_round"] = time.monotonic() - began
                    self._timings["package_imports"] = rounds[0].training_metrics.get("worker_start_s", 0.0)
                if view.status in {"finished", "stopped", "failed"}:
                    self._timings["session"] = time.monotonic() - began
                    return view
                time.sleep(_LOOK_EVERY_S)

    def _tell_lost(self) -> None:
        for told in self._children.newly_lost():
            self._say(told)

    def _tell_end(self, network: Network, session: SessionView) -> None:
        rounds = network.rounds(session.id)
        if self._options.summary is not None:
            write_summary(self._options.summary, summary_of(session, rounds, self._timings))
        if session.status != "finished":
            raise SandboxFailed(
                f"the session {session.status}: {session.reason}",
                remedy="fedn-py event list says what happened; start the sandbox again to go on.",
            )
        if "first_round" in self._timings:
            self._say(
                f"first round   committed {self._timings['first_round']:.1f} s after the session began, of which "
                f"{self._timings['package_imports']:.1f} s were the package's own imports (mean over clients)"
            )
        if session.final_model is not None:
            self._say(f"final model   {session.final_model}")
            profile = f" --profile {self.folder.profile}" if self._options.dir != SandboxOptions().dir else ""
            if not self._options.exit_when_done:
                self._say(f"next          {_typed()} model download --out model.safetensors{profile}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def _fewest(options: SandboxOptions) -> int:
    """Return how many clients a round needs at least."""
    return 1 if options.masking == "none" else FEWEST_IN_CELL


def _check(options: SandboxOptions) -> None:
    """Raise SandboxFailed for a sandbox that could never do what it is asked to."""
    if not options.session and options.exit_when_done:
        raise SandboxFailed(
            "without a session there is none to end with", remedy="Leave out either --no-session or --exit."
        )
    if options.session and options.clients < _fewest(options):
        raise SandboxFailed(
            f"{options.clients} clients cannot hide one among them: masked rounds need {FEWEST_IN_CELL} and more",
            remedy="Add --masking none, or more --clients.",
        )


def _typed() -> str:
    """Return how the command line is typed here: by its name where a shell finds it, else by its path."""
    script = Path(sys.executable).with_name("fedn-py")
    return "fedn-py" if shutil.which("fedn-py") or not script.exists() else os.path.relpath(script)
