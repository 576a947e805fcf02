"""A whole network of real processes, real stores and links between all of them that can be made bad.

reducer --mongodb--> MongoDB          combiner-N --combiner-N to reducer--> reducer
reducer, combiners --minio--> MinIO   clients --clients to reducer--> reducer
clients --combiner-N--> combiner-N    the far client --far to combiner-N--> combiner-N
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import minio
import numpy as np
import pymongo
import yaml
from chaos.crew import Crew
from chaos.links import Links
from chaos.store_watch import StoreWatch
from pymongo.errors import PyMongoError
from running_network import RunningNetwork
from safetensors.numpy import save_file
from servers.running import Process, free_port, minio_in, mongodb_in

from fedn_py.api.faults import ReducerUnreachable, RemoteRefusal
from fedn_py.api.network import Network
from fedn_py.api.profile import load_profile
from fedn_py.execution.packing import create_package
from fedn_py.sandbox.folder import Where

PROJECT = Path(__file__).resolve().parent / "own-coordinates"
FAR = 1
"""The client that has links of its own."""

SMALL, LARGE = 1_000, 1_500_000
"""Parameters of the seed models; an update of the large one is sent in six pieces."""


RESTART_S = 20.0
"""In which a client that was killed is back, on a machine with more to do."""


class ChaosNetwork(RunningNetwork):
    """The network; end it with ``stop``.

    Attributes:
        links: by the names above.
        kept: folder of the updates that clients keep for their owners.
        stores: the servers' processes, "mongodb" and "minio"; none where the stores are embedded in the reducer.
        reducers: the REST API of each.
        judged: the objects whose bytes were seen to be those of their names.
    """

    up_within_s = 240.0

    def __init__(
        self, folder: Path, *, clients: int, combiners: int = 2, standby: bool = False, embedded: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.kept, self.links, self.watch = folder / "kept", Links(), StoreWatch()
        self.crew = Crew(folder / "crew")
        self.clients = [f"client-{number}" for number in range(1, clients + 1)]
        self.combiners = [f"combiner-{number}" for number in range(1, combiners + 1)]
        self.stores: dict[str, Process] = {}
        self.judged: set[str] = set()
        self._seeds = 0
        try:
            where, keys = (Where(), {}) if embedded else self._start_stores(folder)
            environ = {**os.environ, **keys}
            super().__init__(folder / "network", combiners, where, environ, children=self.crew, first_port=free_port())
            self.environ |= keys
            self.reducers, self._urls = {"reducer": self.network}, {"reducer": f"https://localhost:{self.ports.web}"}
            self.standby_grpc = 0
            if standby:
                self._start_standby()
            self.look_through("reducer")
            self._start_all(clients, combiners)
        except BaseException:
            self.stop()
            raise

    def _start_stores(self, folder: Path) -> tuple[Where, Mapping[str, str]]:
        for name in ("mongodb", "minio"):
            (folder / name).mkdir()
        self.stores["mongodb"], self.mongodb_uri = mongodb_in(folder / "mongodb")
        self._mongodb: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(self.mongodb_uri, connect=False)
        self.stores["minio"], self.s3 = minio_in(folder / "minio")
        for store in self.stores.values():
            store.start()
        mongodb = self.links.open("mongodb", _port(self.mongodb_uri), self.watch)
        minio_port = self.links.open("minio", _port(self.s3.url))
        keys = {"FEDN_MINIO_ACCESS_KEY": self.s3.access_key, "FEDN_MINIO_SECRET_KEY": self.s3.secret_key}
        return Where(f"mongodb://127.0.0.1:{mongodb}/", f"http://127.0.0.1:{minio_port}"), keys

    # ---- a second reducer

    def _start_standby(self) -> None:
        """Start reducer-2, which waits for the first one's lease."""
        settings = yaml.safe_load(self.folder.settings("reducer").read_text())
        state_key = str(self.folder.state("reducer") / "state.key")
        settings["masking"]["state_key_file"] = state_key
        web, self.standby_grpc = free_port(), free_port()
        settings |= {
            "name": "reducer-2",
            "listen_web": f"127.0.0.1:{web}",
            "listen_grpc": f"127.0.0.1:{self.standby_grpc}",
            "state_dir": str(self.folder.state("reducer-2")),
        }
        self.folder.settings("reducer-2").write_text(yaml.safe_dump(settings))
        self.start("reducer", "reducer-2")
        profile = load_profile(self.folder.profile)
        self._urls["reducer-2"] = f"https://localhost:{web}"
        self.reducers["reducer-2"] = Network(self._urls["reducer-2"], profile.token, profile.authority_file)

    def active(self) -> str:
        """Return the name of the reducer that is active, the first one's where none is."""
        return next((name for name, reducer in self.reducers.items() if is_active(reducer)), "reducer")

    def look_through(self, first: str) -> None:
        """See the network through this reducer while it is active; one that stands still is slow to be passed over."""
        urls = [self._urls[first], *(url for name, url in self._urls.items() if name != first)]
        profile = load_profile(self.folder.profile)
        self.network = Network(urls, profile.token, profile.authority_file)

    def _to_reducer(self, name: str, target: int) -> int:
        return self.links.open(f"{name} to {'reducer' if target == self.ports.grpc else 'reducer-2'}", target)

    def _reducer_addresses(self, name: str) -> str | list[str]:
        """Put links before each reducer and return what the settings of somebody who dials them say."""
        links = [f"localhost:{self._to_reducer(name, grpc)}" for grpc in self._grpc_ports()]
        return links[0] if len(links) == 1 else links

    def _grpc_ports(self) -> list[int]:
        return [self.ports.grpc, *([self.standby_grpc] if self.standby_grpc else [])]

    def _start_all(self, clients: int, combiners: int) -> None:
        through = {}
        for number, name in enumerate(self.combiners, start=1):
            door = self.links.open(name, self.ports.combiners[number - 1])
            through[str(door)] = self.links.open(f"far to {name}", self.ports.combiners[number - 1])
            self.start_combiner(
                number,
                advertise=f"localhost:{door}",
                reducer=self._reducer_addresses(name),
                reconnect_grace_s=RESTART_S,
            )
        self.await_combiners(combiners)
        reducers = self._reducer_addresses("clients")
        for number in range(1, clients + 1):
            data = self.data_of(f"client-{number}")
            data.mkdir(parents=True)
            (data / "number").write_text(str(number))
            self.environ["CHAOS_THROUGH"] = json.dumps(through if number == FAR else {})
            self.start_client(
                number,
                data,
                reducer=reducers,
                keep_updates=str(self.kept),
                preferred_combiner=self.preferred(f"client-{number}"),
            )
        self.await_clients(clients)

    def data_of(self, client: str) -> Path:
        """Return the folder of a client's data."""
        return self.folder.data / client

    def preferred(self, client: str) -> str:
        """Return the combiner that a client prefers."""
        return self.combiners[int(client.rpartition("-")[2]) % len(self.combiners)]

    def attached(self) -> dict[str, str]:
        """Return the combiner of each client that is attached."""
        return {client.name: client.combiner for client in self.network.clients() if client.combiner}

    def uploaded_package(self) -> str:
        """Upload the package and return its digest."""
        archive = self.folder.path / "package.tar.gz"
        if not archive.exists():
            create_package(PROJECT, archive)
        return str(self.network.upload_package(archive).digest)

    def uploaded_seed(self, size: int) -> tuple[str, Path]:
        """Upload a seed model of so many parameters, another one each time; return its digest and file.

        Clients allow so many masked works on one base model, and no more.
        """
        self._seeds += 1
        file = self.folder.path / f"seed-{self._seeds}.safetensors"
        save_file({"values": np.full(size, self._seeds / 1024, np.float32), "steps": np.zeros(1, np.int64)}, file)
        return str(self.network.upload_seed_model(file).digest), file

    # ---- the stores, behind everybody's back

    def objects(self) -> set[str]:
        """Return the names of all objects in the store."""
        if not self.stores:
            files = (self.folder.state("reducer") / "objects").rglob("[0-9a-f]" * 64)
            return {file.name for file in files}
        return {str(one.object_name) for one in self._s3().list_objects("fedn-py", recursive=True)} - {"check"}

    def content_of(self, name: str) -> bytes | None:
        """Return an object's bytes as they are stored, None where it is not there any more."""
        if not self.stores:
            files = (self.folder.state("reducer") / "objects").rglob(name)
            return next((file.read_bytes() for file in files), None)
        try:
            return bytes(self._s3().get_object("fedn-py", name).read())
        except minio.S3Error as refusal:
            if refusal.code == "NoSuchKey":
                return None
            raise

    def _s3(self) -> minio.Minio:
        url, server = self.s3.url.removeprefix("http://"), self.s3
        return minio.Minio(endpoint=url, access_key=server.access_key, secret_key=server.secret_key, secure=False)

    def record(self, collection: str, key: str) -> dict[str, Any] | None:
        """Return a record as it is stored, None where there is none or the server does not answer."""
        try:
            found = self._mongodb["fedn_py"][collection].find_one({"_id": key})
        except PyMongoError:
            return None
        return found["content"]["record"] if found is not None else None

    def forget_earlier_sessions(self) -> None:
        """Remove what is stored of all sessions but the newest, and all events but the newest one.

        The server that stands in for MongoDB reads a whole collection for whatever is not asked for by its key: without
        this each trial would be slower than the one before.
        """
        with pymongo.MongoClient[dict[str, Any]](self.mongodb_uri) as client:
            documents = client["fedn_py"]
            if newest := documents["sessions"].find_one(sort=[("content.number", pymongo.DESCENDING)]):
                documents["sessions"].delete_many({"_id": {"$ne": newest["_id"]}})
                documents["rounds"].delete_many({"content.session": {"$ne": newest["_id"]}})
            if newest := documents["events"].find_one(sort=[("content.seq", pymongo.DESCENDING)]):
                documents["events"].delete_many({"content.seq": {"$lt": newest["content"]["seq"]}})

    def stop(self) -> None:
        """End everything."""
        self.crew.stop()
        for store in self.stores.values():
            store.stop()
        if self.stores:
            self._mongodb.close()
        self.links.close()


def is_active(reducer: Network) -> bool:
    """Tell whether a reducer is active; one that cannot reach its documents is."""
    try:
        reducer.status()
    except ReducerUnreachable:
        return False
    except RemoteRefusal:
        return True
    return True


def _port(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])
