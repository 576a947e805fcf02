import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fedn_py.execution.entry_points import EntryPointFailed, EntryPointMissing, EntryPointTimedOut
from fedn_py.execution.environment import entry_point_variables, own_environment
from fedn_py.execution.worker import ResidentWorker

SCRIPT = """
import os, sys, time
from fedn_py.package import serve
served = []
def count(): served.append(1); print("served", len(served))
def fail(): print("about to fail"); raise ValueError("bad luck")
def crash(): print("crashing", flush=True); os._exit(7)
def hang(): print("hanging", flush=True); time.sleep(600)
def close_channel(): os.closerange(3, 50); time.sleep(600)
def noisy(): sys.stdout.write("y" * 3_000_000)
serve({"count": count, "fail": fail, "crash": crash, "hang": hang, "close": close_channel, "noisy": noisy})
"""

Scenario = Callable[[ResidentWorker, Callable[..., Any]], Coroutine[Any, Any, None]]


def in_worker(folder: Path, scenario: Scenario, script: str = SCRIPT) -> None:
    async def main() -> None:
        (folder / "worker.py").write_text(script)
        python = own_environment()
        worker = ResidentWorker(
            ["python", "worker.py"],
            python=python,
            cwd=folder,
            environment=entry_point_variables(python, scratch=folder, data_path=None),
            log_bytes=1_000,
        )
        try:
            await scenario(
                worker, lambda name, timeout_s=30: worker.run(name, [], task_file=folder, timeout_s=timeout_s)
            )
        finally:
            await worker.close()

    asyncio.run(main())


def test_one_process_serves_task_after_task_and_each_has_its_own_log(tmp_path: Path) -> None:
    async def scenario(worker: ResidentWorker, run: Callable[..., Any]) -> None:
        await worker.warm_up()
        logs = [(await run("count")).log for _ in range(3)]
        assert logs == ["served 1\n", "served 2\n", "served 3\n"]

    in_worker(tmp_path, scenario)


def test_an_exception_is_a_failure_and_the_worker_lives_on(tmp_path: Path) -> None:
    async def scenario(worker: ResidentWorker, run: Callable[..., Any]) -> None:
        await run("count")
        with pytest.raises(EntryPointFailed, match="ValueError: bad luck") as fault:
            await run("fail")
        assert fault.value.log.startswith("about to fail\n")
        assert "Traceback" in fault.value.log
        assert (await run("count")).log == "served 2\n"

    in_worker(tmp_path, scenario)


@pytest.mark.parametrize("name", ["crash", "close"])
def test_a_worker_that_dies_or_closes_its_channel_is_a_failure_and_is_started_again(tmp_path: Path, name: str) -> None:
    async def scenario(worker: ResidentWorker, run: Callable[..., Any]) -> None:
        with pytest.raises(EntryPointFailed) as fault:
            await run(name)
        assert fault.value.exit_code in (7, None)
        assert (await run("count")).log == "served 1\n"

    in_worker(tmp_path, scenario)


def test_a_task_over_its_time_ends_the_worker_which_is_started_again(tmp_path: Path) -> None:
    async def scenario(worker: ResidentWorker, run: Callable[..., Any]) -> None:
        await worker.warm_up()
        with pytest.raises(EntryPointTimedOut) as fault:
            await run("hang", timeout_s=1)
        assert fault.value.log == "hanging\n"
        assert (await run("count")).log == "served 1\n"

    in_worker(tmp_path, scenario)


def test_a_cancelled_task_ends_the_worker(tmp_path: Path) -> None:
    async def scenario(worker: ResidentWorker, run: Callable[..., Any]) -> None:
        await worker.warm_up()
        task = asyncio.create_task(run("hang"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await run("count")).log == "served 1\n"

    in_worker(tmp_path, scenario)


def test_a_noisy_task_does_not_block_and_keeps_a_bounded_log(tmp_path: Path) -> None:
    async def scenario(worker: ResidentWorker, run: Callable[..., Any]) -> None:
        assert len((await run("noisy")).log) == 1_006

    in_worker(tmp_path, scenario)


@pytest.mark.parametrize(
    ("script", "log"),
    [
        ("raise SystemExit('no library')", "no library\n"),
        ("import no_such_library", "No module named 'no_such_library'"),
    ],
)
def test_a_worker_that_does_not_start_is_a_failure_with_its_log(tmp_path: Path, script: str, log: str) -> None:
    async def scenario(worker: ResidentWorker, run: Callable[..., Any]) -> None:
        with pytest.raises(EntryPointFailed, match="worker") as fault:
            await worker.warm_up()
        assert log in fault.value.log

    in_worker(tmp_path, scenario, script)


@pytest.mark.parametrize("answer", ["hello", "[1]", '{"ready": false}', "x" * 200_000, "[" * 50_000])
def test_a_worker_that_does_not_keep_to_the_protocol_is_a_failure(tmp_path: Path, answer: str) -> None:
    async def scenario(worker: ResidentWorker, run: Callable[..., Any]) -> None:
        with pytest.raises(EntryPointFailed, match="protocol"):
            await run("count")

    in_worker(tmp_path, scenario, f"import time\nprint({answer!r}, flush=True)\ntime.sleep(600)")


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        worker = ResidentWorker(["./nothing"], python=own_environment(), cwd=tmp_path, environment={})
        with pytest.raises(EntryPointMissing, match="nothing"):
            await worker.warm_up()

    asyncio.run(scenario())
