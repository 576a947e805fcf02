from typing import get_args

import pytest
from fake_privacy import MASKED, PLAIN, a_view

from fedn_py.reducer.privacy_words import Exposure, Setting
from fedn_py.web.ui.exposures import SYMBOLS, exposures


@pytest.mark.parametrize("setting", [MASKED, PLAIN])
def test_the_table_has_every_row_in_its_place(setting: Setting) -> None:
    view = a_view(setting)
    table = exposures(view)
    shown = [row for datum in table.data for row in datum.rows if row is not None]
    assert sorted(shown, key=repr) == sorted(view.rows, key=repr)
    for datum in table.data:
        assert [row.party if row else None for row in datum.rows] == list(table.parties)
        assert {row.datum for row in datum.rows if row} == {datum.datum}


def test_who_sees_updates_is_told_first() -> None:
    assert exposures(a_view(MASKED)).who_sees_updates == ()
    assert exposures(a_view(PLAIN)).who_sees_updates == ("combiner",)


def test_each_exposure_has_a_symbol_of_its_own() -> None:
    assert set(SYMBOLS) == set(get_args(Exposure))
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)
