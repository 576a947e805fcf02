"""``bench``: how fast the parts are on this machine."""

from typing import Annotated

import typer

from fedn_py.cli.options import JsonOption, group
from fedn_py.cli.output import hint, print_data, print_facts, print_table

benches = group("Measure how fast the parts are on this machine.")


@benches.callback()
def about() -> None:
    """Measure how fast the parts are on this machine."""


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
