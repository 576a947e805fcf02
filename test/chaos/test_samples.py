"""The verdict of a soak tells flat from growing, and judges only who lived long enough."""

from collections.abc import Callable

import pytest
from chaos.samples import COUNTED, MIB, Sample, rows, table

TAKEN = 20


def samples_of(
    rss: Callable[[int], float] = lambda _: 100.0, pid: Callable[[int], int] = lambda _: 1, **held: Callable[[int], int]
) -> list[Sample | None]:
    """Samples of one process, each value by the number of the sample; memory in MiB."""
    return [
        Sample(pid(at), int(rss(at) * MIB), 0, {what: held[what](at) if what in held else 10 for what in COUNTED})
        for at in range(TAKEN)
    ]


def test_what_stays_as_it_is_has_no_fault() -> None:
    (row,) = rows({"reducer": samples_of()})
    assert row.faults == ()
    assert "reducer" in table([row])


def test_memory_may_rise_while_a_process_warms_up_but_not_from_the_second_quarter_on() -> None:
    (warmed,) = rows({"reducer": samples_of(lambda at: 50.0 if at < TAKEN // 4 else 100.0)})
    (leaking,) = rows({"reducer": samples_of(lambda at: 100.0 + 2 * at)})
    assert warmed.faults == ()
    assert leaking.faults == ("memory grew by 18%",)


@pytest.mark.parametrize("what", COUNTED)
def test_a_leak_of_anything_that_is_counted_is_named(what: str) -> None:
    (row,) = rows({"client-1": samples_of(**{what: lambda at: 10 + at})})
    assert row.faults == (f"{what} grew from 17 to 27",)


def test_what_more_clients_take_is_no_leak_and_more_than_that_is() -> None:
    def taken(tasks_of_three: int) -> list[Sample | None]:
        return [
            Sample(1, 100 * MIB, 0, {**dict.fromkeys(COUNTED, 10), "tasks": 10 + late * tasks_of_three}, 3 + late * 3)
            for late in (at >= TAKEN // 2 for at in range(TAKEN))
        ]

    assert rows({"combiner-1": taken(30)})[0].faults == ()
    assert rows({"combiner-1": taken(60)})[0].faults == ("tasks grew from 10 to 70",)


def test_one_moment_with_more_is_no_leak() -> None:
    (row,) = rows({"client-1": samples_of(fds=lambda at: 90 if at == TAKEN - 1 else 10)})
    assert row.faults == ()


def test_a_process_that_was_started_again_after_the_first_quarter_is_not_judged() -> None:
    early, late = samples_of(pid=lambda at: 1 + (at > 2)), samples_of(pid=lambda at: 1 + (at > 12))
    assert [row.name for row in rows({"early": early, "late": late})] == ["early"]
