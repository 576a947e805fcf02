"""A client that attaches as it should and says hundreds of wrong things, while four others train: they go on."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hostile_client import HostileClient
from running_network import UNEQUAL, RunningNetwork
from safetensors.numpy import save_file

from fedn_py.client.assemble import run_client
from fedn_py.client.ports import Fetch, Learned, LearningTask
from fedn_py.client.state_folder import StateFolder
from fedn_py.package import load_model, save_model
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.settings import load_settings
from fedn_py.settings.roles import ClientSettings

HONEST, ROUNDS, PARAMETERS = 4, 4, 50
HOSTILE = HONEST + 1


@dataclass
class Site:
    """A learner that adds its own number to every parameter."""

    number: int

    async def train(self, base: Path, out_model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        model = load_model(base)
        model["weights"] = model["weights"] + np.float32(self.number / 10)
        save_model(out_model, model)
        return Learned(10, {})

    async def validate(self, model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        return Learned(10, {})

    async def close(self) -> None:
        pass


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, None]) -> "Future[None]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


def client_settings(network: RunningNetwork, number: int) -> ClientSettings:
    name = network.folder.write_client(number, network.ports, network.folder.path, None)
    network.folder.write_token(name, network.network.create_token("client", name)[0])
    file = network.folder.settings(name)
    settings = yaml.safe_load(file.read_text())
    del settings["data_path"]
    file.write_text(yaml.safe_dump(settings))
    return load_settings(ClientSettings, file, {})


def test_a_session_goes_on_beside_a_client_that_says_nothing_but_wrong_things(
    start_network: Callable[..., RunningNetwork], tmp_path: Path
) -> None:
    network, stop = start_network(), asyncio.Event()
    network.start_combiner(1)
    network.await_combiners(1)
    with contextlib.ExitStack() as closing:
        loop = Loop()
        closing.callback(loop.close)
        honest = [
            loop.begin(run_client(client_settings(network, number), stop, Site(number)))
            for number in range(1, HONEST + 1)
        ]
        settings = client_settings(network, HOSTILE)
        folder = closing.enter_context(StateFolder(settings.state_dir))
        hostile = HostileClient(settings, folder, passed_on=4, looked_at=16)
        attacking = loop.begin(hostile.run())
        network.await_clients(HONEST + 1)
        package, _ = network.uploaded(UNEQUAL)
        save_file({"weights": np.zeros(PARAMETERS, np.float32)}, tmp_path / "seed.safetensors")
        seed = network.network.upload_seed_model(tmp_path / "seed.safetensors").digest

        ended = network.run_session(
            package,
            seed,
            rounds=ROUNDS,
            clients_required=3,
            clients_wanted=HONEST + 1,
            masking="pet",
            masked=MaskedOptions(clip=1.0),
            validate=False,
        )

        assert ended.status == "finished"
        assert not attacking.done(), attacking.exception()
        said = hostile.said
        assert said.rounds == ROUNDS
        assert sum(said.words.values()) >= 200
        assert {"MalformedMessage", "BadSignature", "DigestMismatch"} <= said.codes.keys()
        for done in network.network.rounds(ended.id):
            assert sorted(client.name for client in done.clients) == [f"client-{n}" for n in range(1, HONEST + 1)]
            assert [(one.name, one.reason.split(":")[0]) for one in done.excluded] == [
                (f"client-{HOSTILE}", "DigestMismatch")
            ]
        model = tmp_path / "model.safetensors"
        network.network.download_model(network.network.rounds(ended.id)[-1].model, model)
        mean = ROUNDS * sum(range(1, HONEST + 1)) / 10 / HONEST
        assert np.abs(load_model(model)["weights"] - mean).max() < 1e-3

        network.children.check()  # nobody has ended
        for name in ("reducer", "combiner-1"):
            assert "Traceback" not in network.folder.log(name).read_text()
        assert f"client=client-{HOSTILE}" in network.await_log("combiner-1", "a client's word is refused")
        network.await_event("word.refused", f"client-{HOSTILE}, through combiner-1,")

        attacking.cancel()
        loop._loop.call_soon_threadsafe(stop.set)
        for one in honest:
            one.result(30)
