"""What each party sees, as a table: data down, parties across."""

from dataclasses import dataclass

from fedn_py.reducer.privacy_words import Datum, Exposure, Party, PrivacyRow, PrivacyView

UPDATE: Datum = "update of one client"
OWNER: Party = "this client's owner"


@dataclass(frozen=True, slots=True)
class DatumSeen:
    """One datum.

    Attributes:
        rows: by party, in the order of the table's columns; None where nothing is said of a party.
    """

    datum: Datum
    rows: tuple[PrivacyRow | None, ...]


@dataclass(frozen=True, slots=True)
class Exposures:
    """The whole table.

    Attributes:
        who_sees_updates: parties beside the owner that see an update of one client as it is.
    """

    parties: tuple[Party, ...]
    data: tuple[DatumSeen, ...]
    who_sees_updates: tuple[Party, ...]


def exposures(view: PrivacyView) -> Exposures:
    """Return a session's table, with parties and data in the order in which they are told."""
    said = {(row.datum, row.party): row for row in view.rows}
    parties = tuple(dict.fromkeys(row.party for row in view.rows))
    data = tuple(dict.fromkeys(row.datum for row in view.rows))
    return Exposures(
        parties,
        tuple(DatumSeen(datum, tuple(said.get((datum, party)) for party in parties)) for datum in data),
        tuple(row.party for row in view.rows if (row.datum, row.exposure) == (UPDATE, "clear") and row.party != OWNER),
    )


SYMBOLS: dict[Exposure, str] = {"never": "○", "masked": "▒", "sum only": "Σ", "clear": "●"}
"""Beside the word, for the eye: nothing is told by a symbol or a colour alone."""
