from dataclasses import dataclass, replace
from typing import Any

import pytest
from builders import ANNA, BERT, CARL, DORA, GENERATION, a_contribution

from fedn_py.identity import ClientId
from fedn_py.protocol.cell_progress import AWAY, CellProgress
from fedn_py.protocol.messages import MOST_CLIENTS_TOLD, ClientProgress, Exclusion, RoundProgress

EMIL, FAYE = ClientId("emil"), ClientId("faye")


@dataclass(frozen=True)
class Upload:
    arrival: str


def progress(**what: Any) -> CellProgress:
    return CellProgress(generation=GENERATION, phase="collecting", **what)


def test_each_client_is_told_of_once_with_where_it_is_and_the_counts_are_of_all() -> None:
    masked = progress(
        included=[DORA],
        excluded=[Exclusion(BERT, "Failed: no data", "a log that stays here")],
        gone=[CARL],
        at_work=[ANNA, EMIL],
        uploads={EMIL: Upload(""), FAYE: Upload("faye's")},
    )
    in_the_clear = replace(
        masked,
        included=(),
        contributions=[a_contribution(DORA)],
        uploads={EMIL: Upload("")},
        adding=[("faye's", a_contribution(FAYE))],
    )
    assert (
        masked.told()
        == in_the_clear.told()
        == RoundProgress(
            GENERATION,
            "collecting",
            included=1,
            training=2,
            excluded=2,
            clients=(
                ClientProgress(ANNA, "training"),
                ClientProgress(BERT, "out", "Failed: no data"),
                ClientProgress(CARL, "out", AWAY),
                ClientProgress(DORA, "in"),
                ClientProgress(EMIL, "uploading"),
                ClientProgress(FAYE, "checking"),
            ),
        )
    )


def test_nothing_is_looked_at_before_it_is_told() -> None:
    class NotLookedAt(list):  # type: ignore[type-arg]
        def __len__(self) -> int:
            raise AssertionError("it would be looked at with each client")

        __iter__ = __len__  # type: ignore[assignment]

    many: Any = NotLookedAt()
    made = progress(included=many, contributions=many, excluded=many, gone=many, at_work=many, adding=many)
    with pytest.raises(AssertionError):
        made.told()


def test_of_a_large_cell_no_client_is_looked_at() -> None:
    class Counted(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            raise AssertionError("it would be looked at with each client")

    assert progress(at_work=Counted([ANNA] * MOST_CLIENTS_TOLD), gone=[BERT]).told().training == MOST_CLIENTS_TOLD


def test_of_a_large_cell_only_the_counts_are_told() -> None:
    many = [ClientId(f"{number:032x}") for number in range(MOST_CLIENTS_TOLD + 1)]
    assert len(progress(included=many[1:]).told().clients) == MOST_CLIENTS_TOLD
    told = progress(included=many).told()
    assert (told.included, told.clients) == (MOST_CLIENTS_TOLD + 1, ())
