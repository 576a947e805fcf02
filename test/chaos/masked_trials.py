"""What is done to networks in masked rounds.

A cell of four clients has two slots: whoever of its committee is lost with its keys takes its cell along, and a round
goes on with the other cell, or in a fresh attempt.
"""

from functools import partial

from chaos.actions import (
    THIS_ROUND,
    answer_lost_at_commit,
    any_client_killed_at,
    client_killed_while_it_trains,
    combiner_killed_at,
    combiner_killed_while_clients_train,
    reducer_killed_at,
    reducer_killed_while_clients_train,
    store_killed_at,
    terminated,
)
from chaos.conditions import both, everybody, nothing, same_attempt
from chaos.trial import Trial

_masked = partial(Trial.of, "pet")

TRIALS = (
    _masked(
        "reducer killed with orders unsent",
        "reducer killed when the attempt is written and no combiner has its order",
        partial(reducer_killed_at, point="attempt written, its orders not sent"),
        "the round is done",
        nothing,
    ),
    _masked(
        "reducer killed in Sum",
        "reducer killed when the first committee of the round comes",
        partial(reducer_killed_at, point="committee arrived", match="", nth=3),
        "all clients are in the round",
        everybody,
    ),
    _masked(
        "reducer killed in Update",
        "reducer killed while all clients train, and started again",
        reducer_killed_while_clients_train,
        "all clients are in the round, in the same attempt",
        both(same_attempt, everybody),
        gated=True,
    ),
    _masked(
        "reducer killed with a set unwritten",
        "reducer killed when a cell is closed and its set not written",
        partial(reducer_killed_at, point="set unwritten"),
        "all clients are in the round, in the same attempt",
        both(same_attempt, everybody),
    ),
    _masked(
        "reducer killed in Sum2",
        "reducer killed when a set is stored and no member asked for it",
        partial(reducer_killed_at, point="set stored, nobody asked"),
        "all clients are in the round, in the same attempt",
        both(same_attempt, everybody),
    ),
    _masked(
        "reducer killed with an answer stored",
        "reducer killed when the first member's answer is stored",
        partial(reducer_killed_at, point="answer stored"),
        "all clients are in the round, in the same attempt",
        both(same_attempt, everybody),
    ),
    _masked(
        "reducer killed with its opening stored",
        "reducer killed when it is written that sums may be opened, and none is",
        partial(reducer_killed_at, point="opening stored, nothing opened"),
        "exactly these sums are opened, in the same attempt",
        both(same_attempt, everybody),
    ),
    _masked(
        "reducer killed before a commit",
        "reducer killed when sums are opened, the model is stored and the commit not written",
        partial(reducer_killed_at, point="commit unwritten"),
        "the same sums are opened again, in the same attempt",
        both(same_attempt, everybody),
    ),
    _masked(
        "reducer killed behind a commit",
        "reducer killed when the commit is written and nobody told",
        partial(reducer_killed_at, point="commit written, nobody told"),
        "that commit stands",
        both(same_attempt, everybody),
    ),
    _masked(
        "reducer killed with the key unset",
        "reducer killed when the attempt's key is unset, behind the commit",
        partial(reducer_killed_at, point="key unset"),
        "that commit stands",
        both(same_attempt, everybody),
    ),
    _masked(
        "combiner killed in Sum",
        "a combiner killed when keys are offered to it",
        partial(combiner_killed_at, point="keys offered"),
        "the round is done",
        nothing,
    ),
    _masked(
        "combiner killed with its committee unconfirmed",
        "a combiner killed when it has told the reducer of its committee, and no client of it",
        partial(combiner_killed_at, point="committee told, not confirmed"),
        "the round is done",
        nothing,
    ),
    _masked(
        "combiner killed in Update",
        "combiner-1 killed for good while its clients train",
        combiner_killed_while_clients_train,
        "the round is done, and nobody counts twice",
        nothing,
        gated=True,
    ),
    _masked(
        "combiner killed with updates added",
        "a combiner killed when it has added one update of the round",
        partial(combiner_killed_at, point="masked update added"),
        "the round is done, and nobody counts twice",
        nothing,
    ),
    _masked(
        "combiner killed with its sum unreported",
        "a combiner killed when its sum is stored and not reported",
        partial(combiner_killed_at, point="sum stored, not reported"),
        "the round is done, and nobody counts twice",
        nothing,
    ),
    _masked(
        "combiner killed with its sum reported",
        "a combiner killed when its sum is reported",
        partial(combiner_killed_at, point="sum reported"),
        "the sum is opened without it",
        nothing,
    ),
    _masked(
        "combiner killed in Sum2",
        "a combiner killed when the first member answers through it",
        partial(combiner_killed_at, point="answer came, not passed on"),
        "the answer is said again, and exactly that set is opened",
        nothing,
    ),
    _masked(
        "client killed with its key unoffered",
        "a client killed when it has written down that it offers a key, and offered none",
        partial(any_client_killed_at, point="membership saved, no key offered"),
        "the round is done",
        nothing,
    ),
    _masked(
        "client killed in its training",
        "client-3 killed while it trains, and started again",
        client_killed_while_it_trains,
        "its training ends with it; the round is done",
        nothing,
        gated=True,
    ),
    _masked(
        "client killed with its upload unsent",
        "a client killed when its upload is written down and not sent",
        partial(any_client_killed_at, point="upload saved, not sent"),
        "the round is done, and nobody counts twice",
        nothing,
    ),
    _masked(
        "member killed with its promise unsaid",
        "a member killed when its promise is written down and no answer made",
        partial(any_client_killed_at, point="promise saved, not said"),
        "it never answers for another set, and the round is done",
        nothing,
    ),
    _masked(
        "member killed with its answer unsent",
        "a member killed when its answer is written down and not sent",
        partial(any_client_killed_at, point="answer saved, not sent"),
        "it sends the same answer when it is back: all clients are in the round, in the same attempt",
        both(same_attempt, everybody),
    ),
    _masked(
        "mongodb killed at the opening",
        "mongodb killed when the opening is about to be written, and started when the reducer says that it waits",
        partial(store_killed_at, name="mongodb", point="opening unwritten", match=THIS_ROUND),
        "the round goes on in the same attempt",
        both(same_attempt, everybody),
        gated=True,
    ),
    _masked(
        "minio killed at the commit",
        "minio killed when the new model is about to be stored, and started when the reducer says that it waits",
        partial(store_killed_at, name="minio", point="model not stored"),
        "the round goes on in the same attempt",
        both(same_attempt, everybody),
        gated=True,
    ),
    _masked(
        "answer to the commit lost",
        "the commit is applied, and the connection cut before mongodb's answer comes",
        answer_lost_at_commit,
        "it is read back: one model",
        both(same_attempt, everybody),
    ),
    *(
        _masked(
            f"{name} asked to end",
            f"{name} gets SIGTERM while clients train, and is started again",
            partial(terminated, name=name),
            "it ends with exit code 0, and the round is done",
            nothing,
            gated=True,
        )
        for name in ("reducer", "combiner-1", "client-3")
    ),
)
