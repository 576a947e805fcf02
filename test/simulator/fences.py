"""What must hold of several reducers on the same stores, whatever fails; S1 to S5, S10 and S11 are their names."""

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from fedn_py.identity import Digest
from fedn_py.reducer.records import round_key
from fedn_py.store.ports import Document

if TYPE_CHECKING:
    from simulator.lease import LeasedNode
    from simulator.nodes import Node
    from simulator.world import World

ONE_MODEL = "one model for each round"
CHAIN = "the trail is a chain"
VALIDATED = "what is committed is validated"
NEVER_UNSEEN = "a commit is never unseen"
FENCE_GROWS = "the fence of a document never decreases"
FENCED_OFF = "nothing with an old fence changes what a newer reducer has taken over"
KEEPS_LEASE = "a live holder keeps its lease"
NEWEST_ALONE = "a combiner serves no reducer older than one that it has heard of"
NAMED_IS_THERE = "what a document names is there"
WISH_KEPT = "what was wished is kept"
CHANGE_HOLDS = "what was changed holds"
SERVED_IS_RIGHT = "nobody is served bytes that do not hash to their name"

_SETTLED_S = 30.0


class InvariantBroken(Exception):
    """A rule did not hold.

    Attributes:
        rule: its name.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(rule, detail)
        self.rule, self.detail = rule, detail

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


class FenceRules:
    """Watches reducers and stores."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._fences: set[int] = set()
        self._newest_fence = 0
        self._stamped: dict[tuple[str, str], int] = {}
        self._heard_of: dict[Node, tuple[int, int]] = {}
        self._told: dict[tuple[str, int], Digest] = {}

    # ---- who acts

    def lease_taken(self, node: "LeasedNode", fence: int) -> None:
        """A reducer has the lease, though another may have taken it since: each gets a number of its own."""
        check(fence not in self._fences, FENCE_GROWS, (node, fence))
        self._fences.add(fence)
        self._newest_fence = max(self._newest_fence, fence)
        settled = self._world.clock.now > self._world.sizes.quiet_after_s + _SETTLED_S
        others = [one for one in self._world.reducers if one.fence and one is not node and one.asleep is None]
        check(not (settled and self._world.chaos.quiet and others), KEEPS_LEASE, (node, others))
        self._world.chaos.noticed("lease taken" if fence == 1 else "lease taken over")

    def taken_over(self, fence: int) -> None:
        """A reducer is about to act: what it goes on with is its own from now on."""
        store = self._world.store
        live = [("sessions", str(store.terms.session))]
        live += [("rounds", round_key(store.terms.session, max(store.rounds)))] if store.rounds else []
        for key in live:
            self._stamped[key] = max(self._stamped.get(key, 0), fence)

    def goes_by_the_operator(self, plan: object, fence: int) -> None:
        """A reducer has begun an attempt: no wish is left that forbids it, and no change that it does not go by.

        One that has been superseded may not know of them yet; its attempt is replaced.
        """
        store = self._world.store
        newest = fence >= self._newest_fence
        check(store.intent == "run" or not newest, WISH_KEPT, (store.intent, plan))
        check(store.changed is None or not newest, CHANGE_HOLDS, (store.changed, plan))

    def recovered(self, node: "LeasedNode", started: Any) -> None:
        """A reducer knows where the session was: it knows of all that was told."""
        if started is None:
            return
        progress, found = started.progress, started.found
        for (session, number), model in self._told.items():
            known = self._world.store.rounds.get(number)
            reached = number <= progress.committed or (found is not None and found.plan.round_number == number)
            seen = reached and known is not None and known.model == model
            check(seen or session != progress.terms.session, NEVER_UNSEEN, (node, number, progress.committed))

    def welcomed(self, combiner: "Node", fence: int) -> None:
        """A combiner goes by what a reducer says."""
        life, highest = self._heard_of.get(combiner, (0, 0))
        check(life != combiner.life or fence >= highest, NEWEST_ALONE, (combiner, fence, highest))
        self._heard_of[combiner] = (combiner.life, fence)

    def woken(self, node: "Node") -> None:
        """A process that was stopped goes on."""

    # ---- stores

    def document_written(
        self, writer: "LeasedNode", key: tuple[str, str], before: Document | None, after: Document
    ) -> None:
        """A document was changed."""
        check(before is None or after.fence >= before.fence, FENCE_GROWS, (writer, key, before, after))
        if key[0] != "network":
            check(after.fence >= self._stamped.get(key, 0), FENCED_OFF, (writer, key, after, self._stamped.get(key)))
            self._stamped[key] = max(self._stamped.get(key, 0), after.fence)

    def told(self, session: str, number: int, model: Digest) -> None:
        """Everybody hears of a commit."""
        known = self._told.setdefault((session, number), model)
        check(known == model, ONE_MODEL, (number, known, model))
        check(model in self._world.store.objects, NAMED_IS_THERE, (number, model))

    def deleted(self, digest: Digest) -> None:
        """An object was removed."""
        check(digest not in self._told.values(), NAMED_IS_THERE, digest)

    def served(self, digest: Digest, content: bytes) -> None:
        """Somebody is given an object."""
        check(sha256(content).hexdigest() == digest, SERVED_IS_RIGHT, digest)


def check(holds: object, rule: str, detail: object) -> None:
    """Raise InvariantBroken unless a rule holds."""
    if not holds:
        raise InvariantBroken(rule, f"{detail}")
