"""Whichever call of whichever port fails or loses its answer: each round has one model, the right one, and goes on."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import structlog
from fuzz.lines import ASSIGNING, FROM_CLIENT, FROM_COMBINER, TO_CLIENT, TO_COMBINER, UPLOADING
from fuzz.quiet_loop import run
from fuzz.whole_client import DOWNLOAD, STREAM
from fuzz.whole_network import WholeNetwork, a_whole_network
from masked_world import CLIENTS, a_policy
from ports.ports import MEMORY, SPOOL, SPOOLS_BYTES, STORES, UPSTREAM, Ports, unruly_bytes
from unruly_store import Mischief

from fedn_py.protocol.messages import Masking
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import RoundRecord

POLICY = a_policy(modes=("pet", "none"), metrics="client")
HAPPENED_OR_NOT: tuple[Mischief, ...] = ("lost, applied", "lost, not applied")
BOTH: tuple[Masking, ...] = ("pet", "none")
CALLED_IN: dict[str, tuple[Masking, ...]] = {
    ASSIGNING.name: BOTH,
    TO_CLIENT.name: BOTH,
    FROM_CLIENT.name: BOTH,
    UPLOADING.name: BOTH,
    DOWNLOAD: BOTH,
    STREAM: ("pet",),
}
"""What goes between a client and the servers, and the kinds of rounds that it goes on in."""


@dataclass
class Struck:
    """What came of striking one call after the other.

    Attributes:
        calls: that were struck.
        failures: codes of why attempts failed.
        left_out: clients that were not in a round's model, in all.
    """

    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    left_out: int = 0


def struck_again_and_again(
    port: str, mischief: Mischief, masking: Masking, *, clients: int, silence: int = 0
) -> Struck:
    """Strike the n-th call in round n, for n = 1, 2, ... until a round passes without it."""

    async def story(log: list[object], ports: Ports) -> Struck:
        async with a_whole_network(log, CLIENTS[:clients], POLICY) as network:
            ports.stand_before(network)
            await network.start_session(masking=masking, retry_delay_s=0.01, max_attempts=0, validate=masking == "none")
            await network.next_round()
            for n in range(1, 200):
                ports[port].begin(n, mischief, silence)
                await ports.stir(port, network)
                await network.next_round()
                if not ports[port].struck:
                    return await whole(network, n - 1)
            raise AssertionError("the loop must end by itself")

    with structlog.testing.capture_logs() as log, pytest.MonkeyPatch.context() as patched:
        ports = Ports()
        patched.setattr(SPOOLS_BYTES, unruly_bytes(ports.spool))
        return run(story(log, ports))


async def whole(network: WholeNetwork, calls: int) -> Struck:
    """Check that every round is committed, once and in order, and that nothing is half done."""
    rounds = await Ledger(network.reducer.stored.documents, 0).find("rounds", RoundRecord, order_by="number")
    committed = [record for record in rounds if record.status == "committed"]
    assert [record.plan.round_number for record in committed] == list(range(1, len(committed) + 1))
    assert len(rounds) - len(committed) <= 1
    for before, record in pairwise(committed):
        assert record.plan.base_model == before.model
    told = [event for event in await network.reducer.told() if event.kind == "round.committed"]
    assert [event.subject["model"] for event in told] == [record.model for record in committed]
    assert {record.model for record in committed} <= network.reducer.stored.objects.contents.keys()
    asked = network.lines.asked
    assert len({ctx for ctx, _ in asked}) == len(asked), "two sets of one cell were asked for"
    assert network.reducer.shell.patience.waiting_for == ""
    failures = Counter(failure.reason.split(":")[0] for record in rounds for failure in record.failures)
    return Struck(calls, failures, sum(len(network.clients) - len(record.included) for record in committed))


def case(port: str, masking: Masking, mischief: Mischief, silence: int = 0, *, least: int = 1) -> object:
    """Return a test's parameters; ``least`` is how many calls there must have been."""
    then = f", and {silence} calls behind it" if silence else ""
    return pytest.param(port, masking, mischief, silence, least, id=f"{port}: {mischief}{then} ({masking})")


NOTHING_LOST = [
    *(
        case(STORES, masking, mischief, silence, least=least)
        for masking, least in (("pet", 30), ("none", 9))
        for mischief, silence in (("fails", 0), ("lost, applied", 2), ("lost, not applied", 2))
    ),
    case(STORES, "none", "lost, applied"),
    case(STORES, "none", "lost, not applied"),
    *(case(UPSTREAM, "pet", mischief, least=4) for mischief in HAPPENED_OR_NOT),
    *(case(UPSTREAM, "none", mischief, least=2) for mischief in HAPPENED_OR_NOT),
    *(
        case(port, masking, mischief)
        for port, maskings in CALLED_IN.items()
        for masking in maskings
        for mischief in HAPPENED_OR_NOT
    ),
]
"""Where there is only time to be lost: whoever waited, or came again, is in the round's model."""


@pytest.mark.parametrize(("port", "masking", "mischief", "silence", "least"), NOTHING_LOST)
def test_whichever_call_goes_wrong_nobody_is_left_out_and_no_attempt_fails(
    port: str, masking: Masking, mischief: Mischief, silence: int, least: int
) -> None:
    # As few as a masked round takes: were one left out, its attempt would fail.
    struck = struck_again_and_again(port, mischief, masking, clients=3, silence=silence)
    assert struck.calls >= least
    assert (struck.failures, struck.left_out) == ({}, 0)


@pytest.mark.parametrize(
    ("port", "masking", "mischief", "silence", "least"),
    [
        case(SPOOL, "pet", "fails", least=10),
        case(SPOOL, "none", "fails", least=12),
        case(MEMORY, "pet", "lost, applied", least=25),
        case(MEMORY, "pet", "lost, not applied", least=25),
        *(
            case(port, masking, mischief, least=least)
            for port in (TO_COMBINER.name, FROM_COMBINER.name)
            for masking, least in (("pet", 5), ("none", 3))
            for mischief in HAPPENED_OR_NOT
        ),
    ],
)
def test_whichever_call_goes_wrong_the_round_is_made_without_whom_it_hit_or_in_its_next_attempt(
    port: str, masking: Masking, mischief: Mischief, silence: int, least: int
) -> None:
    struck = struck_again_and_again(port, mischief, masking, clients=4, silence=silence)
    assert struck.calls >= least
    assert struck.failures.total() + struck.left_out <= struck.calls
