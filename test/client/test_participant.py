"""Taking part from a process of one's own: whatever the participant does, the fault has a name and the client lives."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_client import Network, story, values_of
from safetensors.numpy import save_file

from fedn_py.client import Participant
from fedn_py.client.participant import Model, ParticipantFailed, ParticipantLearner, ParticipantTask
from fedn_py.client.ports import Learned, LearningTask
from fedn_py.errors import FednError
from fedn_py.identity import Digest, SessionId
from fedn_py.protocol.messages import TaskFailed, ValidationResult

TASK = LearningTask(SessionId("5e55" * 4), 3, 2, Digest("f" * 64), '{"rate": 0.5}', 60.0)


class Site(Participant):
    """Returns what it is told to."""

    def __init__(self, returns: Callable[[Model], Any]) -> None:
        self.returns = returns
        self.tasks: list[ParticipantTask] = []
        self.stopped = 0

    def train(self, model: Model, task: ParticipantTask) -> Any:
        self.tasks.append(task)
        return self.returns(model)

    def validate(self, model: Model, task: ParticipantTask) -> Any:
        self.tasks.append(task)
        return self.returns(model)

    def on_stop(self) -> None:
        self.stopped += 1


async def never(digest: Digest, into: Path) -> None:
    raise AssertionError("a participant needs no package")


def a_base(folder: Path) -> Path:
    save_file({"w": np.zeros((2, 3), np.float32), "steps": np.array([3], np.int64)}, folder / "base.safetensors")
    return folder / "base.safetensors"


def trained(folder: Path, returns: Callable[[Model], Any]) -> Learned:
    learner = ParticipantLearner(Site(returns))
    return asyncio.run(learner.train(a_base(folder), folder / "new.safetensors", TASK, never))


def validated(folder: Path, returns: Callable[[Model], Any]) -> Learned:
    return asyncio.run(ParticipantLearner(Site(returns)).validate(a_base(folder), TASK, never))


def test_a_participant_is_given_the_model_and_the_task_and_its_model_is_kept(tmp_path: Path) -> None:
    site = Site(lambda model: ({**model, "w": model["w"] + np.float32(1)}, np.int64(7), {"loss": np.float32(0.5)}))
    learner = ParticipantLearner(site)
    learned = asyncio.run(learner.train(a_base(tmp_path), tmp_path / "new.safetensors", TASK, never))
    assert learned == Learned(7, {"loss": 0.5})
    assert type(learned.samples) is int
    assert site.tasks == [ParticipantTask(TASK.session, 3, 2, {"rate": 0.5})]
    assert learned.tensors is not None
    assert (learned.tensors["w"] == 1).all()
    assert learned.tensors["steps"] == 3
    assert validated(tmp_path, lambda _: ({"accuracy": 1}, 7)) == Learned(7, {"accuracy": 1.0})


def leave(_: Model) -> Any:
    raise SystemExit(3)


def stop(_: Model) -> Any:
    raise StopIteration


def nan(model: Model) -> Any:
    return {**model, "w": model["w"] * np.float32("nan")}, 7, {}


WRONG: dict[str, tuple[Callable[[Model], Any], str]] = {
    "raises": (lambda model: model["no such tensor"], "raised KeyError"),
    "exits": (leave, "raised SystemExit"),
    "stops": (stop, "raised StopIteration"),
    "nothing": (lambda _: None, "NoneType"),
    "two of three": (lambda model: (model, 7), "tuple"),
    "a list": (lambda model: [model, 7, {}], "list"),
    "no model": (lambda _: ([1, 2], 7, {}), "tuple"),
    "an empty model": (lambda _: ({}, 7, {}), "no"),
    "words for numbers": (lambda model: ({**model, "w": "words"}, 7, {}), "'w'"),
    "a number for a name": (lambda model: ({**model, 5: model["w"]}, 7, {}), "5"),
    "a missing tensor": (lambda model: ({"w": model["w"]}, 7, {}), "steps"),
    "another shape": (lambda model: ({**model, "w": np.zeros(7, np.float32)}, 7, {}), "'w'"),
    "another dtype": (lambda model: ({**model, "w": np.zeros((2, 3))}, 7, {}), "'w'"),
    "not a number": (nan, "'w'"),
    "a bool as samples": (lambda model: (model, True, {}), "bool"),
    "a float as samples": (lambda model: (model, 7.0, {}), "float"),
    "negative samples": (lambda model: (model, -7, {}), "-7"),
    "no samples": (lambda model: (model, 0, {}), "0"),
    "text as samples": (lambda model: (model, "7", {}), "str"),
    "no metrics": (lambda model: (model, 7, None), "NoneType"),
    "a list as metrics": (lambda model: (model, 7, [0.5]), "list"),
    "a metric that is no number": (lambda model: (model, 7, {"loss": "low"}), "loss"),
    "a metric that is not finite": (lambda model: (model, 7, {"loss": float("nan")}), "loss"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_a_training_must_not_do_is_a_fault_with_a_name(tmp_path: Path, kind: str) -> None:
    returns, said = WRONG[kind]
    with pytest.raises(FednError) as fault:
        trained(tmp_path, returns)
    assert said in fault.value.message
    assert fault.value.remedy


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        (lambda model: model["no such tensor"], "raised KeyError"),
        (leave, "raised SystemExit"),
        (lambda _: None, "NoneType"),
        (lambda _: {"accuracy": 0.5}, "dict"),
        (lambda _: (7, {"accuracy": 0.5}), "dict"),
        (lambda _: ({"accuracy": 0.5}, True), "bool"),
        (lambda _: ({"accuracy": 0.5}, -1), "-1"),
        (lambda _: ({"accuracy": True}, 7), "accuracy"),
    ],
)
def test_what_a_validation_must_not_do_is_a_fault_with_a_name(
    tmp_path: Path, returns: Callable[[Model], Any], said: str
) -> None:
    with pytest.raises(FednError) as fault:
        validated(tmp_path, returns)
    assert said in fault.value.message


def test_the_client_lives_on_after_every_fault_and_takes_leave_once(tmp_path: Path) -> None:
    sites: list[Site] = []

    def learner() -> ParticipantLearner:
        sites.append(Site(lambda model: None))
        return ParticipantLearner(sites[0])

    async def told(network: Network) -> None:
        await network.combiner.heard("attached")
        generation = 0
        for returns, _ in WRONG.values():
            generation += 1
            sites[0].returns = returns
            network.combiner.train(generation, round_number=generation)
            assert (await network.combiner.told(TaskFailed)).generation == generation
        sites[0].returns = leave
        network.combiner.validate(generation + 1)
        assert (await network.combiner.told(TaskFailed)).reason.startswith("ParticipantFailed: ")

        sites[0].returns = lambda model: ({**model, "w": model["w"] + np.float32(2)}, 7, {})
        network.combiner.train(generation + 2, round_number=generation + 2)
        await network.combiner.heard("arrived")
        assert values_of(network.combiner.calls.updates[0]) == [2.0] * 6
        sites[0].returns = lambda model: ({"accuracy": 0.5}, 7)
        network.combiner.validate(generation + 3)
        assert (await network.combiner.told(ValidationResult)).metrics == {"accuracy": 0.5}

    story(tmp_path, told, learner=learner)
    assert sites[0].stopped == 1


def test_a_call_that_nobody_waits_for_any_more_ends_before_the_next_one_begins(tmp_path: Path) -> None:
    release, inside, most = threading.Event(), threading.Semaphore(0), [0, 0]

    def slowly(model: Model) -> Any:
        most[0] += 1
        most[1] = max(most)
        inside.release()
        release.wait(20)
        most[0] -= 1
        return model, 7, {}

    async def told() -> None:
        base, learner = a_base(tmp_path), ParticipantLearner(Site(slowly))
        first = asyncio.create_task(learner.train(base, tmp_path / "1", TASK, never))
        await asyncio.to_thread(inside.acquire)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()  # at once: the client has better things to do
        second = asyncio.create_task(learner.train(base, tmp_path / "2", TASK, never))
        await asyncio.sleep(0.05)
        release.set()
        assert (await second).samples == 7

    asyncio.run(told())
    assert most == [0, 1]


def test_a_participant_that_does_not_end_keeps_no_process_from_ending(tmp_path: Path) -> None:
    release, inside = threading.Event(), threading.Semaphore(0)

    def endlessly(model: Model) -> Any:
        inside.release()
        release.wait(60)
        return model, 7, {}

    async def told() -> None:
        learner = ParticipantLearner(Site(endlessly))
        training = asyncio.create_task(learner.train(a_base(tmp_path), tmp_path / "new", TASK, never))
        await asyncio.to_thread(inside.acquire)
        training.cancel()
        await asyncio.gather(training, return_exceptions=True)
        await learner.close()

    asyncio.run(told())  # would wait for the training otherwise
    assert not release.is_set()
    release.set()


def test_a_leave_taking_that_raises_is_named(tmp_path: Path) -> None:
    class Sour(Participant):
        def on_stop(self) -> None:
            raise RuntimeError("no")

    with pytest.raises(ParticipantFailed, match="on_stop raised RuntimeError"):
        asyncio.run(ParticipantLearner(Sour()).close())
