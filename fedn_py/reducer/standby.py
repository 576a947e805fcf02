"""A reducer that waits: another one is active on the same stores, and this one takes over when that one ends.

While it waits it makes sure, as soon as the other one shows that it lives, that it could take over: that it has the
same keys and reaches the same objects; and it follows what it must know by itself in the middle of a masked round.
"""

import asyncio
from collections.abc import Awaitable, Callable

from fedn_py.errors import OwnFault
from fedn_py.reducer.lease import LOOK_EVERY_S, Holder, Lease, Seen
from fedn_py.reducer.patience import WAITED_FOR
from fedn_py.runtime.logging import logger
from fedn_py.runtime.own_loop import OwnLoop

FOLLOW_EVERY_S = 5.0

_log = logger("fedn_py.reducer")


class OtherStateKey(OwnFault):
    """This reducer could not open what the active one has sealed."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(
            f"{holder} is active with another state key than the one here; taking over from it, this reducer could "
            "not finish a masked round",
            remedy="Copy the file state.key from its state_dir over the one here (masking.state_key_file).",
        )


class OtherCredential(OwnFault):
    """Clients in the middle of a masked round would not believe this reducer."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(
            f"{holder} is active with another masking credential than the one here; clients in the middle of a masked "
            "round would not believe this reducer",
            remedy="Give both reducers the same file masking.credential_file.",
        )


class MaskingMissing(OwnFault):
    """The active reducer runs masked rounds, and this one could not."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(
            f"{holder} is active and runs masked rounds, and the settings of this reducer have no section masking",
            remedy="Give it the section masking, with copies of the other one's credential, policy and state key.",
        )


class ObjectsNotShared(OwnFault):
    """This reducer keeps its objects on its own disk, where no other one has put any."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(
            f"{holder} is active on the same documents, and this reducer keeps its objects in a folder of its own: "
            "taking over, it would have no models",
            remedy="Give all reducers of the network the same object store (section minio), or stop this one.",
        )


class Standby:
    """Waits for the lease.

    Args:
        own_loop: where the lease lives.
        follow: brings up to date what this reducer has to know by itself; called while another one is alive, with
            its fence.
        shares_objects: whether its objects are where other reducers put theirs.

    Attributes:
        reason: why it is not active, for people.
        waited_for: whom it saw alive; None where nobody was.
    """

    def __init__(
        self,
        lease: Lease,
        own_loop: OwnLoop,
        me: Holder,
        follow: Callable[[int], Awaitable[None]],
        *,
        shares_objects: bool,
    ) -> None:
        self._lease, self._own_loop, self._me = lease, own_loop, me
        self._follow = follow
        self._shares_objects = shares_objects
        self._followed_at: float | None = None
        self.reason = "standby: looking for another reducer"
        self.waited_for: Holder | None = None

    async def until_held(self) -> int:
        """Wait until the lease is this reducer's, and return the fence; stores and a disk that fail are waited for.

        Raises:
            OtherStateKey, OtherCredential, MaskingMissing, ObjectsNotShared: it could never take over.
            NewestAttemptUnreadable: of what it follows.
        """
        while True:
            try:
                fence = await self._try()
            except WAITED_FOR as fault:
                self.say(f"standby: {fault.message}")
                fence = None
            if fence is not None:
                return fence
            await asyncio.sleep(LOOK_EVERY_S)

    async def _try(self) -> int | None:
        seen = await self._own_loop.do(self._lease.look())
        if seen.free:
            fence = await self._own_loop.do(self._lease.take(seen))
            if fence is None:
                self.say("standby: the lease could not be taken; looking at it again")
            return fence
        assert seen.holder is not None
        if not seen.moved:
            if self.waited_for is None:
                self.say(f"standby: waiting whether {seen.holder} is alive")
            return None
        await self._keep_up(seen)
        self.say(f"standby: {seen.holder} is active")
        return None

    async def _keep_up(self, seen: Seen) -> None:
        assert seen.holder is not None
        self.waited_for = seen.holder
        check_fits(self._me, seen.holder, shares_objects=self._shares_objects)
        now = asyncio.get_running_loop().time()
        if self._followed_at is None or now - self._followed_at >= FOLLOW_EVERY_S:
            await self._follow(seen.fence)
            self._followed_at = now

    def say(self, reason: str) -> None:
        """Have this as the reason from now on."""
        if reason != self.reason:
            _log.info(reason)
        self.reason = reason


def check_fits(me: Holder, holder: Holder, *, shares_objects: bool) -> None:
    """Raise why one reducer could not take over from another that is alive."""
    if not shares_objects:
        raise ObjectsNotShared(holder)
    if holder.state_key and not me.state_key:
        raise MaskingMissing(holder)
    if holder.state_key and me.state_key != holder.state_key:
        raise OtherStateKey(holder)
    if holder.credential and me.credential != holder.credential:
        raise OtherCredential(holder)
