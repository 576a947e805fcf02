"""Which clients each combiner has had in a session: what the lots of a round are looked at for."""

from collections.abc import Collection, Mapping

from fedn_py.identity import ClientId, CombinerName, SessionId
from fedn_py.protocol.messages import RoundPlan


class ClientsHad:
    """The clients of each combiner, from round to round of the newest session that was planned.

    A combiner knows what the next round is drawn by once the last answers of a round are in. So it is believed only
    about what it said before: clients that leave it afterwards still count, and of a combiner that is new in this
    round, or to this process, nothing is known.
    """

    def __init__(self) -> None:
        self._of: tuple[SessionId, int] | None = None
        self._before: dict[CombinerName, set[ClientId]] = {}
        self._now: dict[CombinerName, set[ClientId]] = {}

    def note(
        self, plan: RoundPlan, clients: Mapping[CombinerName, Collection[ClientId]]
    ) -> dict[CombinerName, frozenset[ClientId]]:
        """Note whom an attempt is planned for.

        Returns:
            All that each of these combiners has had so far; none where it had no client in an earlier round.
        """
        of = (plan.session, plan.round_number)
        if self._of is None or self._of[0] != of[0]:
            self._before, self._now = {}, {}
        elif self._of != of:
            for name, had in self._now.items():
                self._before.setdefault(name, set()).update(had)
            self._now = {}
        self._of = of
        for name, here in clients.items():
            self._now.setdefault(name, set()).update(here)
        return {name: frozenset(self._before[name] | self._now[name]) for name in clients if name in self._before}
