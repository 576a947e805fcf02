"""How benchmarks of rounds show themselves to people: what they did, phases, roles, and the limit beside it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fedn_py.bench.bounds import grown_bytes
from fedn_py.cli.output import note, print_facts, print_table, size

_ROLES = ("reducer", "combiner", "clients")


@contextmanager
def stopped_in_order() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end what was started, and then this command."""
    import typer

    from fedn_py.cli.exits import Exit
    from fedn_py.sandbox.stopping import Stopped, stoppable

    try:
        with stoppable():
            yield
    except Stopped:
        note("stopped: all processes of the benchmark have ended")
        raise typer.Exit(Exit.FAILED) from None


@contextmanager
def progressing() -> Iterator[Callable[[str], None]]:
    """Show what goes on: in one line that changes at a terminal, else line after line."""
    import sys

    if not sys.stderr.isatty():
        yield note
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


def _scheme(found: Mapping[str, Any]) -> str:
    k, r = (found[name] or "by size" for name in ("slots", "replicas"))
    return f"{found['masking']}, k {k}, r {r}"


def print_rounds(found: Mapping[str, Any]) -> None:
    """Print the figures of ``measure_rounds``."""
    hidden = "plain" if found["masking"] == "none" else f"masked ({_scheme(found)})"
    tls = "TLS" if found["tls"] else "no TLS"
    print_facts(
        [
            ("work", f"{found['clients']} clients x {_megabytes(found['model_bytes'])}, {hidden}, {tls}"),
            ("processes", f"combiners: {found['combiners']}, for the clients: {found['client_processes']}"),
            ("round", f"{found['median_s']:.3f} s (median of {found['rounds']}; {_span(found)})"),
            ("limit", f"{found['limit_s']:.3g} s: gRPC alone, models down and updates up, measured in this run"),
            ("ratio", f"{100 * found['ratio_to_limit']:.0f} % of the limit"),
            ("wire", f"{size(found['wire_bytes'])} a round on loopback, headers included"),
        ]
    )
    print_table(
        ("phase", "median s"), [(name, f"{s:.3f}") for name, s in found["phases_s"].items()], empty="no phase was timed"
    )
    print_table(
        ("role", "CPU s a round", "peak", "above idle", "without files", "above idle"),
        [_role(found, role) for role in _ROLES if role in found["cpu_s"]],
        empty="nothing ran",
    )
    note("peak: of that process of the role which grew most; above idle: in sizes of the model, of all clients in it")
    print_table(
        ("role", "empty", "idle", "above idle", "bound", ""),
        [_bounded(found, role) for role in _ROLES if role in found["cpu_s"]],
        empty="nothing ran",
    )
    note("empty: with no client yet; idle: with all of them attached; the bound: of what is above idle")
    print_limits(found["limits"], before=found["limits_before"], after=found["limits_after"])


def print_limits(limits: Mapping[str, float], **beside: Mapping[str, float]) -> None:
    """Print what a machine can do at best, and beside it the measurements that it is the best of."""
    rows = [
        (
            name.removesuffix("_mb_per_s").removesuffix("_ms").replace("_", " "),
            *(_measured(name, found[name]) for found in (limits, *beside.values())),
            _unit(name),
        )
        for name in limits
    ]
    print_table(("limit", "best" if beside else "measured", *beside, ""), rows, empty="nothing was measured")


def print_idle(found: Mapping[str, Any]) -> None:
    """Print the figures of ``measure_idle``."""
    print_facts(
        [
            ("clients", f"{found['clients']}, in {found['client_processes']} processes, on one combiner"),
            ("attached", f"all after {found['attached_s']:.1f} s; lost and attached again: {found['reconnected']}"),
            ("task", f"{found['tasked_s']:.3f} s from the order until the last client has it"),
            ("acknowledged", f"{found['acknowledged_s']:.3f} s from the order until the reducer knows of all"),
            ("memory", f"{size(found['combiner_bytes_a_client'])} of the combiner for each client"),
            (
                "at rest",
                f"{100 * found['combiner_cpu_idle']:.0f} % of a core, heartbeats each {found['heartbeat_s']:g} s",
            ),
        ]
    )


def print_points(points: Iterable[Mapping[str, Any]]) -> None:
    """Print benchmarks of rounds in one table, beside their targets where they have one."""
    print_table(
        ("work", "median s", "from", "to", "target s", "limit s", "ratio", ""),
        [
            (
                one["name"],
                f"{one['median_s']:.3f}",
                f"{one['min_s']:.3f}",
                f"{one['max_s']:.3f}",
                f"{one['target_s']:g}" if "target_s" in one else "",
                f"{one['limit_s']:.3f}",
                f"{100 * one['ratio_to_limit']:.0f} %",
                "over" if one["median_s"] > one.get("target_s", one["median_s"]) else "",
            )
            for one in points
        ],
        empty="nothing was measured",
    )


def print_scale(points: Iterable[Mapping[str, Any]]) -> None:
    """Print benchmarks of rounds in one table, and those of idle clients in another."""
    listed = list(points)
    idle = [one for one in listed if "tasked_s" in one]
    if len(idle) < len(listed) or not idle:
        print_points(one for one in listed if "tasked_s" not in one)
    if idle:
        print_table(
            ("work", "attached s", "tasked s", "acknowledged s", "combiner, each", "at rest, of a core"),
            [
                (
                    one["name"],
                    f"{one['attached_s']:.1f}",
                    f"{one['tasked_s']:.3f}",
                    f"{one['acknowledged_s']:.3f}",
                    size(one["combiner_bytes_a_client"]),
                    f"{100 * one['combiner_cpu_idle']:.0f} %",
                )
                for one in idle
            ],
            empty="nothing was measured",
        )


def _role(found: Mapping[str, Any], role: str) -> tuple[str, ...]:
    return (
        role,
        f"{found['cpu_s'][role]:.3f}",
        size(found["peak_rss_bytes"][role]),
        f"{found['growth_models'][role]:.2f}",
        size(found["peak_anonymous_bytes"][role]),
        f"{found['anonymous_growth_models'][role]:.2f}",
    )


def _bounded(found: Mapping[str, Any], role: str) -> tuple[str, ...]:
    empty = found["empty_rss_bytes"]
    return (
        role,
        size(empty[role]) if role in empty else "",
        size(found["idle_rss_bytes"][role]),
        size(grown_bytes(found, role)),
        size(found["memory_bound_bytes"][role]),
        "" if found["within_bound"][role] else "over its bound",
    )


def _span(found: Mapping[str, Any]) -> str:
    return f"from {found['min_s']:.3f} to {found['max_s']:.3f}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.6g} MB"


def _measured(name: str, value: float) -> str:
    return f"{value:.3f}" if name.endswith("_ms") else f"{value:,.0f}"


def _unit(name: str) -> str:
    return "ms" if name.endswith("_ms") else "MB/s"
