"""What each party sees in a masked session: sums of at least ``g_min`` clients, and of a single one next to nothing."""

from collections.abc import Iterator

from fedn_py.reducer.privacy_same import NOT_SENT, WATCHER, compute_package, global_model, raw_data
from fedn_py.reducer.privacy_words import (
    MASKED_PARTIES,
    SUM_PARTICIPANTS,
    Assumption,
    Datum,
    PrivacyRow,
    Seeing,
    Setting,
    clear,
    masked,
    never,
    rows_of,
    sum_only,
)


def masked_rows(setting: Setting) -> Iterator[PrivacyRow]:
    """Yield a row for every party and datum."""
    yield from raw_data(MASKED_PARTIES)
    yield from _update(setting)
    yield from _sum(setting)
    yield from _samples(setting)
    yield from _training_metrics(setting)
    yield from _validation_metrics(setting)
    yield from _took_part()
    yield from global_model(MASKED_PARTIES)
    yield from compute_package(MASKED_PARTIES)
    yield from _log(setting)


def _update(setting: Setting) -> Iterator[PrivacyRow]:
    k, r, g_min = setting.k, setting.r, setting.g_min
    seeing: Seeing = {
        "this client's owner": clear("It is made on the owner's machine, and masked before it leaves."),
        "one sum participant": never(f"It gets the seed of one of the {k} masks of each update, and no masked update."),
        "all sum participants of one slot": never(
            f"The {r} of one slot hold the same mask of each update; the other {k - 1} are missing."
        ),
        "sum participants of all slots": never(
            f"Together they have all {k} masks and no masked update; together with the combiner they would have it."
        ),
        "combiner": masked(f"It adds numbers that look random, and holds none of the {k} masks."),
        "reducer": never(f"It can open the sum over a whole cell, of at least {g_min} clients, and nothing smaller."),
        "object store": never("It holds the masked sum of each cell, and no update of a single client."),
        "operator": never("The operator's key signs who is who and opens nothing."),
    }
    return rows_of("update of one client", MASKED_PARTIES, seeing, NOT_SENT)


def _sum(setting: Setting) -> Iterator[PrivacyRow]:
    one_cell = " The newest round had one cell: its sum is what they give." if setting.cells == 1 else ""
    by_models = sum_only(f"The models before and after a round give the mean over everybody in it.{one_cell}")
    seeing: Seeing = {
        "this client's owner": by_models,
        "other clients": by_models,
        **dict.fromkeys(SUM_PARTICIPANTS, by_models),
        "combiner": by_models,
        "reducer": sum_only(f"It opens the sum of each cell, of at least {setting.g_min} clients, in memory alone."),
        "object store": sum_only(
            "Until the commit it holds the sums of cells masked and their masks sealed; the models are as they are."
        ),
        "document store": never("It holds the digests of sums and models, and the attempt's key encrypted."),
    }
    return rows_of("sum of updates", MASKED_PARTIES, seeing, NOT_SENT)


def _samples(setting: Setting) -> Iterator[PrivacyRow]:
    if setting.validates:
        combiner = clear("Of the training it is masked; of a validation the client says how many samples it took.")
    else:
        combiner = masked("It is one more masked number of the update, its weight.")
    seeing: Seeing = {
        "this client's owner": clear("The package counts them on the owner's machine."),
        "combiner": combiner,
        "reducer": sum_only("The sum of the weights comes out from under the masks with the sum of the updates."),
        "document store": sum_only("The round's document has the sum over everybody in it, and 0 for each client."),
        "object store": masked("It is a part of the masked sums of cells, until the commit."),
    }
    return rows_of("number of samples of one client", MASKED_PARTIES, seeing, NOT_SENT)


def _training_metrics(setting: Setting) -> Iterator[PrivacyRow]:
    datum: Datum = "training metrics of one client"
    owner = clear("They are measured on the owner's machine.")
    if setting.by_client:
        by_name = "under the client's name, unless the site sets metrics_release to mean or none"
        seeing: Seeing = {
            "this client's owner": owner,
            "combiner": clear(f"The policy lets metrics go by client: it gets them {by_name}."),
            "reducer": clear(f"It gets them {by_name}."),
            "document store": clear(f"The round's document keeps them {by_name}."),
            "object store": masked("Those that are summed are a part of the masked sums of cells, until the commit."),
        }
        return rows_of(datum, MASKED_PARTIES, seeing, NOT_SENT)
    if not setting.metrics:
        return rows_of(datum, MASKED_PARTIES, {"this client's owner": owner}, "The policy lets no metrics go.")
    named = ", ".join(setting.metrics)
    seeing = {
        "this client's owner": owner,
        "combiner": masked(f"{named} are masked numbers of the update; no other metric is sent."),
        "reducer": sum_only(
            f"It gets the means of {named} over the clients that gave them, and shows those that at least "
            f"{setting.g_min} gave."
        ),
        "document store": sum_only("The round's document keeps the means over the clients that gave them."),
        "object store": masked("They are a part of the masked sums of cells, until the commit."),
    }
    return rows_of(datum, MASKED_PARTIES, seeing, NOT_SENT)


def _validation_metrics(setting: Setting) -> Iterator[PrivacyRow]:
    datum: Datum = "validation metrics of one client"
    if not setting.validates:
        unasked = "The models of this session are not validated: clients send metrics of validations by name alone."
        return rows_of(datum, MASKED_PARTIES, {}, unasked)
    seeing: Seeing = {
        "this client's owner": clear("They are measured on the owner's machine."),
        "combiner": clear("The policy lets them go by client; they are not masked. None are sent by a site that sets "
                          "metrics_release to none."),
        "reducer": clear("It gets them under the client's name, unless the site sets metrics_release to mean or none: "
                         "then in the mean of its combiner's clients alone."),
        "document store": clear("The round's document keeps them as the reducer gets them."),
    }  # fmt: skip
    return rows_of(datum, MASKED_PARTIES, seeing, NOT_SENT)


def _took_part() -> Iterator[PrivacyRow]:
    of_its_cell = clear("It is told the ids of everybody whose masks it adds up: its own cell.")
    seeing: Seeing = {
        "this client's owner": clear("The client's log says so."),
        "other clients": clear(
            "They see who is in their cell's committee, by id; in a small cell that may be everybody."
        ),
        **dict.fromkeys(SUM_PARTICIPANTS, of_its_cell),
        "combiner": clear("It knows which clients of its own cell take part, and from which address."),
        "reducer": clear("It draws the clients; whoever holds a REST token sees their names."),
        "document store": clear("The round's document lists them by id and name."),
        "operator": never("The operator certifies sites before any round, and hears of none."),
        "outsider on the network": WATCHER,
    }
    return rows_of("that a client took part", MASKED_PARTIES, seeing, NOT_SENT)


def _log(setting: Setting) -> Iterator[PrivacyRow]:
    datum: Datum = "log tail of a failed training"
    owner = clear("It is in the client's own log.")
    if not setting.by_client:
        kept = "The policy lets no metrics go by client, so no client sends it: the fault's name alone."
        return rows_of(datum, MASKED_PARTIES, {"this client's owner": owner}, kept)
    seeing: Seeing = {
        "this client's owner": owner,
        "combiner": clear("The policy lets it go: the client sends it, unless the site sets release_logs to false."),
        "reducer": clear("The combiner passes on what the client sent; whoever holds a REST token sees it."),
        "document store": clear("The round's document keeps what the client sent."),
    }
    return rows_of(datum, MASKED_PARTIES, seeing, NOT_SENT)


_REDUCER = Assumption(
    "The reducer signs that a sum was never opened only where that is so (reopen is reducer).",
    "A reducer rewritten to lie, with the combiner: it has the same update sent again in another set and subtracts the "
    "two sums. With reopen strict it could not.",
)


def masked_assumptions(setting: Setting) -> Iterator[Assumption]:
    """Yield what the protection rests on, and which attack breaks it: who would have to take part."""
    k, r, g_min = setting.k, setting.r, setting.g_min
    yield Assumption(
        f"Of the {k} slots of a cell's committee at least one is honest: all of its members, up to {r}.",
        f"The combiner with {k} sum participants, one of each of the {k} slots: it has the masked update, they have "
        f"its {k} masks. {k - 1} of them learn nothing. Who is drawn is a lottery, with the chances in masking.md.",
    )
    yield Assumption(
        f"Of the clients in a sum, {g_min} at the least, two or more are honest.",
        f"{g_min - 1} clients of the same sum with the reducer, or without it where a round has one cell: they take "
        "their own updates from the sum, and the last one's is left.",
    )
    if setting.reopen == "reducer":
        yield _REDUCER
    else:
        yield Assumption(
            "A client sends the same work again only if every member of its first committee signed that it gave up "
            "(reopen is strict).",
            f"The reducer and the combiner with {k} sum participants, one of each slot: they say that they gave up, "
            "and open the first sum all the same.",
        )
    yield Assumption(
        "The operator's key is kept safe and on no server: it says who is a client, and what no plan may go below.",
        "Whoever has that key, with the servers: it makes clients of its own, enough for a committee or a sum.",
    )
    yield Assumption(
        "The hosts of sum participants keep their seeds to themselves while a round runs.",
        f"Whoever is root on the hosts of one member of each of the {k} slots and on the combiner's.",
    )
    yield Assumption(
        "The compute package does what it says.",
        "Whoever uploads packages, alone, with one that puts data into what it makes; a site that lists "
        "allowed_packages runs no other.",
    )
    yield Assumption(
        "The sums and models do not tell too much of those who are in them; nothing adds noise.",
        "Whoever has the models of successive rounds, alone, by comparing rounds with a client and without it.",
    )
