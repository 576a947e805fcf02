"""What a combiner says of its masked cell."""

from masked_world import COMBINER

from fedn_py.aggregation.metrics import MAX_NAMES
from fedn_py.combiner.masked_reports import closed_cell, released
from fedn_py.identity import ClientId, Digest, Generation
from fedn_py.protocol.masked.cell_work import StoreSum
from fedn_py.protocol.masked.round_messages import MOST_CLIENTS, CellClosed, IncludedRow, Refused
from fedn_py.protocol.masked.signing import Signed, read_signed, sign
from fedn_py.protocol.messages import Exclusion

CTX, DIGEST = b"x" * 32, Digest("ab" * 32)


def test_the_largest_cell_with_the_longest_reasons_can_be_signed() -> None:
    clients = [number.to_bytes(32, "big") for number in range(MOST_CLIENTS)]
    rows = tuple(IncludedRow(client, bytes(32)) for client in clients)
    excluded = tuple(Exclusion(ClientId(client.hex()), "\u00e9\n" * 500) for client in clients)
    closed = closed_cell(StoreSum(Generation(1), CTX, rows, excluded), DIGEST)
    found = read_signed(Signed.decode(sign(closed, COMBINER).encode()), CellClosed)
    assert (found.rows, found.partial_sha256, len(found.refused)) == (rows, bytes.fromhex(DIGEST), MOST_CLIENTS)


def test_who_is_not_in_the_sum_is_named_with_the_reason() -> None:
    excluded = (Exclusion(ClientId("a1" * 32), "Late: no whole update before the deadline", "a log"),)
    closed = closed_cell(StoreSum(Generation(1), CTX, (), excluded), DIGEST)
    assert closed.refused == (Refused(b"\xa1" * 32, "Late: no whole update before the deadline"),)


def test_of_many_metrics_those_that_most_clients_gave_go_out() -> None:
    common = {f"m{number:02}": 1.0 for number in range(MAX_NAMES)}
    told = {
        ClientId("a1" * 32): common,
        ClientId("be" * 32): common | {"rare": 2.0},
        ClientId("ca" * 32): {"rare": 3.0},
    }
    summary = released(told)
    assert (summary.weighted_sums, summary.weights) == ({}, {})
    names = {name for metrics in summary.by_client.values() for name in metrics}
    assert len(names) == MAX_NAMES
    assert released({ClientId("a1" * 32): {"loss": 0.5}}).by_client == {ClientId("a1" * 32): {"loss": 0.5}}
