"""One client's masked side between a combiner and a learner of the test's own; its folder can be started again."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import masked_world as world
import numpy as np
from masked_world import CLIENTS, REDUCER, AClient
from nacl.signing import SigningKey
from safetensors.numpy import save_file

from fedn_py.client.beliefs import Beliefs
from fedn_py.client.hearing import Hearing
from fedn_py.client.masked_files import MaskedFiles
from fedn_py.client.masked_memory import MaskedMemory, create_memory
from fedn_py.client.masked_side import MaskedSide
from fedn_py.client.memory_rows import Pinned
from fedn_py.client.state_folder import KEY_FILE, MEMORY_FILE, StateFolder
from fedn_py.client.update_sealing import PlainUpdate
from fedn_py.client.update_values import UpdateValues
from fedn_py.identity import Digest, Generation, SessionId
from fedn_py.masking.fixed_point import decoded_mean
from fedn_py.masking.keystream import chunk_sizes
from fedn_py.masking.pet import CellOpening
from fedn_py.protocol.client import Event, Tasked
from fedn_py.protocol.masked.answers import AnswerPlace, open_stream, unseal_key
from fedn_py.protocol.masked.beacon import session_start
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.committee import Committee, check_committee
from fedn_py.protocol.masked.contexts import CellTerms, cell_terms, commit_hash
from fedn_py.protocol.masked.lottery import NOTHING_REVEALED, Candidate, choose, next_beacon
from fedn_py.protocol.masked.round_messages import (
    Answer,
    BeaconLink,
    CellOrder,
    CommittedCell,
    CommitteeBody,
    CommitteeRow,
    KeyMessage,
    Plan,
)
from fedn_py.protocol.masked.round_messages import RoundCommitted as SignedCommit
from fedn_py.protocol.masked.signing import Signed, sign
from fedn_py.protocol.masked.words import KeyOffer, MaskedTerms, WorkTerms
from fedn_py.protocol.messages import CellOrder as CellOrderMessage
from fedn_py.protocol.messages import (
    FromClient,
    MetricsRelease,
    PolicyNews,
    RoundPlan,
    SaidByClient,
    SaidToClient,
    TaskFailed,
    ToClient,
    TrainTask,
    UpdateHeader,
    UpdateReceipt,
    ValidationOrder,
)
from fedn_py.reducer.work_orders import work_order
from fedn_py.runtime.secret_files import write_secret

PARAMETERS = "{}"
N = 20
WITHIN_S = 8.0

Found = TypeVar("Found")
Plain = TypeVar("Plain", TrainTask, ValidationOrder)


# ---- what a reducer and a combiner say


def a_masked_plan(**changed: Any) -> Plan:
    return world.a_plan(**{"params_sha256": hashlib.sha256(PARAMETERS.encode()).digest(), **changed})


def an_order(plan: Plan, **changed: Any) -> CellOrder:
    return world.an_order(plan, **changed)


def a_task(plan: Plan | None = None, order: CellOrder | None = None, **changed: Any) -> TrainTask:
    """A masked task as an honest reducer and combiner give it."""
    plan = plan or a_masked_plan()
    order = order or an_order(plan)
    told = RoundPlan(
        session=SessionId(plan.session.hex()),
        session_number=plan.session_number,
        round_number=plan.round,
        attempt=plan.attempt,
        base_model=Digest(plan.base_sha256.hex()),
        package=Digest(plan.package_sha256.hex()),
        parameters=PARAMETERS,
        masking="pet",
        update_timeout_s=plan.update_ms / 1_000,
    )
    terms = MaskedTerms(world.a_certificate(), sign(plan, REDUCER), sign(order, REDUCER))
    return replace(TrainTask(told, Generation(order.generation), terms), **changed)


def signed_by(work: Plain, key: SigningKey = REDUCER, **changed: Any) -> Plain:
    """A plain task, or an order to validate, as an honest reducer signs it; or an order that says something else."""
    order = CellOrderMessage(work.plan, work.generation, (), 1) if isinstance(work, TrainTask) else work
    said = replace(work_order(world.DEPLOYMENT, order), **changed)
    return replace(work, signed=WorkTerms(world.a_certificate(), sign(said, key)))


def a_plain_task(**changed: Any) -> TrainTask:
    """The task of ``a_task``, without masks; nobody has signed it."""
    return TrainTask(replace(a_task().plan, masking="none", **changed), Generation(2))


def a_validation(**changed: Any) -> ValidationOrder:
    """An order to validate; nobody has signed it."""
    plan = a_task().plan
    order = ValidationOrder(
        Generation(2), plan.session, plan.round_number, plan.base_model, plan.package, PARAMETERS, 60.0, ()
    )
    return replace(order, **changed)


def terms_of(task: TrainTask) -> CellTerms:
    assert task.masked is not None
    return cell_terms(world.DEPLOYMENT, task.masked.plan.body, task.masked.order.body)


def policy_news(policy: Policy = world.POLICY) -> PolicyNews:
    return PolicyNews(sign(policy, world.OPERATOR))


def committee_of(task: TrainTask, offers: Sequence[KeyOffer]) -> CommitteeBody:
    """The committee that a combiner makes of its clients' offers."""
    terms = terms_of(task)
    candidates, keys = [], {}
    for offer in offers:
        client = world.verify_chain(offer.chain, world.TRUST)
        for key in offer.keys:
            slot = KeyMessage.decode(key.body).slot
            candidates.append(Candidate(slot, client))
            keys[client.client_id, slot] = (offer.chain, key)
    chosen = choose(terms.plan.beacon, terms.order.k, terms.order.r, candidates)
    rows = [CommitteeRow(one.slot, one.replica, *keys[one.client.client_id, one.slot]) for one in chosen]
    return CommitteeBody(terms.ctx0, tuple(rows))


def offer_of(task: TrainTask, client: AClient, slot: int) -> KeyOffer:
    """What a client of the masked world offers, for one slot."""
    key = sign(world.a_key_message(terms_of(task), client, slot), client.key)
    return KeyOffer(terms_of(task).ctx0, client.chain, (key,))


def for_slot(offer: KeyOffer, slot: int) -> KeyOffer:
    """An offer without its keys for other slots."""
    return replace(offer, keys=tuple(key for key in offer.keys if KeyMessage.decode(key.body).slot == slot))


def a_committee_with(task: TrainTask, offer: KeyOffer | None) -> CommitteeBody:
    """A committee in which a client has slot 0, or none; all other seats are others'."""
    order = terms_of(task).order
    seats = [slot for slot in range(order.k) for _ in range(order.r)]
    mine = [] if offer is None else [for_slot(offer, 0)]
    others = zip(CLIENTS[1:], seats[len(mine) :], strict=False)
    return committee_of(task, [*mine, *(offer_of(task, client, slot) for client, slot in others)])


def checked(task: TrainTask, body: CommitteeBody, policy: Policy = world.POLICY) -> Committee:
    terms, standing = terms_of(task), (policy, world.NOW_S)
    return check_committee(body, terms.ctx0, terms.order, terms.plan.beacon, world.chains(), standing=standing)


def a_history(rounds: int) -> tuple[list[BeaconLink], Callable[[int], Plan]]:
    """Links of committed rounds in which nobody revealed, and the plans that follow from them."""
    known = session_start(world.DEPLOYMENT, world.SESSION, 1, world.EPOCH_SEED)
    beacons, parents, links = [known.beacon], [bytes(32)], []
    for number in range(1, rounds + 1):
        plan = a_masked_plan(round=number, beacon=beacons[-1], parent_commit=parents[-1])
        cell = CommittedCell(world.CELL, b"c" * 32, b"h" * 32, 5)
        commit = sign(SignedCommit(world.SESSION, number, 1, world.MODEL, (cell,), parents[-1]), REDUCER)
        order = sign(an_order(plan), REDUCER)
        links.append(
            BeaconLink(
                round=number, attempt=1, policy_hash=world.POLICY_HASH, order=order, commit=commit, rows=(), nonces=()
            )
        )
        beacons.append(next_beacon(beacons[-1], number, NOTHING_REVEALED))
        parents.append(commit_hash(commit.body))

    def plan_of(number: int) -> Plan:
        proof = (links[number - 2],) if number > 1 else ()
        parent = parents[number - 1]
        return a_masked_plan(round=number, beacon=beacons[number - 1], parent_commit=parent, beacon_proof=proof)

    return links, plan_of


# ---- the client


@dataclass
class FakeCombiner:
    """Takes what a client says and uploads; implements ``Combiner``."""

    said: list[FromClient] = field(default_factory=list)
    uploads: list[tuple[UpdateHeader, bytes]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    receipts: list[UpdateReceipt | Exception] = field(default_factory=list)
    record: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, message: FromClient) -> None:
        what = message.word if isinstance(message, SaidByClient) else message
        self.record.append(f"say {what.said if isinstance(what, Signed) else type(what).__name__}")
        self.said.append(message)
        self.changed.set()

    async def upload(self, header: UpdateHeader, path: Path) -> UpdateReceipt:
        self.record.append("upload")
        self.uploads.append((header, _content(path)))
        self.changed.set()
        answer = self.receipts.pop(0) if self.receipts else UpdateReceipt(accepted=True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def upload_object(self, upload_id: str, digest: Digest, path: Path) -> None:
        self.objects[digest] = _content(path)

    def words(self, kind: type[Found]) -> list[Found]:
        return [one.word for one in self.said if isinstance(one, SaidByClient) and isinstance(one.word, kind)]

    def signed(self, kind: str) -> list[Signed]:
        return [word for word in self.words(Signed) if word.said == kind]

    @property
    def failures(self) -> list[TaskFailed]:
        return [one for one in self.said if isinstance(one, TaskFailed)]

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not reached():
                self.changed.clear()
                await self.changed.wait()


def a_state_folder(path: Path, client: AClient) -> Path:
    """The folder of a client of the masked world that has joined; made where it is not there."""
    if path.exists():
        return path
    path.mkdir(parents=True, mode=0o700)
    public = bytes(client.key.verify_key)
    create_memory(path / MEMORY_FILE, public)
    write_secret(path / KEY_FILE, bytes(client.key).hex() + "\n")
    memory = MaskedMemory(path / MEMORY_FILE, public)
    memory.save_pinned(Pinned(world.TRUST.operator_key, world.DEPLOYMENT, client.chain))
    memory.close()
    return path


@dataclass
class Site:
    """A running client without its learner; ``events`` is what its own machine is told."""

    client: AClient
    folder: StateFolder
    combiner: FakeCombiner
    side: MaskedSide
    hearing: Hearing
    beliefs: Beliefs
    files: Path
    events: list[Event]
    tasks: "list[asyncio.Task[None]]"

    async def ended(self) -> Exception:
        """Wait until it has ended of a fault, and return that."""
        (fault,) = await asyncio.gather(self.tasks.pop(0), return_exceptions=True)
        assert isinstance(fault, Exception)
        return fault

    def hear(self, *messages: ToClient) -> None:
        for message in messages:
            self.hearing.heard(message)

    def hear_words(self, *words: Any) -> None:
        self.hear(*(SaidToClient(word) for word in words))

    async def settled(self) -> None:
        """Wait until all that was heard is taken."""
        last = TrainTask(a_plain_round(), Generation(0))
        self.hear(last)
        async with asyncio.timeout(WITHIN_S):
            while not (Tasked(last) in self.events or any(one.generation == 0 for one in self.combiner.failures)):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        self.combiner.said = [one for one in self.combiner.said if not _is_marker(one)]

    async def offered(self, task: TrainTask) -> KeyOffer:
        """Give it a task and wait for its offer."""
        before = len(self.combiner.words(KeyOffer))
        self.hear(task)
        await self.combiner.until(lambda: len(self.combiner.words(KeyOffer)) > before)
        return self.combiner.words(KeyOffer)[-1]

    async def seated(self, task: TrainTask) -> Committee:
        """Give it a task and a seat in slot 0 of the committee."""
        return await self._formed(task, serves=True)

    async def formed(self, task: TrainTask) -> Committee:
        """Give it a task and a committee that it is not in."""
        return await self._formed(task, serves=False)

    async def _formed(self, task: TrainTask, *, serves: bool) -> Committee:
        offer = await self.offered(task)
        body = a_committee_with(task, offer if serves else None)
        self.hear_words(body)
        await self.settled()
        return checked(task, body)

    def plain_update(self, n: int = N, samples: int = 50, **metrics: Any) -> PlainUpdate:
        values = update_values(self.files, world.the_values(self.client, n).astype("<f4"))
        return PlainUpdate(values, samples, **metrics)

    async def send(self, task: TrainTask, plain: PlainUpdate | None = None, *, trained: bool = True) -> list[Event]:
        """Do what the client's own work does when there is an update."""
        return await self.side.send_update(task, (plain or self.plain_update()) if trained else None)


def update_values(folder: Path, values: "np.typing.NDArray[Any]") -> UpdateValues:
    """An update of these values: the difference of a model to one of zeros."""
    base = folder / "base-of-an-update.safetensors"
    save_file({"w": np.zeros_like(values)}, base)
    return UpdateValues(base, {"w": values})


def _content(path: Path) -> bytes:
    return path.read_bytes()


def _is_marker(message: FromClient) -> bool:
    return isinstance(message, TaskFailed) and message.generation == 0


def a_plain_round() -> RoundPlan:
    return RoundPlan(SessionId("ff" * 16), 1, 1, 1, Digest("0" * 64), Digest("0" * 64), "{}", "none", 60.0)


@contextlib.asynccontextmanager
async def running(
    path: Path,
    client: AClient = CLIENTS[0],
    *,
    policy: Policy | None = world.POLICY,
    release: MetricsRelease = "client",
    combiner: FakeCombiner | None = None,
    allowed_packages: tuple[Digest, ...] | None = None,
) -> AsyncIterator[Site]:
    """Run a client over its folder, made where it is not there yet."""
    a_state_folder(path, client)
    combiner, events = combiner or FakeCombiner(), []
    with StateFolder(path) as folder:
        beliefs = Beliefs(folder.registration, folder.memory, now_s=lambda: world.NOW_S)
        side = MaskedSide(
            folder.registration,
            folder.memory,
            MaskedFiles(path / "masked", folder.memory),
            combiner,
            release=release,
            beliefs=beliefs,
            post=events.append,
        )
        hearing = Hearing(side, beliefs, combiner, events.append, allowed_packages=allowed_packages)
        tasks = [asyncio.ensure_future(side.run()), asyncio.ensure_future(hearing.run())]
        site = Site(client, folder, combiner, side, hearing, beliefs, path, events, tasks)
        try:
            hearing.attached()
            if policy is not None:
                site.hear(policy_news(policy))
            yield site
            for task in tasks:
                assert not task.done(), task.exception()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def recorded(site: Site) -> Iterator[list[str]]:
    """Write down the order in which a client writes to its disk and speaks."""
    memory, record = site.folder.memory, site.combiner.record
    for name in [name for name in dir(memory) if name.startswith("save_")]:
        setattr(memory, name, _noted(getattr(memory, name), name, record))
    yield record


def _noted(save: Callable[..., None], name: str, record: list[str]) -> Callable[..., None]:
    def noted(*values: Any) -> None:
        save(*values)
        record.append(name)

    return noted


def opened_mean(task: TrainTask, partial: np.ndarray, sums: list[np.ndarray], clients: int) -> tuple[np.ndarray, int]:
    """What a reducer makes of a cell."""
    encoding = terms_of(task).encoding
    opening, parts, start = CellOpening(encoding, clients), [], 0
    for number, size in enumerate(chunk_sizes(len(partial))):
        part = slice(start, start + size)
        parts.append(opening.chunk(number, partial[part], [words[part] for words in sums]).copy())
        start += size
    weight = opening.tail().weight
    return decoded_mean(encoding, np.concatenate(parts), weight), weight


def read_answer(answer: Answer, client_id: bytes, stream: bytes, n_words: int) -> np.ndarray:
    """What a reducer finds in a member's answer."""
    place = AnswerPlace(answer.ctx, answer.included_hash, client_id, answer.slot)
    key = unseal_key(place, answer.sealed_key, world.RSK)
    return np.frombuffer(b"".join(open_stream(place, key, [stream], 4 * n_words)), np.uint32)
