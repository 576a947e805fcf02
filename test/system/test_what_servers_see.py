"""Every byte that a server process receives or stores in a masked round, written down and searched.

The proxies end TLS and begin it again, so that what they write down is what the servers read. The clients run in this
process, so that their secrets are known here: a search that could not find anything would prove nothing, so the same
search finds what must be there, and what it holds opens with the secrets and with nothing else.
"""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml
from recording_proxy import Certificates, Recording, recording_proxy
from running_network import UNEQUAL, RunningNetwork
from safetensors.numpy import save_file
from servers.running import S3Server
from uniformity import looks_random

from fedn_py.client.assemble import run_client
from fedn_py.client.ports import Fetch, Learned, LearningTask
from fedn_py.client.secret_bytes import DrawnForUpload, SeatKeys
from fedn_py.masking.keystream import Keystream
from fedn_py.masking.pet import mask_key, seed_commitment
from fedn_py.package import load_model, save_model
from fedn_py.protocol.masked.issuing import next_policy, sign_policy
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.masked.round_messages import UpdateHeader
from fedn_py.protocol.masked.words import MaskedUpload
from fedn_py.runtime.credential_files import read_operator, read_policy, write_policy
from fedn_py.sandbox.folder import Where
from fedn_py.settings import load_settings
from fedn_py.settings.roles import ClientSettings
from fedn_py.wire.v1 import network_pb2

CLIENTS = 6
PARAMETERS = 20_000
CLIP, N_MAX, WEIGHT_CAP = 4.0, 64, 10_000
SAMPLES = 987_654_321_000
SECRET_METRIC = 0.123456789012345

Result = TypeVar("Result")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.begin(work).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


@dataclass
class Site:
    """A learner whose update is known: noise of its own kind, the same in each round."""

    number: int

    @property
    def update(self) -> np.ndarray:
        return np.random.default_rng(self.number).normal(0, 1, PARAMETERS).astype(np.float32)

    @property
    def samples(self) -> int:
        return SAMPLES + self.number

    async def train(self, base: Path, out_model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        model = load_model(base)
        model["weights"] = model["weights"] + self.update
        save_model(out_model, model)
        return Learned(self.samples, {"secret": SECRET_METRIC + self.number})

    async def validate(self, model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        return Learned(self.samples, {"secret": SECRET_METRIC + self.number})

    async def close(self) -> None:
        pass


@dataclass
class Secrets:
    """What the clients drew and must tell nobody."""

    seeds: list[bytes] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)

    def all(self) -> list[bytes]:
        return [*self.seeds, *self.others]


@pytest.fixture
def secrets_drawn(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    drawn, fresh = Secrets(), DrawnForUpload.fresh

    def noted_upload(slots: int, members: int) -> DrawnForUpload:
        made = fresh(slots, members)
        drawn.seeds += [bytes(seed) for seed in made.seeds]
        drawn.others += [bytes(made.rounding), *(bytes(one) for one in made.ephemeral)]
        return made

    def noted_keys() -> SeatKeys:
        made = SeatKeys()
        drawn.others.append(bytes(made.esk))  # the nonce is revealed with the answer
        return made

    monkeypatch.setattr(DrawnForUpload, "fresh", staticmethod(noted_upload))
    monkeypatch.setattr("fedn_py.client.seats.SeatKeys", noted_keys)
    return drawn


@dataclass
class Recorded:
    """A network whose servers' bytes are written down."""

    network: RunningNetwork
    combiners: list[Recording]
    others: dict[str, Recording]
    loop: Loop

    def uploads(self) -> list[tuple[MaskedUpload, bytes]]:
        """Return what was uploaded to combiners: the masked upload and its bytes."""
        found = []
        for recording in self.combiners:
            for content in recording.received_messages():
                parts = [network_pb2.UpdatePart.FromString(one) for one in grpc_messages(content, "update")]
                if parts and parts[0].WhichOneof("part") == "start" and parts[0].start.header.HasField("masked"):
                    upload = MaskedUpload.decode(parts[0].start.header.masked)
                    found.append((upload, b"".join(part.chunk for part in parts[1:])))
        return found

    def everything(self) -> dict[str, bytes]:
        """Return all bytes of each server, and what they left on their disks."""
        seen = {f"combiner-{n}": one.everything() for n, one in enumerate(self.combiners, start=1)}
        seen |= {name: one.everything() for name, one in self.others.items()}
        state = self.network.folder.path
        for name in ("reducer", "combiner-1", "combiner-2"):
            files = [*self.network.folder.state(name).rglob("*"), self.network.folder.log(name)]
            seen[f"disk of {name}"] = b"\n".join(file.read_bytes() for file in files if file.is_file())
        assert state.exists()
        return seen


def grpc_messages(content: bytes, kind: str) -> list[bytes]:
    """Return the messages of one call; none for a stream that is not made of this kind."""
    messages, at = [], 0
    while at + 5 <= len(content):
        size = int.from_bytes(content[at + 1 : at + 5], "big")
        messages.append(content[at + 5 : at + 5 + size])
        at += 5 + size
    if kind == "update" and messages:
        with contextlib.suppress(Exception):
            first = network_pb2.UpdatePart.FromString(messages[0])
            if first.WhichOneof("part") == "start" and len(first.start.header.sha256) == 32:
                return messages
    return []


@pytest.fixture
def recorded(
    tmp_path: Path, start_network: Callable[..., RunningNetwork], mongodb_uri: str, minio_server: S3Server
) -> Iterator[Recorded]:
    loop = Loop()
    with contextlib.ExitStack() as closing:
        closing.callback(loop.close)

        def proxied(port: int, certificates: Certificates | None = None) -> tuple[int, Recording]:
            manager = recording_proxy(port, certificates)
            entered = loop.do(manager.__aenter__())
            closing.callback(lambda: loop.do(manager.__aexit__(None, None, None)))
            return entered

        mongodb_port, of_mongodb = proxied(port_of(mongodb_uri))
        minio_port, of_minio = proxied(port_of(minio_server.url))
        where = Where(f"mongodb://127.0.0.1:{mongodb_port}/", f"http://127.0.0.1:{minio_port}")
        keys = {"FEDN_MINIO_ACCESS_KEY": minio_server.access_key, "FEDN_MINIO_SECRET_KEY": minio_server.secret_key}
        network = start_network(combiners=2, where=where, **keys)
        closing.callback(network.stop)
        certificates = Certificates(
            network.folder.certificates / "reducer.pem",
            network.folder.certificates / "reducer.key",
            network.folder.authority_file,
        )
        reducer_port, of_reducer = proxied(network.ports.grpc, certificates)
        combiners = []
        for number in (1, 2):
            port, recording = proxied(network.ports.combiners[number - 1], certificates)
            network.start_combiner(number, advertise=f"localhost:{port}", reducer=f"localhost:{reducer_port}")
            combiners.append(recording)
        network.await_combiners(2)
        others = {"reducer": of_reducer, "MongoDB": of_mongodb, "MinIO": of_minio}
        stop = asyncio.Event()
        running = [
            loop.begin(run_client(client_settings(network, number, reducer_port), stop, Site(number)))
            for number in range(1, CLIENTS + 1)
        ]
        network.await_clients(CLIENTS)
        yield Recorded(network, combiners, others, loop)
        loop._loop.call_soon_threadsafe(stop.set)
        for one in running:
            one.result(30)


def port_of(uri: str) -> int:
    port = urlsplit(uri).port
    assert port is not None
    return port


def client_settings(network: RunningNetwork, number: int, reducer_port: int) -> ClientSettings:
    name = network.folder.write_client(number, network.ports, network.folder.path, None)
    network.folder.write_token(name, network.network.create_token("client", name)[0])
    file = network.folder.settings(name)
    settings = {**yaml.safe_load(file.read_text()), "reducer": f"localhost:{reducer_port}"}
    del settings["data_path"]
    file.write_text(yaml.safe_dump(settings))
    return load_settings(ClientSettings, file, {})


def let_metrics_go_in_sums_only(network: RunningNetwork) -> None:
    operator = read_operator(network.folder.operator.key)
    policy = network.folder.operator.policy
    stricter = replace(next_policy(operator, read_policy(policy)), metrics="sum")
    write_policy(policy, sign_policy(operator, stricter), replace=True)


def masks_of(upload: MaskedUpload, seeds: list[bytes], n_words: int) -> list[np.ndarray]:
    """Return the masks of an upload, found by the commitments that its header makes to its seeds."""
    header = UpdateHeader.decode(upload.header.body)
    masks = []
    for slot, commit in enumerate(header.seed_commits):
        (seed,) = (s for s in seeds if seed_commitment(header.ctx, header.client_id, slot, s) == commit)
        mask, stream = np.empty(n_words, np.uint32), Keystream(mask_key(header.ctx, header.client_id, slot, seed))
        for number, start in enumerate(range(0, n_words, 32_768)):
            stream.chunk(number, mask[start : start + 32_768])
        masks.append(mask)
    return masks


@pytest.mark.services
def test_no_server_receives_or_stores_what_one_client_s_update_could_be_had_from(
    recorded: Recorded, secrets_drawn: Secrets, tmp_path: Path
) -> None:
    network = recorded.network
    let_metrics_go_in_sums_only(network)
    package, _ = network.uploaded(UNEQUAL)
    save_file({"weights": np.zeros(PARAMETERS, np.float32)}, tmp_path / "seed.safetensors")
    seed_model = network.network.upload_seed_model(tmp_path / "seed.safetensors").digest
    masked = MaskedOptions(clip=CLIP, n_max=N_MAX, weight_cap=WEIGHT_CAP, metrics={"secret": 10.0})
    ended = network.run_session(package, seed_model, rounds=2, clients_required=6, masking="pet", masked=masked)
    assert ended.status == "finished"

    rounds = network.network.rounds(ended.id)
    uploads, everything = recorded.uploads(), recorded.everything()
    by_combiners = everything["combiner-1"] + everything["combiner-2"]
    elsewhere = b"\n".join(seen for name, seen in everything.items() if not name.startswith("combiner-"))
    assert len(rounds) == 2
    assert len(uploads) == 2 * CLIENTS
    scale, n_words = (2**30 // N_MAX - 1) / CLIP, len(uploads[0][1]) // 4
    sites = {tuple(np.round(Site(n).update[:4] * 1e3)): Site(n) for n in range(1, CLIENTS + 1)}

    slot_sums: dict[tuple[bytes, int], np.ndarray] = {}
    for upload, content in uploads:
        header, words = UpdateHeader.decode(upload.header.body), np.frombuffer(content, "<u4")
        # What a combiner got is as random as it can be, and got nowhere else.
        assert looks_random(words)
        assert content[:64] in by_combiners
        assert content[:64] not in elsewhere
        masks = masks_of(upload, secrets_drawn.seeds, n_words)
        plain = words.copy()
        for slot, mask in enumerate(masks):
            total = slot_sums.setdefault((header.ctx, slot), np.zeros(n_words, np.uint32))
            total += mask
            plain -= mask
        # The secrets open it, so these are the right ones: what is searched for below is the real thing.
        values = plain.view(np.int32)[:PARAMETERS] / scale  # every weight is at its cap: omega is 1
        site = sites[tuple(np.round(values[:4] * 1e3))]
        assert np.abs(values - np.clip(site.update, -CLIP, CLIP)).max() <= 1 / scale + 4 * np.finfo(np.float32).eps
        for what in (plain, *masks, *(words - mask for mask in masks)):
            for start in (0, 1_000, n_words - 16):
                assert what[start : start + 16].tobytes() not in by_combiners + elsewhere
        assert site.update[100:104].tobytes() not in by_combiners + elsewhere
        for number in (site.samples, SECRET_METRIC + site.number):
            for form in (str(number).encode(), struct.pack("<d", number), *integer_forms(number)):
                assert form not in by_combiners + elsewhere, (number, form)
    for total in slot_sums.values():
        assert total[:16].tobytes() not in by_combiners + elsewhere
    for secret in secrets_drawn.all():
        assert secret not in by_combiners + elsewhere
        assert secret.hex().encode() not in by_combiners + elsewhere

    # The policy that had just changed held from the session's beginning: no client was asked to validate in the clear.
    assert not network.network.session(ended.id).options.validate
    # And the sum is right all the same.
    for done in rounds:
        assert done.samples == CLIENTS * WEIGHT_CAP
        assert done.training_metrics["secret"] == pytest.approx(SECRET_METRIC + 3.5, abs=1e-4)
        assert not done.metrics_by_client


def integer_forms(number: float) -> list[bytes]:
    if not isinstance(number, int):
        return []
    varint, rest = bytearray(), number
    while rest > 127:
        varint.append(rest & 127 | 128)
        rest >>= 7
    return [struct.pack("<q", number), bytes([*varint, rest])]
