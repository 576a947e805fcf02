"""Which of a slot's replicas to believe, where they do not agree: each version is tried, and the guards tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from fedn_py.errors import PeerFault
from fedn_py.masking.fixed_point import UnmaskCheckFailed

Choice = tuple[bytes, ...]
"""A digest of a mask sum for each slot, in their order."""

MOST_TRIALS = 64


class ReplicasDisagree(PeerFault):
    """Two versions of a sum pass all checks; neither can be believed.

    Attributes:
        members: of the slots that have two versions.
    """

    def __init__(self, members: frozenset[bytes]) -> None:
        names = ", ".join(sorted(member.hex()[:16] for member in members))
        super().__init__(
            f"the replicas {names} answer differently, and both versions look true",
            remedy="The cell is left out. One of them lies: ask the operator to look at these clients.",
        )
        self.members = members


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which version is the cell's sum.

    Attributes:
        choice: the digest that is believed for each slot.
        wrong: members who answered with another one.
    """

    choice: Choice
    wrong: frozenset[bytes]


def trials(digests: Mapping[int, Mapping[bytes, bytes]]) -> tuple[Choice, ...]:
    """Return the versions of a cell's sum that its answers make: one where all replicas agree.

    Args:
        digests: slot to member to the digest that its answer unsealed.
    """
    versions = product(*(sorted(set(digests[slot].values())) for slot in sorted(digests)))
    return tuple(version for version, _ in zip(versions, range(MOST_TRIALS), strict=False))


def judge(digests: Mapping[int, Mapping[bytes, bytes]], passed: Mapping[Choice, bool]) -> Verdict:
    """Return which version is true, after all of them were tried.

    Args:
        passed: whether the opened sum passed its checks, for each of ``trials``.

    Raises:
        UnmaskCheckFailed: none did.
        ReplicasDisagree: more than one did.
    """
    true = [choice for choice in trials(digests) if passed[choice]]
    if not true:
        raise UnmaskCheckFailed("every version", "no version of the answers opens a sum that can be")
    if len(true) > 1:
        split = (answers for answers in digests.values() if len(set(answers.values())) > 1)
        raise ReplicasDisagree(frozenset(member for answers in split for member in answers))
    wrong = (
        member
        for slot, digest in zip(sorted(digests), true[0], strict=True)
        for member, said in digests[slot].items()
        if said != digest
    )
    return Verdict(true[0], frozenset(wrong))
