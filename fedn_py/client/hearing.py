"""Takes what the combiner says, one after the other in its order: to the client's machine, or through the masked side.

Plain rounds go straight to the machine, unless this client's network does not let them be.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias

from fedn_py.client.beliefs import Beliefs
from fedn_py.client.masked_side import MaskedSide
from fedn_py.client.ports import Combiner
from fedn_py.client.seats import NotAtHand
from fedn_py.errors import PeerFault
from fedn_py.identity import Digest, Generation
from fedn_py.protocol.client import Attached, Cancelled, Committed, Detached, Event, Tasked
from fedn_py.protocol.masked.words import Links
from fedn_py.protocol.messages import (
    PolicyNews,
    RoundCommitted,
    SaidToClient,
    TaskCancelled,
    TaskFailed,
    ToClient,
    TrainTask,
    ValidateTask,
    ValidationOrder,
)
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import MailboxClosed

Came: TypeAlias = ToClient | Attached | Detached

_log = logger("fedn_py.client")


class PackageNotAllowed(PeerFault):
    """A task asks for a package that this site does not run."""

    def __init__(self, package: Digest) -> None:
        super().__init__(
            f"this site does not run package {package}",
            remedy="If the site is to run it, add its digest to allowed_packages in the client's settings.",
        )


class Hearing:
    """What is heard, in its order; implements ``Listener``.

    Args:
        post: tells the client's machine.
        allowed_packages: the only ones that the site runs; None for any.
    """

    def __init__(
        self,
        masked: MaskedSide,
        beliefs: Beliefs,
        combiner: Combiner,
        post: Callable[[Event], None],
        *,
        allowed_packages: Collection[Digest] | None = None,
    ) -> None:
        self._masked, self._beliefs, self._combiner, self._post = masked, beliefs, combiner, post
        self._allowed_packages = allowed_packages
        self._waiting: asyncio.Queue[Came] = asyncio.Queue()

    def attached(self) -> None:
        """Learn that a combiner has welcomed the client."""
        self._waiting.put_nowait(Attached())

    def detached(self) -> None:
        """Learn that its stream is over."""
        self._masked.links_came(None)
        self._waiting.put_nowait(Detached())

    def heard(self, message: ToClient) -> None:
        """Take a message."""
        match message:
            case SaidToClient(Links() as links):
                self._masked.links_came(links)
                return
            case TrainTask() | ValidateTask() | TaskCancelled():
                self._masked.links_came(None)  # what waits for links is an older task
        self._waiting.put_nowait(message)

    async def run(self) -> None:
        """Take what came until cancelled; raises an OwnFault where something could not be remembered."""
        while True:
            came = await self._waiting.get()
            try:
                await self._take(came)
            except NotAtHand as late:  # an everyday thing
                _log.info("passed over", fault=late.code, reason=late.message)
            except (PeerFault, MailboxClosed) as fault:
                _log.warning("refused", fault=fault.code, reason=fault.message, what_to_do=fault.remedy)

    async def _take(self, came: Came) -> None:
        match came:
            case Attached():
                self._post(came)
                self._masked.say_again()
            case Detached():
                self._post(came)
            case TrainTask():
                await self._take_training(came)
            case ValidateTask(order):
                if await self._allowed(order.generation, self._check_validation(order)):
                    self._post(Tasked(came))
            case TaskCancelled():
                self._post(Cancelled(came))
            case RoundCommitted():
                self._post(Committed(came))
                await self._masked.round_committed(came)
            case PolicyNews(policy):
                await self._masked.take_policy(policy)
            case SaidToClient(word):
                await self._masked.take_word(word)
            case _:
                pass  # heartbeats have done their work by arriving

    async def _take_training(self, task: TrainTask) -> None:
        plain = task.masked is None and task.plan.masking == "none"
        if not await self._allowed(task.generation, self._check_training(task, plain=plain)):
            return
        if plain or await self._masked.take_task(task):
            self._post(Tasked(task))

    async def _check_training(self, task: TrainTask, *, plain: bool) -> None:
        self._check_package(task.plan.package)
        if plain:
            await self._beliefs.believe_training(task)

    async def _check_validation(self, order: ValidationOrder) -> None:
        self._check_package(order.package)
        self._beliefs.believe_validation(order)

    def _check_package(self, package: Digest) -> None:
        if self._allowed_packages is not None and package not in self._allowed_packages:
            raise PackageNotAllowed(package)

    async def _allowed(self, generation: Generation, check: Awaitable[None]) -> bool:
        try:
            await check
        except PeerFault as fault:
            _log.warning("takes no part", fault=fault.code, reason=fault.message, what_to_do=fault.remedy)
            self._combiner.send(TaskFailed(generation, f"{fault.code}: {fault.message}"))
            return False
        return True
