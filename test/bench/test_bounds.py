"""The bounds of memory: three models, 64 MiB more for a server, and as much for each client of a process."""

from typing import Any

from fedn_py.bench.bounds import client_memory, grown_bytes, memory_bounds, servers_memory, within_bounds

MIB = 1024**2


def point(*, clients: int = 4, client_processes: int = 4, grown: tuple[int, int, int] = (0, 0, 0)) -> dict[str, Any]:
    roles = ("reducer", "combiner", "clients")
    return {
        "clients": clients,
        "client_processes": client_processes,
        "model_bytes": 1_000_000,
        "idle_rss_bytes": dict.fromkeys(roles, 1_000_000),
        "peak_rss_bytes": {role: 1_000_000 + more for role, more in zip(roles, grown, strict=True)},
    }


def test_a_server_has_three_models_and_64_mib_for_any_number_of_clients_and_a_client_three_models() -> None:
    for clients in (1, 4, 1_000):
        bounds = memory_bounds(point(clients=clients, client_processes=clients))
        assert bounds == {"reducer": 3_000_000 + 64 * MIB, "combiner": 3_000_000 + 64 * MIB, "clients": 3_000_000}


def test_a_process_has_three_models_for_each_of_its_clients_counted_where_most_are() -> None:
    assert memory_bounds(point(clients=11, client_processes=2))["clients"] == 6 * 3_000_000


def test_up_to_its_bound_a_role_is_within_it() -> None:
    bound = 3_000_000 + 64 * MIB
    found = point(grown=(bound, bound + 1, 3_000_000))
    assert within_bounds(found) == {"reducer": True, "combiner": False, "clients": True}


def test_a_peak_below_what_was_held_before_is_no_growth() -> None:
    assert grown_bytes(point(grown=(-5, 0, 0)), "reducer") == 0


def test_what_is_beyond_its_bound_stands_out() -> None:
    found = point(grown=(2_000_000, 71_000_000, 4_000_000))
    assert servers_memory(found) == "2 MB, **71 MB**; 70 MB"
    assert client_memory(found) == "**4 MB**; 3 MB"
    assert client_memory(point(client_processes=2, grown=(0, 0, 90_000_000))) == ""
