"""``bench``: how fast the parts are on this machine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from fedn_py.cli.bench_tables import (
    print_idle,
    print_limits,
    print_points,
    print_rounds,
    print_scale,
    progressing,
    stopped_in_order,
)
from fedn_py.cli.options import JsonOption, group
from fedn_py.cli.output import hint, print_data, print_facts, print_table

benches = group("Measure how fast the parts are on this machine.")

KeepOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Keep the network's folder (logs, state); absent or empty before.")
]

OutOption = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder of the figures, and of a page that they are put into.")
]


@benches.callback()
def about() -> None:
    """Measure how fast the parts are on this machine."""


@benches.command("round")
def time_rounds(
    *,
    clients: Annotated[int, typer.Option(min=1, help="Clients that take part.")] = 10,
    params: Annotated[int, typer.Option(min=1, help="Weights of the model, float32.")] = 250_000,
    combiners: Annotated[int, typer.Option(min=1, help="Combiners.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that are timed; one more warms up.")] = 5,
    masking: Annotated[Literal["none", "pet"], typer.Option(help="How updates are hidden.")] = "none",
    slots: Annotated[
        int, typer.Option(min=0, metavar="K", help="Masked: parts of each cell's masks; 0: by the cell's size.")
    ] = 2,
    replicas: Annotated[
        int, typer.Option(min=0, metavar="R", help="Masked: clients that hold each part; 0: by the cell's size.")
    ] = 1,
    client_processes: Annotated[int, typer.Option(min=1, help="Processes that the clients share.")] = 2,
    tls: Annotated[bool, typer.Option("--tls/--no-tls", help="With TLS as in production, or without to compare.")] = (
        True
    ),
    lean: Annotated[
        bool, typer.Option("--lean", help="Clients that hold no model in memory and share its file, for huge ones.")
    ] = False,
    line: Annotated[
        int,
        typer.Option(
            min=0, metavar="BYTES", help="What each client's line carries a second, each way; 0: as much as loopback."
        ),
    ] = 0,
    keep: KeepOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a round of a whole network on this machine: time, phases, CPU, memory, bytes, and what limits it.

    Example: fedn-py bench round --clients 10 --params 25000000 --masking pet
    """
    from fedn_py.bench.plan import RoundBench
    from fedn_py.bench.rounds import measure_rounds

    bench = RoundBench(
        clients=clients,
        params=params,
        combiners=combiners,
        rounds=rounds,
        masking=masking,
        slots=slots,
        replicas=replicas,
        client_processes=client_processes,
        tls=tls,
        lean=lean,
        line_bytes_per_s=line,
    )
    with stopped_in_order(), _folder(keep) as folder, progressing() as tell:
        found = measure_rounds(bench, folder, tell)
    print_data(found, lambda: print_rounds(found), as_json=as_json)


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """Give an empty folder."""
    from fedn_py.bench.faults import ImpossibleBench
    from fedn_py.bench.scratch import scratch_folder

    if kept is None:
        with scratch_folder() as folder:
            yield folder
        return
    if kept.exists() and (not kept.is_dir() or any(kept.iterdir())):
        raise ImpossibleBench(
            f"{kept} is not an empty folder, and what lies in it must not mix with what is measured",
            remedy="Give --keep a folder that is empty or does not exist yet.",
        )
    kept.mkdir(parents=True, exist_ok=True)
    yield kept


@benches.command("limits")
def limits(*, as_json: JsonOption = False) -> None:
    """Measure what this machine can do at best: memory, hashes, TCP, gRPC with TLS and without, the disk.

    Example: fedn-py bench limits
    """
    from fedn_py.bench.limits import measure_limits

    with stopped_in_order():
        found = measure_limits()
    print_data(found, lambda: print_limits(found), as_json=as_json)


@benches.command("idle")
def idle(
    *,
    clients: Annotated[int, typer.Option(min=1, help="Clients that are attached to one combiner.")] = 1_000,
    client_processes: Annotated[int, typer.Option(min=1, help="Processes that the clients share.")] = 4,
    heartbeat_s: Annotated[float, typer.Option(min=1.0, help="Seconds between signs of life.")] = 10.0,
    keep: KeepOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how long a task takes to very many attached clients and back, and what each costs the combiner.

    Example: fedn-py bench idle --clients 10000
    """
    from fedn_py.bench.idle import IdleBench, measure_idle

    bench = IdleBench(clients=clients, client_processes=client_processes, heartbeat_s=heartbeat_s)
    with stopped_in_order(), _folder(keep) as folder, progressing() as tell:
        found = measure_idle(bench, folder, tell)
    print_data(found, lambda: print_idle(found), as_json=as_json)


@benches.command("targets")
def targets(
    *,
    only: Annotated[
        list[str] | None, typer.Option(metavar="WORK", help='One size, such as "10 x 1 MB"; again for more.')
    ] = None,
    out: OutOption = Path("bench"),
    as_json: JsonOption = False,
) -> None:
    """Measure the five sizes of work that a round has a target for, plain and masked; keep each as it comes.

    Example: fedn-py bench targets --only "10 x 1 MB"
    """
    from fedn_py.bench.targets import NAMES, measure_targets

    names = _chosen(only, NAMES, NAMES)
    with stopped_in_order(), progressing() as tell:
        found = measure_targets(names, out, tell)
    print_data(found, lambda: print_points(found), as_json=as_json)


def _chosen(only: Sequence[str] | None, known: Sequence[str], usual: Sequence[str]) -> list[str]:
    for name in only or ():
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of: {', '.join(known)}", param_hint="--only")
    return list(only or usual)


@benches.command("scale")
def scale(
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERIES",
            help="clients, params, combiners, memory, idle or large; again for more. Default: all but large.",
        ),
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Measure only what the folder has no figures of.")] = False,
    out: OutOption = Path("bench"),
    as_json: JsonOption = False,
) -> None:
    """Measure how a round's time grows with clients, model and combiners; keep each point, draw all.

    Beside these: memory with each client in a process of its own, thousands of idle clients on one combiner, and when
    asked for, 40 clients x 1 GB: a quarter of an hour and 55 GB of disk.

    Example: fedn-py bench scale --only clients
    """
    from fedn_py.bench.scale import SERIES, USUAL, measure_scale

    chosen = _chosen(only, SERIES, USUAL)
    with stopped_in_order(), progressing() as tell:
        found = measure_scale(chosen, out, tell, missing=missing)
    print_data(found, lambda: print_scale(found), as_json=as_json)


@benches.command("web")
def web(
    *,
    clients: Annotated[int, typer.Option(min=1, help="Clients in the registry.")] = 1_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the session.")] = 200,
    in_round: Annotated[int, typer.Option(min=1, help="Clients in each of them.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Measure how long the reducer takes to make each of its web pages.

    Example: fedn-py bench web --clients 1000 --rounds 200
    """
    import asyncio

    from fedn_py.bench.web import AIM_MS, History, measure, over_aim
    from fedn_py.runtime.logging import configure_logging

    configure_logging("console", "error", fields={})
    found = asyncio.run(measure(History(clients, rounds, in_round)))
    slow = over_aim(found)

    def human() -> None:
        rows = [
            (
                name,
                f"{row['median_ms']:.0f}",
                f"{row['max_ms']:.0f}",
                f"{row['bytes'] / 1000:,.0f}",
                "over" if name in slow else "",
            )
            for name, row in found.items()
        ]
        print_table(("page", "median ms", "max ms", "kB", "aim"), rows, empty="nothing was measured")
        aim = f"each page under {AIM_MS:.0f} ms at its median, with 1,000 clients and 200 rounds, on a machine at rest"
        print_facts([("aim", aim), ("over it", f"{len(slow)} of {len(found)} pages")])
        hint("fedn-py bench web --json")

    print_data(found, human, as_json=as_json)


@benches.command("masking")
def masking(
    params: Annotated[int, typer.Option(min=1_000, help="Weights of the update.")] = 25_000_000,
    as_json: JsonOption = False,
) -> None:
    """Measure masking on one thread: CPU time, median of five.

    Example: fedn-py bench masking --params 25000000
    """
    from fedn_py.bench.masking import measure

    found = measure(params)

    def human() -> None:
        rows = [
            (name, f"{row['ns_per_weight']:.2f}", f"{row['mb_per_s']:,.0f}")
            for name, row in found.items()
            if isinstance(row, dict)
        ]
        print_table(("part", "ns per weight", "MB/s of float32"), rows, empty="nothing was measured")
        facts = [(name, f"{value:,.2f}") for name, value in found.items() if not isinstance(value, dict)]
        print_facts(facts)
        hint("fedn-py bench masking --json")

    print_data(found, human, as_json=as_json)
