from builders import ANNA, BERT, CARL, DORA, GENERATION

from fedn_py.identity import ClientId
from fedn_py.protocol.cell_progress import AWAY, progress_of
from fedn_py.protocol.messages import MOST_CLIENTS_TOLD, ClientProgress, Exclusion, RoundProgress

EMIL, FAYE = ClientId("emil"), ClientId("faye")


def test_each_client_is_told_of_once_with_where_it_is_and_the_counts_are_of_all() -> None:
    told = progress_of(
        GENERATION,
        "collecting",
        included=[DORA],
        excluded=[Exclusion(BERT, "Failed: no data", "a log that stays here")],
        gone=[CARL],
        at_work=[ANNA, EMIL],
        uploading=[EMIL],
        checking=[FAYE],
    )
    assert told == RoundProgress(
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


def test_of_a_large_cell_only_the_counts_are_told() -> None:
    many = [ClientId(f"{number:032x}") for number in range(MOST_CLIENTS_TOLD + 1)]
    assert len(progress_of(GENERATION, "collecting", included=many[1:]).clients) == MOST_CLIENTS_TOLD
    told = progress_of(GENERATION, "collecting", included=many)
    assert (told.included, told.clients) == (MOST_CLIENTS_TOLD + 1, ())
