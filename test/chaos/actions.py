"""What is done to networks while a session runs; each of these plays a trial of the tables."""

import signal
import time
from collections.abc import Sequence

from chaos.crew import exists
from chaos.links import Weather
from chaos.network import is_active
from chaos.stage import HURT, Stage

THIS_ROUND = f"/{HURT:06d}"
MIB = 1024 * 1024
CUT_AFTER = (2_000, MIB, MIB + 1, 2 * MIB)
"""Bytes of an upload, and what goes with it, after which its connection is cut, each counted from the cut before."""

FAR_LINK, FAR_CLIENT = "far to combiner-2", "client-1"


# ---- the reducer


def reducer_killed_at(stage: Stage, point: str, match: str = THIS_ROUND, nth: int = 1) -> None:
    """Kill the reducer at a point and start it again."""
    stage.arm("reducer", point=point, match=match, nth=nth)
    stage.killed_at("reducer")


def reducer_killed_while_clients_train(stage: Stage) -> None:
    stage.await_training()
    stage.kill("reducer")
    stage.start("reducer")


# ---- combiners


def combiner_killed_while_clients_train(stage: Stage) -> None:
    stage.await_training()
    stage.kill("combiner-1")


def combiner_killed_at(stage: Stage, point: str) -> None:
    """Kill whichever combiner comes to a point first, behind the first commit, and start it again."""
    one_killed_at(stage, point, stage.network.combiners)


def any_client_killed_at(stage: Stage, point: str) -> None:
    """Kill whichever client comes to a point first, behind the first commit, and start it again."""
    one_killed_at(stage, point, stage.network.clients)


def one_killed_at(stage: Stage, point: str, names: Sequence[str]) -> None:
    """Kill the first of some processes that comes to a point behind the first commit, and start it again."""
    stage.await_commit(HURT - 1)
    stage.arm(*names, point=point)
    stage.killed_at(*names)


def stopped_for_a_while(stage: Stage, name: str) -> None:
    stage.await_training()
    stage.stop_still(name)
    others = [client for client in stage.network.clients if client != name]
    stage.open_gates(*others)
    stage.await_commit(HURT)
    stage.wake(name)


# ---- clients


def client_killed_while_it_trains(stage: Stage) -> None:
    trainings = stage.await_training()
    stage.kill("client-3")
    stage.until("the training has ended with its client", lambda: not exists(trainings["client-3"]))
    stage.start("client-3")
    stage.await_status("all are attached", lambda status: status.clients == len(stage.network.clients))


def client_killed_while_it_uploads(stage: Stage) -> None:
    stage.await_training()
    stage.arm("client-3", point="upload under way", nth=4)
    stage.open_gates()
    stage.killed_at("client-3")


def client_killed_at(stage: Stage, point: str) -> None:
    stage.await_training()
    stage.arm("client-3", point=point)
    stage.open_gates()
    stage.killed_at("client-3")


# ---- links


def upload_cut(stage: Stage) -> None:
    stage.await_training()
    before = stage.network.links.cuts(FAR_LINK)
    stage.weather(FAR_LINK, Weather(cut_after=CUT_AFTER))
    stage.open_gates()
    stage.until("the upload was cut", lambda: stage.network.links.cuts(FAR_LINK) == before + len(CUT_AFTER))


def one_byte_a_second(stage: Stage) -> None:
    stage.await_training()
    stage.weather(FAR_LINK, Weather(bytes_per_s=1.0))
    stage.open_gates()
    stage.await_commit(HURT)


def held_until_noticed(stage: Stage, way: Weather) -> None:
    stage.await_training()
    stage.weather("combiner-1 to reducer", way)
    stage.await_event("combiner.lost", "combiner-1")
    stage.open_gates()
    stage.await_commit(HURT)


def flapping(stage: Stage) -> None:
    stage.await_training()
    for _ in range(5):
        for link in ("combiner-1", "combiner-2", "combiner-1 to reducer"):
            stage.history.fault(f"{link} cut")
            stage.network.links.cut(link)
        stage.await_status("combiners are back", lambda status: status.combiners == 2)
    stage.open_gates()


# ---- stores


def store_killed_while_clients_train(stage: Stage, name: str) -> None:
    stage.await_training()
    stage.kill_store(name)
    stage.open_gates()
    stage.await_store_away(name)
    stage.start_store(name)


def store_killed_at(stage: Stage, name: str, point: str, match: str = "") -> None:
    """Kill a store while the reducer stands still at a point."""
    stage.await_training()
    stage.arm("reducer", point=point, match=match, stop=True)
    stage.open_gates()
    stage.await_hit("reducer")
    stage.kill_store(name)
    stage.wake("reducer")
    stage.await_store_away(name)
    stage.start_store(name)


def answer_lost_at_commit(stage: Stage) -> None:
    stage.arm("reducer", point="commit unwritten", match=THIS_ROUND, stop=True)
    stage.await_hit("reducer")
    stage.weather("mongodb", Weather(held=frozenset({"down"})))
    stage.wake("reducer")
    stage.await_commit(HURT)
    stage.history.fault("mongodb cut")
    stage.network.links.cut("mongodb")
    stage.weather("mongodb", Weather())


def mongodb_slow(stage: Stage) -> None:
    stage.await_training()
    stage.weather("mongodb", Weather(latency_s=1.5))
    stage.open_gates()
    stage.await_commit(HURT)


def store_stopped(stage: Stage, name: str) -> None:
    stage.await_training()
    stage.send_store(name, signal.SIGSTOP)
    stage.open_gates()
    stage.await_store_away(name)
    stage.send_store(name, signal.SIGCONT)


# ---- asked to end


def terminated(stage: Stage, name: str) -> None:
    stage.await_training()
    stage.terminate(name)
    stage.start(name)


# ---- a second reducer


def other_than(stage: Stage, name: str) -> str:
    """Return the other reducer."""
    return next(one for one in stage.network.reducers if one != name)


def await_takeover(stage: Stage, by: str) -> None:
    """Wait until a reducer is active, and see the network through it."""
    began = time.monotonic()
    stage.until(f"{by} has taken over", lambda: is_active(stage.network.reducers[by]))
    stage.notes.append(f"{by} took over in {time.monotonic() - began:.1f} s")
    stage.network.look_through(by)


def active_killed_at(stage: Stage, point: str | None) -> None:
    """Kill the active reducer at a point, or while clients train, and start it again when the other one is active."""
    active = stage.network.active()
    if point is None:
        stage.await_training()
        stage.kill(active)
    else:
        stage.arm(active, point=point, match=THIS_ROUND)
        stage.await_hit(active)
        stage.network.crew.ended(active)
    await_takeover(stage, other_than(stage, active))
    stage.start(active)


def active_stopped_at(stage: Stage, point: str) -> None:
    """Have the active reducer stand still at a point until the other one has committed, and wake it."""
    active = stage.network.active()
    stage.arm(active, point=point, match=THIS_ROUND, stop=True)
    stage.await_hit(active)
    await_takeover(stage, other_than(stage, active))
    stage.await_commit(HURT)
    stage.wake(active)
    stage.notes.append(f"{active} ended with {stage.network.crew.ended(active)}")


def active_terminated(stage: Stage) -> None:
    active = stage.network.active()
    stage.await_training()
    stage.terminate(active)
    await_takeover(stage, other_than(stage, active))
    stage.start(active)


def stopped_and_woken_twice(stage: Stage) -> None:
    stage.await_training()
    for _ in range(2):
        active = stage.network.active()
        stage.stop_still(active)
        await_takeover(stage, other_than(stage, active))
        stage.wake(active)
        stage.network.crew.ended(active)
        stage.start(active)
