"""Who was attached and is not, and when each was last seen: what people want to know while a session waits."""

import re
import time
from collections.abc import Callable, Mapping, Sequence

from fedn_py.identity import ClientId
from fedn_py.protocol.reducer_terms import places
from fedn_py.protocol.reducer_work import Effect, Event, Reducer
from fedn_py.runtime.mailbox import Step
from fedn_py.runtime.passed_time import ago

MISSED_FOR_S = 86_400.0
"""Who has been away for longer is not missed any more."""

_NAMED = 3
_WAS_SEEN = " was last seen "
_WHEN = re.compile(_WAS_SEEN + "[^,;]*")


class Absences:
    """The clients that are away.

    Args:
        last_seen: of those who were here before this process began; seconds since 1970.
        clock: seconds since 1970.
    """

    def __init__(self, last_seen: Mapping[ClientId, float], clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._last_seen = dict(last_seen)

    def watched(self, step: Step[Reducer, Event, Effect]) -> Step[Reducer, Event, Effect]:
        """Return a step function that does the same and is looked at."""

        def stepped(state: Reducer, event: Event) -> tuple[Reducer, Sequence[Effect]]:
            after, effects = step(state, event)
            if after.roster is not state.roster:
                before, here = places(state.roster), places(after.roster)
                now = self._clock()
                self._last_seen.update({client: now for client in before if client not in here})
                for client in here:
                    self._last_seen.pop(client, None)
            return after, effects

        return stepped

    def in_words(self, name_of: Callable[[ClientId], str]) -> str:
        """Return who is away, who was seen last first: "hospital-b was last seen 4 minutes ago"; empty for nobody."""
        now = self._clock()
        away = [(at, client) for client, at in self._last_seen.items() if now - at < MISSED_FOR_S]
        away.sort(key=lambda one: (-one[0], one[1]))
        named = [f"{name_of(client)}{_WAS_SEEN}{ago(at, now)}" for at, client in away[:_NAMED]]
        if len(away) > _NAMED:
            named.append(f"{len(away) - _NAMED} more are away")
        return ", ".join(named)


def without_times(words: str) -> str:
    """Return words that hold some of ``in_words`` without what changes with time alone: when each was last seen."""
    return _WHEN.sub("", words)
