import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedn_py.execution.entry_points import (
    EntryPointFailed,
    EntryPointMissing,
    EntryPointTimedOut,
    Finished,
    run_entry_point,
)
from fedn_py.execution.environment import entry_point_variables, own_environment

Run = Callable[..., Finished]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a Python script as an entry point."""

    def run_script(script: str, timeout_s: float = 60, log_bytes: int = 4_096) -> Finished:
        return asyncio.run(run_async(tmp_path, ["python", "-c", script], timeout_s, log_bytes))

    return run_script


async def run_async(cwd: Path, words: list[str], timeout_s: float = 60, log_bytes: int = 4_096) -> Finished:
    return await run_entry_point(
        "train",
        words,
        python=own_environment(),
        cwd=cwd,
        environment=entry_point_variables(own_environment(), scratch=cwd, data_path=None),
        timeout_s=timeout_s,
        log_bytes=log_bytes,
    )


def is_running(process_id: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def wait_until_gone(process_id: int) -> None:
    while is_running(
        process_id
    ):  # a process that has been killed takes a moment; one that has not, until the test's limit
        os.sched_yield()


def test_what_an_entry_point_prints_is_kept(run: Run) -> None:
    finished = run("import sys; print('out'); print('err', file=sys.stderr)")
    assert finished.log == "out\nerr\n"


def test_a_non_zero_exit_code_is_a_failure_with_the_log(run: Run) -> None:
    with pytest.raises(EntryPointFailed, match="exit code 3") as fault:
        run("print('no data here'); raise SystemExit(3)")
    assert (fault.value.exit_code, fault.value.log) == (3, "no data here\n")


def test_a_killed_process_is_a_failure_that_names_the_signal(run: Run) -> None:
    with pytest.raises(EntryPointFailed, match="SIGKILL") as fault:
        run("import os; os.kill(os.getpid(), 9)")
    assert fault.value.exit_code == -9


def test_an_entry_point_that_hangs_is_ended_with_all_that_it_started(run: Run, tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('child', 'w').write(str(child.pid))\n"
        "print('hanging', flush=True); time.sleep(600)\n"
    )
    with pytest.raises(EntryPointTimedOut) as fault:
        run(script, timeout_s=3)
    assert fault.value.log == "hanging\n"
    wait_until_gone(int((tmp_path / "child").read_text()))


def test_children_that_outlive_an_entry_point_are_ended(run: Run, tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('child', 'w').write(str(child.pid))\n"
    )
    run(script)
    wait_until_gone(int((tmp_path / "child").read_text()))


def test_a_child_that_leaves_the_group_and_keeps_the_pipe_open_does_not_hold_up_the_client(run: Run) -> None:
    script = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'], start_new_session=True)\n"
        "print('done')\n"
    )
    assert run(script, timeout_s=15).log == "done\n"


def test_of_a_hundred_megabytes_only_the_last_lines_are_kept(run: Run) -> None:
    finished = run(
        "import sys\nfor _ in range(100): sys.stdout.write('x' * 1_000_000)\nprint('the end')", log_bytes=1_000
    )
    assert finished.log.startswith("[...]\nxxx")
    assert finished.log.endswith("the end\n")
    assert len(finished.log) == 1_006


def test_control_characters_do_not_reach_whoever_reads_the_log(run: Run) -> None:
    assert run(r"print('\033[31mred\033[0m\x00\rstep 1\rstep 2')").log == "[31mred[0m\nstep 1\nstep 2\n"


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain.sh").write_text("not executable")
    for words in (["no-such-program"], ["./plain.sh"], ["./missing"]):
        with pytest.raises(EntryPointMissing, match=words[0].strip("./")):
            asyncio.run(run_async(tmp_path, words))


def test_a_program_that_cannot_be_run_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("#!/no/such/interpreter\n")
    (tmp_path / "broken").chmod(0o755)
    with pytest.raises(EntryPointFailed):
        asyncio.run(run_async(tmp_path, ["./broken"]))


def test_python_is_the_clients_own_and_first_on_the_path(run: Run) -> None:
    log = run("import shutil, sys; print(sys.executable); print(shutil.which('python'))").log.splitlines()
    assert log == [sys.executable, str(Path(sys.executable).parent / "python")]


def test_no_secret_and_no_open_file_of_the_client_reaches_a_package(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDN_MINIO_SECRET_KEY", "s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        log = run("import os; print(sorted(os.environ)); print(sorted(os.listdir('/proc/self/fd')))").log
    names, descriptors = log.splitlines()
    assert "s3cret" not in log
    assert "SECRET" not in names
    assert "OMP_NUM_THREADS" in names
    assert descriptors == "['0', '1', '2', '3']"  # 3 is the listing's own


def test_a_cancelled_run_ends_the_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        script = "import os, time; open('new', 'w').write(str(os.getpid())); os.rename('new', 'pid'); time.sleep(600)"
        task = asyncio.create_task(run_async(tmp_path, ["python", "-c", script]))
        while not (tmp_path / "pid").exists():  # noqa: ASYNC110  another process makes it
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    wait_until_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_package_ends_with_a_client_that_is_killed(tmp_path: Path) -> None:
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    client = (
        "import asyncio, os, pathlib, sys\n"
        "from fedn_py.execution.processes import start_process\n"
        "async def main():\n"
        f"    command = [sys.executable, '-c', {child!r}]\n"
        "    process = await start_process(command, cwd=pathlib.Path('.'), environment={})\n"
        "    while not process.log.text().endswith('\\n'): await asyncio.sleep(0.01)\n"
        "    print(process.log.text(), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )

    async def scenario() -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", client, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return int(out.split()[0])

    wait_until_gone(asyncio.run(scenario()))
