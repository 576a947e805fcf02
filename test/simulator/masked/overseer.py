"""Who looks after the sessions of a simulated network, as an operator would: resumes, starts the next one, gives up."""

from typing import TYPE_CHECKING, Any

from fedn_py.protocol.masked_rounds import PRIVACY_HOLD
from fedn_py.protocol.reducer_work import Idle, Paused, PauseRequested, RecordSession, ResumeRequested

if TYPE_CHECKING:
    from simulator.masked.world import MaskedWorld

MOST_RESUMED = 30
LOOKED_AFTER_S = 400.0


class Overseer:
    """Looks after sessions."""

    def __init__(self, world: "MaskedWorld") -> None:
        self._world = world
        self._begun, self._resumed = 1, 0
        self._looked_at: tuple[int, int] | None = None

    def session_recorded(self, effect: RecordSession) -> None:
        """Look after a session that rests, and begin the next one when it has ended."""
        if effect.status == "paused":
            if not self._world.chaos.quiet and self._world.rng.random() < 0.8:
                self._world.clock.after(self._world.rng.uniform(1, 60), self._resume)
        elif effect.status in {"finished", "stopped"}:
            self._world.chaos.noticed(f"session {effect.status}")
            self._next_session()

    def _next_session(self) -> None:
        if self._begun >= self._world.sizes.sessions:
            self._world.over = True
            return
        self._world.clock.after(self._world.rng.uniform(0.5, 20), self._start_session)

    def _start_session(self) -> None:
        reducer: Any = self._world.reducer
        if self._world.store.status not in {"finished", "stopped"}:
            return
        if not reducer.up or not isinstance(reducer.state.work, Idle) or reducer.waiting:
            self._world.clock.after(5.0, self._start_session)
            return
        self._begun += 1
        self._resumed = 0
        reducer.start_session(self._world.terms_of(self._begun))

    def _resume(self) -> None:
        if (
            self._world.reducer.up
            and not self._world.chaos.quiet
            and isinstance(self._world.reducer.state.work, Paused)
        ):
            held = self._world.reducer.state.work.reason.startswith(PRIVACY_HOLD)
            anew = self._world.rng.random() < (0.5 if held else 0.2) and self._may_work_anew()
            self._world.reducer.take(ResumeRequested(self._world.store.terms.session, new_work=anew))

    def look_after(self) -> None:
        """Look after the session when everything is well again.

        One that rests is resumed, first as it is and then with a new work; one that tries in vain rests first.
        """
        self._world.clock.after(LOOKED_AFTER_S, self.look_after)
        work = self._world.reducer.state.work
        if not self._world.reducer.up or isinstance(work, Idle):
            return
        committed = (self._world.store.terms.number, work.progress.committed)
        if not isinstance(work, Paused):
            if self._looked_at == committed:
                self._world.reducer.take(PauseRequested(self._world.store.terms.session))
            self._looked_at = committed
            return
        self._resumed += 1
        if self._resumed > MOST_RESUMED:
            self._world.over = True
            return
        self._looked_at = None
        anew = self._resumed > 1 and self._may_work_anew()
        self._world.reducer.take(ResumeRequested(self._world.store.terms.session, new_work=anew))

    def _may_work_anew(self) -> bool:
        """Say whether clients would do another work on the same base; a hold says so to people."""
        progress = self._world.reducer.state.work.progress  # type: ignore[union-attr]
        return progress.terms.rework_max > progress.works
