"""What each party sees in a session that is not masked: the servers see every update."""

from collections.abc import Iterator

from fedn_py.reducer.privacy_same import NOT_SENT, WATCHER, compute_package, global_model, raw_data
from fedn_py.reducer.privacy_words import (
    PLAIN_PARTIES,
    Assumption,
    Datum,
    PrivacyRow,
    Seeing,
    Setting,
    clear,
    never,
    rows_of,
    sum_only,
)

_BY_MODELS = sum_only(
    "The models before and after a round give the mean over everybody in it; of a round of one client, its update."
)
_OF_THE_SITE = "unless the site sets metrics_release to"


def plain_rows(setting: Setting) -> Iterator[PrivacyRow]:
    """Yield a row for every party and datum."""
    yield from raw_data(PLAIN_PARTIES)
    yield from rows_of("update of one client", PLAIN_PARTIES, _UPDATE, NOT_SENT)
    yield from rows_of("sum of updates", PLAIN_PARTIES, _SUM, NOT_SENT)
    yield from rows_of("number of samples of one client", PLAIN_PARTIES, _SAMPLES, NOT_SENT)
    yield from _metrics("training metrics of one client")
    if setting.validates:
        yield from _metrics("validation metrics of one client")
    else:
        unasked = "The models of this session are not validated, so nothing is measured."
        yield from rows_of("validation metrics of one client", PLAIN_PARTIES, {}, unasked)
    yield from rows_of("that a client took part", PLAIN_PARTIES, _TOOK_PART, NOT_SENT)
    yield from global_model(PLAIN_PARTIES)
    yield from compute_package(PLAIN_PARTIES)
    yield from rows_of("log tail of a failed training", PLAIN_PARTIES, _LOG, NOT_SENT)


_UPDATE: Seeing = {
    "this client's owner": clear("It is made on the owner's machine, which keeps it until the round is committed."),
    "combiner": clear("The client sends its update as it is; nothing hides it from its combiner."),
    "reducer": sum_only(
        "It gets the sum of each cell; where a cell has a single client, that is this client's update."
    ),
    "document store": never("It holds the update's sha256 alone."),
    "object store": sum_only("It holds the sums of cells until the commit; of a cell of one client, its update."),
}
_SUM: Seeing = {
    "this client's owner": _BY_MODELS,
    "other clients": _BY_MODELS,
    "combiner": sum_only("It adds the updates of its cell up."),
    "reducer": sum_only("It adds the sums of the cells up and makes the model."),
    "document store": never("It holds the digests of sums and models alone."),
    "object store": sum_only("It holds the sums of cells until the commit, and the models."),
}
_SAMPLES: Seeing = {
    "this client's owner": clear("The package counts them on the owner's machine."),
    "combiner": clear("The client says the number with its update, as the update's weight."),
    "reducer": clear("The combiner lists it with the client's name; whoever holds a REST token sees it."),
    "document store": clear("The round's document lists it with the client's name."),
}
_TOOK_PART: Seeing = {
    "this client's owner": clear("The client's log says so."),
    "combiner": clear("It knows which clients of its own cell take part, and from which address."),
    "reducer": clear("It draws the clients; whoever holds a REST token sees their names."),
    "document store": clear("The round's document lists them by id and name."),
    "outsider on the network": WATCHER,
}
_LOG: Seeing = {
    "this client's owner": clear("It is in the client's own log."),
    "combiner": clear("The client sends it, unless the site sets release_logs to false or its policy keeps it."),
    "reducer": clear("The combiner passes on what the client sent; whoever holds a REST token sees it."),
    "document store": clear("The round's document keeps what the client sent."),
}


def _metrics(datum: Datum) -> Iterator[PrivacyRow]:
    seeing: Seeing = {
        "this client's owner": clear("They are measured on the owner's machine."),
        "combiner": clear(f"The client sends them, {_OF_THE_SITE} none."),
        "reducer": clear(f"It gets them under the client's name, {_OF_THE_SITE} mean or none: then in the mean alone."),
        "document store": clear(f"The round's document keeps them by name, {_OF_THE_SITE} mean or none."),
    }
    return rows_of(datum, PLAIN_PARTIES, seeing, NOT_SENT)


def plain_assumptions() -> Iterator[Assumption]:
    """Yield what the protection rests on, and what breaks it."""
    yield Assumption(
        "Every combiner, and the machine it runs on, is trusted with the updates of its clients.",
        "Whoever runs or breaks into one combiner, alone: it has each update of its cell as it is.",
    )
    yield Assumption(
        "The reducer and the object store see sums of several clients only.",
        "Nobody has to attack: where a cell has a single client, its sum is that client's update.",
    )
    yield Assumption(
        "The network's certificate authority is kept safe, as TLS alone keeps updates from others.",
        "Whoever has the authority's key and sits between a client and its combiner, alone.",
    )
    yield Assumption(
        "The compute package does what it says.",
        "Whoever uploads packages, alone, with one that puts data into what it makes; a site that lists "
        "allowed_packages runs no other.",
    )
    yield Assumption(
        "The models do not tell too much of those whose updates are in them; nothing adds noise.",
        "Whoever has the models of successive rounds, alone, by comparing rounds with a client and without it.",
    )
