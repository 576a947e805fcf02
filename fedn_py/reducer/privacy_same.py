"""What parties see of data that masking does not change: the site's own data, models and packages."""

from collections.abc import Iterator

from fedn_py.reducer.privacy_words import SUM_PARTICIPANTS, Party, PrivacyRow, Seeing, clear, rows_of

NOT_SENT = "Nothing that is sent to it holds this."


def raw_data(parties: tuple[Party, ...]) -> Iterator[PrivacyRow]:
    """Yield who sees a site's data."""
    seeing: Seeing = {
        "this client's owner": clear("They are on the owner's machine, where the compute package reads them."),
    }
    otherwise = "The client sends no data; only a package that copies them into what it makes could."
    return rows_of("raw data", parties, seeing, otherwise)


def global_model(parties: tuple[Party, ...]) -> Iterator[PrivacyRow]:
    """Yield who sees the global models."""
    every_client = clear("Every client of a round downloads the model that it trains from.")
    seeing: Seeing = {
        "this client's owner": every_client,
        "other clients": every_client,
        **dict.fromkeys(SUM_PARTICIPANTS, every_client),
        "combiner": clear("It fetches the model once and hands it to its clients."),
        "reducer": clear("It makes the model; whoever holds a REST token of it can download it."),
        "document store": ("never", "It holds the model's digest, size, round and metrics, and not its numbers."),
        "object store": clear("It keeps every model."),
    }
    return rows_of("global model", parties, seeing, "It is sent over TLS, to parties with a token of this network.")


def compute_package(parties: tuple[Party, ...]) -> Iterator[PrivacyRow]:
    """Yield who sees the compute package."""
    every_client = clear("Every client downloads the package, checks its digest and runs it.")
    seeing: Seeing = {
        "this client's owner": every_client,
        "other clients": every_client,
        **dict.fromkeys(SUM_PARTICIPANTS, every_client),
        "combiner": clear("It fetches the package once and hands it to its clients."),
        "reducer": clear("It was uploaded there and checked."),
        "document store": (
            "never",
            "It holds the package's digest, name, version and entry points, and not its files.",
        ),
        "object store": clear("It keeps every package."),
    }
    return rows_of("compute package", parties, seeing, "It is sent over TLS, to parties with a token of this network.")


WATCHER = clear("Whoever watches the links sees which addresses speak with the servers, when, and how much.")
"""What TLS does not hide."""
