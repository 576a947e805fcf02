"""A whole client between real servers: it takes part, and comes back from whatever takes its network away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_network import CuttingProxy, MemoryObjects, digest_of
from masked_world import TRUST
from running_client import (
    MODEL,
    PACKAGE,
    AddingLearner,
    CombinerServer,
    Network,
    ReducerServer,
    a_join,
    client_settings,
    running_client,
    story,
    values_of,
)
from safetensors.numpy import save

from fedn_py.client.assemble import run_client
from fedn_py.client.state_folder import StateFolderInUse
from fedn_py.errors import PeerFault
from fedn_py.execution.entry_points import EntryPointFailed
from fedn_py.identity import Digest, Generation
from fedn_py.protocol.masked.registry import verify_chain
from fedn_py.protocol.messages import (
    GoElsewhere,
    RoundCommitted,
    TaskCancelled,
    TaskFailed,
    ValidationResult,
)
from fedn_py.runtime.credential_files import TokenFile, write_token_file
from fedn_py.runtime.scratch import DiskFull


class NameTaken(PeerFault):
    """As the reducer says it."""


class NoCombiner(PeerFault):
    """As the reducer says it."""


@pytest.fixture
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a client wait for a tenth of the time between its tries: such a test is about how many there are."""
    monkeypatch.setattr("fedn_py.client.combiner_side._BASE_S", 0.05)


def test_a_client_trains_from_the_round_s_model_and_uploads_the_difference(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        hello = await network.combiner.heard("attached")
        assert hello.name == "anna"
        plan = network.combiner.train(1, round_number=4, attempt=2, parameters='{"epochs": 3}')
        header = await network.combiner.heard("arrived")
        assert values_of(network.combiner.calls.updates[0]) == [1.0] * 6
        assert (header.samples, header.generation) == (10, 1)
        (task,) = network.learner.trained
        assert (task.round_number, task.attempt, task.parameters) == (4, 2, '{"epochs": 3}')
        assert (task.package, task.timeout_s) == (plan.package, plan.update_timeout_s)

        network.combiner.validate(2)
        result = await network.combiner.told(ValidationResult)
        assert (result.generation, result.samples) == (2, 10)

    story(tmp_path, told)


def test_the_same_work_asked_for_again_is_never_trained_a_second_time(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.train(1)
        await network.combiner.heard("arrived")
        network.combiner.train(1)  # the combiner did not know yet
        network.combiner.train(2, attempt=2)  # the attempt failed for want of others
        header = await network.combiner.heard("arrived")
        assert header.generation == 2
        assert len(network.learner.trained) == 1
        assert network.combiner.calls.updates[0] == network.combiner.calls.updates[1]

        network.combiner.train(3, round_number=2)
        assert (await network.combiner.heard("arrived")).generation == 3
        assert len(network.learner.trained) == 2

    story(tmp_path, told)


def test_a_task_that_comes_again_while_it_is_trained_goes_on_being_trained(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        network.learner.gate.clear()
        await network.combiner.heard("attached")
        network.combiner.train(1)
        await network.learner.begun.wait()
        network.combiner.train(1)
        network.combiner.train(2, attempt=2)
        network.learner.gate.set()
        await network.combiner.heard("arrived")
        assert len(network.learner.trained) == 1

    story(tmp_path, told)


def test_a_newer_round_and_a_cancelled_task_end_a_training(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        network.learner.gate.clear()
        await network.combiner.heard("attached")
        network.combiner.train(1)
        await network.learner.begun.wait()
        network.combiner.send(TaskCancelled(Generation(1), "the session was stopped"))
        network.learner.begun.clear()
        network.combiner.train(2, round_number=2)
        await network.learner.begun.wait()
        network.learner.begun.clear()
        network.combiner.train(3, round_number=3)
        await network.learner.begun.wait()
        network.learner.gate.set()
        header = await network.combiner.heard("arrived")
        assert header.generation == 3
        assert len(network.combiner.calls.updates) == 1

    story(tmp_path, told)


def test_a_committed_round_lets_the_update_go(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        plan = network.combiner.train(1)
        await network.combiner.heard("arrived")
        updates = network.settings.state_dir / "updates"
        assert len(list(updates.glob("trained-*"))) == 1
        network.combiner.send(RoundCommitted(plan.session, plan.round_number, digest_of(MODEL)))
        async with asyncio.timeout(20):
            while list(updates.glob("trained-*")):  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.005)

    story(tmp_path, told)


# ---- lost and found


def test_a_client_attaches_again_when_its_combiner_was_killed_and_is_back(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.validate(1)
        await network.learner.begun.wait()
        await network.combiner.die()
        await network.combiner.open()
        await network.combiner.heard("attached")
        network.combiner.train(2)
        await network.combiner.heard("arrived")
        assert network.reducer.calls.requests == 1  # its ticket is still good

    story(tmp_path, told)


def test_a_client_on_a_flapping_link_stays_with_its_combiner(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        link = CuttingProxy(network.combiner.address, [], upward=True)
        async with link as network.reducer.calls.address:
            network.combiner.send(GoElsewhere("behind a link that flaps"))
            for generation in range(1, 6):
                await network.combiner.heard("attached")
                network.combiner.validate(generation)
                await network.learner.begun.wait()  # so it has its welcome
                network.learner.begun.clear()
                link.cut_all()
            await network.combiner.heard("attached")
        assert network.reducer.calls.requests == 2

    story(tmp_path, told)


@pytest.mark.usefixtures("soon_again")
def test_a_client_whose_combiner_stays_away_is_sent_to_another_by_the_reducer(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        other = CombinerServer(tmp_path)
        await other.open()
        try:
            network.reducer.calls.address = other.address
            await network.combiner.close()
            await other.heard("attached")
            other.train(1)
            await other.heard("arrived")
        finally:
            await other.close()

    story(tmp_path, told)


def test_a_client_that_is_sent_elsewhere_asks_the_reducer_at_once(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.send(GoElsewhere("the combiner is full"))
        await network.combiner.heard("left")
        await network.combiner.heard("attached")
        assert network.reducer.calls.requests == 2

    story(tmp_path, told)


def test_a_combiner_that_comes_back_while_the_reducer_is_away_has_its_client_again(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        await network.reducer.close()
        await network.combiner.close()
        await network.combiner.open()
        await network.combiner.heard("attached")
        network.combiner.train(1)
        await network.combiner.heard("arrived")

    story(tmp_path, told)


def test_a_combiner_that_was_away_for_long_has_its_client_again_before_the_reducer_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedn_py.client.combiner_side._TRIES_AT_ONE_COMBINER", 0)  # as if it had tried often enough

    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        await network.reducer.close()
        await network.combiner.close()
        await network.combiner.open()
        await network.combiner.heard("attached")

    story(tmp_path, told)


def test_a_client_that_began_before_its_reducer_attaches_when_it_is_there(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        await network.reducer.close()
        await network.combiner.close()
        network.reducer.calls.address = network.combiner.address
        await asyncio.sleep(0.5)  # some attempts at both
        await network.combiner.open()
        await network.reducer.open()
        await network.combiner.heard("attached")

    story(tmp_path, told)


def test_a_client_asks_each_reducer_in_its_turn_until_one_answers(tmp_path: Path) -> None:
    async def told() -> None:
        combiner, standby, active = CombinerServer(tmp_path), ReducerServer(), ReducerServer()
        active.calls.address = combiner.address
        await combiner.open()
        await active.open()
        addresses = f"127.0.0.1:{standby.port}, 127.0.0.1:{active.port}"
        settings = client_settings(tmp_path / "anna", 1, reducer=addresses)
        async with asyncio.timeout(60), running_client(settings, AddingLearner()):
            await combiner.heard("attached")
            assert active.calls.requests == 1
            await active.close()
            standby.calls.address = combiner.address
            await standby.open()
            combiner.send(GoElsewhere("to see whom it asks"))
            await combiner.heard("attached")
            assert standby.calls.requests == 1
        for server in (combiner, standby):
            await server.close()

    asyncio.run(told())


@pytest.mark.parametrize("work", ["train", "validate"])
def test_a_client_that_is_stopped_says_that_its_work_stays_undone_and_leaves(tmp_path: Path, work: str) -> None:
    async def told(network: Network) -> None:
        network.learner.gate.clear()
        await network.combiner.heard("attached")
        getattr(network.combiner, work)(3)
        await network.learner.begun.wait()

    async def after(network: Network) -> None:
        failed = await network.combiner.told(TaskFailed)
        assert (failed.generation, failed.reason) == (3, "ClientLeft: its site has stopped it")
        await network.combiner.heard("left")
        assert network.learner.closed

    story(tmp_path, told, after=after)


def test_training_goes_on_while_the_combiner_is_away_and_is_uploaded_when_asked_for_again(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        network.learner.gate.clear()
        await network.combiner.heard("attached")
        network.combiner.train(1)
        await network.learner.begun.wait()
        await network.combiner.close()
        network.learner.gate.set()
        updates = network.settings.state_dir / "updates"
        async with asyncio.timeout(20):
            while not list(updates.glob("trained-*")):  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.005)
        await network.combiner.open()
        await network.combiner.heard("attached")
        network.combiner.train(5, attempt=2)
        assert (await network.combiner.heard("arrived")).generation == 5
        assert len(network.learner.trained) == 1

    story(tmp_path, told)


class SlowObjects(MemoryObjects):
    """Gives out the beginning of its first download and no more."""

    def __init__(self, *objects: bytes) -> None:
        super().__init__(*objects)
        self.begun = asyncio.Event()

    async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        if not self.begun.is_set():
            yield self.objects[digest][:100_000]
            self.begun.set()
            await asyncio.Event().wait()
        async for chunk in super().get(digest, offset=offset):
            yield chunk


@pytest.mark.parametrize("away_s", [0.0, 2.0])
def test_a_download_that_its_combiner_s_end_cut_goes_on_at_the_next_one(tmp_path: Path, away_s: float) -> None:
    model = save({"w": np.zeros(200_000, np.float32)})
    objects = SlowObjects(model, PACKAGE)

    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.train(1, base_model=digest_of(model))
        await objects.begun.wait()
        async with asyncio.timeout(20):
            state_dir = network.settings.state_dir
            while sum(part.stat().st_size for part in state_dir.rglob("*.part")) < 100_000:  # noqa: ASYNC110 - no event either
                await asyncio.sleep(0.005)
        await network.combiner.close()
        await asyncio.sleep(away_s)  # the broken transfer is tried again meanwhile, on a connection that is given up
        await network.combiner.open()
        await network.combiner.heard("attached")
        await network.learner.begun.wait()
        network.combiner.train(1, base_model=digest_of(model))
        await network.combiner.heard("arrived")
        assert len(network.combiner.calls.updates[0]) == 800_000
        assert objects.offsets == [100_000]

    story(tmp_path, told, objects=objects)


def test_an_upload_that_its_combiner_s_end_cut_is_sent_again_when_asked_for(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.calls.gate.clear()  # it takes its time to judge
        network.combiner.train(1)
        await network.combiner.heard("judging")
        await network.combiner.close()
        network.combiner.calls.gate.set()
        network.combiner.calls.updates.clear()
        await network.combiner.open()
        await network.combiner.heard("attached")
        network.combiner.train(2, attempt=2)
        assert (await network.combiner.heard("arrived")).generation == 2
        assert len(network.learner.trained) == 1

    story(tmp_path, told)


# ---- refused


@pytest.mark.usefixtures("soon_again")
def test_a_token_that_is_replaced_is_used_without_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.settings.token_file.unlink()
        network.combiner.send(GoElsewhere("moved"))
        await asyncio.sleep(0.6)  # it finds no token at first
        network.settings.token_file.write_text("viewer:nobody\n")
        await asyncio.sleep(1.0)  # then one of another role
        write_token_file(network.settings.token_file, TokenFile("client:renewed", a_join()), replace=True)
        hello = await network.combiner.heard("attached")
        request, caller = await last_assignment(network)
        assert caller.name == "renewed"  # of the file, only the first line and the chain are shown
        assert request.chain == hello.chain
        assert verify_chain(request.chain, TRUST).client_id.hex() == request.client == hello.client

    story(tmp_path, told)
    out = capsys.readouterr().out
    assert out.count("CredentialUnreadable") == 1


async def last_assignment(network: Network) -> Any:
    queue, found = network.reducer.calls.heard, None
    while not queue.empty():
        _, found = queue.get_nowait()
    return found


@pytest.mark.parametrize(
    "refusal",
    [
        NameTaken("another client is connected as anna", remedy="Give this client another name."),
        NoCombiner("no combiner has room", remedy="Start a combiner, or wait."),
    ],
)
@pytest.mark.usefixtures("soon_again")
def test_why_there_is_no_place_is_told_once_with_what_to_do_and_it_is_asked_for_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refusal: PeerFault
) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.reducer.calls.refusal = refusal
        network.combiner.send(GoElsewhere("moved"))
        while network.reducer.calls.requests < 5:  # noqa: ASYNC110 - counted by the reducer
            await asyncio.sleep(0.01)
        network.reducer.calls.refusal = None
        await network.combiner.heard("attached")

    story(tmp_path, told)
    lines = [line for line in capsys.readouterr().out.splitlines() if refusal.code in line]
    assert len(lines) == 1
    assert refusal.remedy in lines[0]


@pytest.mark.usefixtures("soon_again")
def test_an_unreachable_network_is_told_once_however_its_words_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts: asyncio.Queue[None] = asyncio.Queue()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.put_nowait(None)
        writer.transport.abort()

    async def main() -> None:
        nobody = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        settings = client_settings(tmp_path, nobody.sockets[0].getsockname()[1])
        async with nobody, asyncio.timeout(60), running_client(settings, AddingLearner()):
            for _ in range(5):
                await attempts.get()

    asyncio.run(main())
    assert capsys.readouterr().out.count("not attached") == 1


# ---- what the site runs


def test_a_package_that_the_site_does_not_list_is_refused_before_anything_is_downloaded(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        other = digest_of(b"another package")
        network.combiner.train(1, package=other)
        failed = await network.combiner.told(TaskFailed)
        assert failed.reason == f"PackageNotAllowed: this site does not run package {other}"
        network.combiner.validate(2, package=other)
        assert (await network.combiner.told(TaskFailed)).reason.startswith("PackageNotAllowed: ")
        assert list((network.settings.state_dir / "models").iterdir()) == []
        assert network.learner.trained == network.learner.validated == []
        network.combiner.train(3)
        await network.combiner.heard("arrived")

    story(tmp_path, told, allowed_packages=(digest_of(PACKAGE),))


# ---- faults of the work


@pytest.mark.parametrize("release_logs", [True, False])
def test_a_failed_training_is_told_with_its_log_only_where_the_site_lets_it_go(
    tmp_path: Path, release_logs: bool
) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.learner.fault = EntryPointFailed("train", None, "row 17 of ward 3", error="failed: patient Doe")
        network.combiner.train(1)
        failed = await network.combiner.told(TaskFailed)
        assert failed.reason.startswith("EntryPointFailed: ")
        assert (failed.log == "row 17 of ward 3") is release_logs
        assert ("Doe" in failed.reason) is release_logs
        network.combiner.validate(2)
        failed = await network.combiner.told(TaskFailed)
        assert failed.generation == 2
        if not release_logs:
            assert not [said for said in network.combiner.said if "ward" in repr(said) or "Doe" in repr(said)]
        network.learner.fault = DiskFull("no room in /data/ward-3")
        network.combiner.train(3, round_number=2)
        failed = await network.combiner.told(TaskFailed)
        assert failed.reason.startswith("DiskFull: ")
        assert ("ward-3" in failed.reason) is release_logs

        network.learner.fault = None  # the client lives on
        network.combiner.train(4, round_number=3)
        await network.combiner.heard("arrived")

    story(tmp_path, told, release_logs=release_logs)


@pytest.mark.parametrize("release", ["none", "mean", "client"])
def test_metrics_leave_as_far_as_the_site_releases_them(tmp_path: Path, release: str) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.train(1)
        await network.combiner.heard("arrived")
        network.combiner.validate(2)
        result = await network.combiner.told(ValidationResult)
        (header,) = network.combiner.headers
        for message in (header, result):
            assert message.release == release
            assert message.metrics == ({} if release == "none" else {"secret-loss": 0.25})
        if release == "none":
            everything = repr([network.combiner.headers, network.combiner.said])
            assert "secret" not in everything
            assert "0.25" not in everything

    story(tmp_path, told, metrics_release=release)


def test_a_model_that_was_written_into_is_never_a_base_again(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.train(1)
        await network.combiner.heard("arrived")
        cached = network.settings.state_dir / "models" / f"{digest_of(MODEL)}.safetensors"
        cached.write_bytes(save({"w": np.full(6, 9.0, np.float32), "steps": np.array([3], np.int64)}))
        network.combiner.train(2, round_number=2)
        await network.combiner.heard("arrived")
        assert network.learner.bases == [0.0, 0.0]
        assert cached.read_bytes() == MODEL

    story(tmp_path, told)


def test_models_are_kept_within_bounds(tmp_path: Path) -> None:
    models = [save({"w": np.full(6, value, np.float32)}) for value in range(6)]

    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        for generation, model in enumerate(models, start=1):
            network.combiner.train(generation, round_number=generation, base_model=digest_of(model))
            await network.combiner.heard("arrived")
        assert network.learner.bases == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        assert len(list((network.settings.state_dir / "models").iterdir())) == 2

    story(tmp_path, told, objects=MemoryObjects(*models, PACKAGE))


def test_an_object_that_the_combiner_does_not_have_fails_the_task_by_name(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        network.combiner.train(1, base_model=digest_of(b"never stored"))
        assert (await network.combiner.told(TaskFailed)).reason.startswith("ObjectGone: ")
        network.combiner.train(2, round_number=2)
        await network.combiner.heard("arrived")

    story(tmp_path, told)


# ---- start and end


def test_an_earlier_life_s_work_is_cleared_and_its_learner_is_ended(tmp_path: Path) -> None:
    state = tmp_path / "anna" / "state"
    for left in ("updates/update-old", "scratch/run-old/model"):
        (state / left).parent.mkdir(parents=True)
        (state / left).write_text("left by a crash")
    learners: list[AddingLearner] = []

    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        assert list((state / "updates").iterdir()) == []
        assert list((state / "scratch").iterdir()) == []
        learners.append(network.learner)

    story(tmp_path, told)
    assert learners[0].closed


def test_a_second_client_with_the_same_state_folder_is_refused_by_name(tmp_path: Path) -> None:
    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        with pytest.raises(StateFolderInUse):
            await run_client(network.settings, asyncio.Event(), AddingLearner())

    story(tmp_path, told)


@pytest.fixture(autouse=True)
def _plain_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
