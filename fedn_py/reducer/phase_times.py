"""When the round at hand went from one phase to the next, by the reducer's clock; for people, no decision hangs on it.

The shell looks at every state that the machine goes through, and writes what it saw down with what it writes of the
round anyway: its commit, its failure, its validation.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fedn_py.identity import SessionId
from fedn_py.protocol.reducer_work import Effect, Event, Failed, Gathering, Idle, Paused, Reducer, Validating, Work
from fedn_py.reducer.records import PhaseRecord, RoundRecord
from fedn_py.reducer.views import phase_of
from fedn_py.runtime.mailbox import Step

_ATTEMPTS_KEPT = 2
_ANOTHER_LIFE = 0
"""In the place of an attempt's number: it committed under another life of this reducer, which validates its model."""


@dataclass(frozen=True, slots=True)
class _AttemptName:
    session: SessionId
    round_number: int
    attempt: int


class PhaseTimes:
    """The phases of the newest attempt and of the one before it: the next begins before a validation is written down.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._phase = "idle"
        self._at_hand: _AttemptName | None = None
        self._seen: dict[_AttemptName, tuple[PhaseRecord, ...]] = {}
        self._since = clock()

    @property
    def since(self) -> float:
        """When the phase at hand began, whatever it is."""
        return self._since

    def began(self, phase: str) -> float:
        """Return when a phase of the attempt at hand began, or the one at hand where that was not seen."""
        seen = self._seen.get(self._at_hand, ()) if self._at_hand is not None else ()
        return next((one.started for one in seen if one.phase == phase), self._since)

    def timed(self, step: Step[Reducer, Event, Effect]) -> Step[Reducer, Event, Effect]:
        """Return a step function that does the same and is looked at."""

        def stepped(state: Reducer, event: Event) -> tuple[Reducer, Sequence[Effect]]:
            after, effects = step(state, event)
            if after.work is not state.work:
                self._look_at(after.work)
            return after, effects

        return stepped

    def _look_at(self, work: Work) -> None:
        phase, attempt = phase_of(work), self._attempt_of(work)
        if (phase, attempt) == (self._phase, self._at_hand):
            return
        now = self._clock()
        if self._at_hand is not None:
            self._seen[self._at_hand] = _ended(self._seen[self._at_hand], now)
        self._phase, self._at_hand, self._since = phase, attempt, now
        if attempt is not None:
            self._seen[attempt] = (*self._seen.get(attempt, ()), PhaseRecord(phase, now))
            while len(self._seen) > _ATTEMPTS_KEPT:
                del self._seen[next(iter(self._seen))]

    def _attempt_of(self, work: Work) -> _AttemptName | None:
        """Return the attempt that a phase belongs to; a validation belongs to the one that made the model."""
        match work:
            case Idle() | Gathering() | Failed() | Paused():
                return None
            case Validating(progress=progress):
                session, number = progress.terms.session, progress.committed
                seen = (one for one in reversed(self._seen) if (one.session, one.round_number) == (session, number))
                return next(seen, _AttemptName(session, number, _ANOTHER_LIFE))
            case _:
                plan = work.plan
                return _AttemptName(plan.session, plan.round_number, plan.attempt)

    def of(self, record: RoundRecord, ended: float | None = None) -> tuple[PhaseRecord, ...]:
        """Return the phases of a round's last attempt: those in its record, and those that were seen since.

        Args:
            ended: when the phase at hand has; None where the machine has left it, or it goes on.
        """
        plan = record.plan
        name = _AttemptName(plan.session, plan.round_number, plan.attempt)
        resumed = self._seen.get(replace(name, attempt=_ANOTHER_LIFE), ())
        seen = self._seen.get(name, ()) or resumed
        if not seen:
            return record.phases
        seen = seen if ended is None else _ended(seen, ended)
        first = seen[0]
        before = tuple(one for one in record.phases if one.started < first.started)
        if not before and not resumed:
            # It began a moment before it was written down, or under another life of this reducer.
            return (replace(first, started=min(record.attempt_started, first.started)), *seen[1:])
        return (*_ended(before, first.started), *seen)


def _ended(phases: tuple[PhaseRecord, ...], at: float) -> tuple[PhaseRecord, ...]:
    if not phases or phases[-1].ended:
        return phases
    return (*phases[:-1], replace(phases[-1], ended=at))
