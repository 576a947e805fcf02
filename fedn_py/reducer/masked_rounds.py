"""Performs what the machine of a masked attempt asks for: saved before it is sent, unset before it is said.

- A plan, its orders and its wrapped key are in the round's document before a combiner hears of them.
- A set and an opening are in the document before anybody is asked for, or decrypts, anything of them.
- A plan and an opening are named on this reducer's own disk too, as a store can be restored to a time before.
- NotOpened is signed after the document was read back without the key.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from fedn_py.errors import FednError
from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, InstanceId, SessionId
from fedn_py.protocol import messages
from fedn_py.protocol.masked.opening_work import (
    AskStream,
    CommitMean,
    ConfirmCommittee,
    KeyUnset,
    OpenCells,
    ReportFailed,
    SaveDocument,
    SendOpenSum2,
    SignNotOpened,
    UnsetKey,
)
from fedn_py.protocol.masked.opening_work import Effect as OpeningEffect
from fedn_py.protocol.masked.round_messages import BeaconLink, Plan
from fedn_py.protocol.masked.words import MaskedTerms
from fedn_py.protocol.masked_rounds_work import (
    AttemptNotPlanned,
    AttemptPlanned,
    MaskedEffect,
    MaskedEvent,
    PlanMasked,
)
from fedn_py.protocol.messages import CellOrder, Exclusion, PolicyNews, WordForClients
from fedn_py.protocol.reducer_work import Effect, Event, Reducer
from fedn_py.reducer.attempts import AttemptAtHand, Attempts
from fedn_py.reducer.cell_commits import CellCommits
from fedn_py.reducer.clients_had import ClientsHad
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger, Superseded
from fedn_py.reducer.masked_documents import bytes_of, signed_of
from fedn_py.reducer.masked_words import MaskedWords
from fedn_py.reducer.masking_credentials import MaskingCredentials
from fedn_py.reducer.naming import is_named
from fedn_py.reducer.newest_attempt import NewestAttemptFile
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.phase_times import PhaseTimes
from fedn_py.reducer.planning import Before, PlannedAttempt, n_parameters_of, plan_attempt
from fedn_py.reducer.records import OrderedCell, RoundRecord, round_key
from fedn_py.reducer.roster import Roster
from fedn_py.reducer.round_records import CommittedElsewhere, KeyStillHeld, tell_started
from fedn_py.reducer.state_key import StateKey
from fedn_py.reducer.work_orders import PlainOrder, with_work_terms
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.store.ports import Objects
from fedn_py.transport.completion import in_thread


class MaskedRounds:
    """The shell around the machine of masked attempts.

    Args:
        scratch: folder for masked sums and sealed streams at hand.
        phases: when the round at hand went from phase to phase.
        clock: seconds since 1970, for people.
    """

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        events: EventLog,
        scratch: Path,
        *,
        credentials: MaskingCredentials,
        state_key: StateKey,
        newest_file: NewestAttemptFile,
        patience: Patience,
        roster: Roster,
        mailbox: Mailbox[Reducer, Event, Effect],
        phases: PhaseTimes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._objects = objects
        self._events = events
        self._credentials = credentials
        self._patience = patience
        self._roster = roster
        self._mailbox = mailbox
        self._clock = clock
        self._sizes: dict[SessionId, int] = {}
        self._had = ClientsHad()
        self._attempts = Attempts(
            ledger,
            patience,
            state_key,
            newest_file=newest_file,
            deployment=credentials.trust.deployment,
            name_of=roster.name_of,
        )
        self.words = MaskedWords(
            ledger,
            objects,
            events,
            attempts=self._attempts,
            patience=patience,
            credentials=credentials,
            roster=roster,
            mailbox=mailbox,
        )
        self._commits = CellCommits(
            ledger,
            objects,
            events,
            scratch,
            attempts=self._attempts,
            patience=patience,
            credentials=credentials,
            name_of=roster.name_of,
            ask_stream=self.words.ask_stream,
            phases=phases,
            clock=clock,
        )
        roster.on_came = self.words.came

    # ---- combiners

    def welcome(self, name: CombinerName, instance: InstanceId) -> None:
        """Tell a combiner that has joined what the operator's policy is."""
        self._roster.send(name, instance, PolicyNews(self._credentials.signed_policy))

    def heard(self, name: CombinerName, instance: InstanceId, message: messages.FromCombiner) -> None:
        """Take what a combiner says of masked rounds."""
        match message:
            case messages.CommitteeFormed():
                self.words.committee_formed(name, message)
            case messages.MaskedPartial():
                self.words.partial_arrived(name, instance, message)
            case messages.WordPassedOn(client, word):
                self.words.heard(name, client, word)

    def order(self, combiner: CombinerName, order: CellOrder) -> CellOrder:
        """Return an order with what was signed of it."""
        plan = order.plan
        at = self._attempts.of(plan.session, plan.round_number, plan.attempt)
        assert at is not None, "an attempt is written down before it is ordered"
        return replace(order, masked=MaskedTerms(self._credentials.certificate, at.plan, at.orders[combiner]))

    def plain_order(self, order: PlainOrder) -> PlainOrder:
        """Return an order to work in the clear with what the reducer signs of it."""
        return with_work_terms(order, self._credentials)

    # ---- after a start

    async def restore(self, session: SessionId) -> None:
        """Take up the attempts at the newest round of a session; raises AttemptDamaged."""
        found = await self._ledger.find("rounds", RoundRecord, {"session": session}, descending=True, limit=1)
        for record in found:
            self._attempts.restore(record)
        for at in self._attempts.all():
            if at.attempt.key == "unset":
                self._mailbox.spawn(self._drop_objects(at))

    def in_use(self) -> set[Digest]:
        """Return the objects of the attempts that have not ended, whether a document names them yet or not."""
        return {digest for at in self._attempts.all() for digest in at.in_use()}

    # ---- planning

    async def plan(self, effect: PlanMasked) -> list[Event]:
        """Sign an attempt's plan and orders and write them down."""
        where = (effect.plan.session, effect.plan.round_number, effect.plan.attempt)
        try:
            await self._patience.until_done(self.look_for_policy)
            round_secret = secrets.token_bytes(32)
            planned = await self._patience.until_done(lambda: self._planned(effect, round_secret))
        except (Superseded, CommittedElsewhere, KeyStillHeld):
            raise
        except FednError as fault:
            return [AttemptNotPlanned(*where, f"{fault.code}: {fault.message}")]
        at = AttemptAtHand(
            effect.plan.session,
            planned.plan,
            planned.orders,
            planned.terms,
            planned.attempt,
            left_out=_left_out(effect, planned.left_out),
        )
        await self._begin(at, effect, round_secret)
        names = self._names_of(effect)
        return [AttemptPlanned(*where, planned.attempt, planned.left_out, names)]

    async def look_for_policy(self) -> None:
        """Take a new policy from its file, and have everybody hold to it."""
        if await self._credentials.refresh():
            self._roster.send_all(PolicyNews(self._credentials.signed_policy))
            self._roster.hold_to_policy()

    async def _planned(self, effect: PlanMasked, round_secret: bytes) -> PlannedAttempt:
        plan = effect.plan
        keys = {
            name: entry.masking_key for name, entry in self._roster.combiners().items() if entry.masking_key is not None
        }
        if plan.session not in self._sizes:
            self._sizes = {plan.session: await n_parameters_of(self._objects, plan.base_model)}
        had = self._had.note(plan, {name: cell.clients for name, cell in effect.cells.items()})
        # In a thread: of thousands of clients each has a lot for each slot.
        return await in_thread(
            plan_attempt,
            effect,
            self._credentials.under_one_policy(),
            keys,
            n_parameters=self._sizes[plan.session],
            before=await self._before(plan),
            round_secret=round_secret,
            ever_had={name: self._roster.registered(clients) for name, clients in had.items()},
        )

    async def _before(self, plan: messages.RoundPlan) -> Before | None:
        if plan.round_number == 1:
            return None
        record = await self._ledger.written("rounds", round_key(plan.session, plan.round_number - 1), RoundRecord)
        if record is None or record.document is None or not record.document.link:
            raise CommittedElsewhere(plan)
        link = BeaconLink.decode(bytes_of(record.document.link))
        kept = record.document.of(link.attempt)
        assert kept is not None
        beacon = Plan.decode(signed_of(kept.plan).body).beacon
        return Before(beacon, link, signed_of(record.document.commit))

    async def _begin(self, at: AttemptAtHand, effect: PlanMasked, round_secret: bytes) -> None:
        now = self._clock()
        generation = effect.progress.generation
        fresh = RoundRecord(effect.plan, "running", generation, (), started=now, attempt_started=now)
        ordered = tuple(
            OrderedCell(name, cell.instance, cell.generation, tuple(sorted(cell.clients)))
            for name, cell in effect.cells.items()
            if name in at.orders
        )
        tell_started(self._events, await self._attempts.begin(at, fresh, round_secret, ordered))
        for name, reason in sorted(_reasons(effect, at).items()):
            text = f"combiner {name} has no cell in round {effect.plan.round_number}: {reason}"
            self._events.tell("cell.left_out", text, "warning", combiner=name, session=effect.plan.session)

    def _names_of(self, effect: PlanMasked) -> Mapping[ClientId, ClientName]:
        return {client: self._roster.name_of(client) for cell in effect.cells.values() for client in cell.clients}

    # ---- effects

    async def perform(self, wanted: MaskedEffect) -> list[Event]:
        """Do what an attempt's machine asks for."""
        at = await self._attempts.needed(wanted.session, wanted.round_number, wanted.attempt)
        return await self._perform(at, wanted.effect)

    async def _perform(self, at: AttemptAtHand, effect: OpeningEffect) -> list[Event]:
        match effect:
            case SaveDocument(attempt):
                await self._attempts.save(at, attempt)
                if attempt.key == "unset":
                    self._mailbox.spawn(self._drop_objects(at))
            case ConfirmCommittee(cell, ctx):
                self.words.confirm_committee(at, cell, ctx)
            case SendOpenSum2(opening):
                self.words.ask_to_open(at, opening)
            case AskStream(ctx, member):
                self.words.ask_stream(at, ctx, member)
            case OpenCells(ctxs):
                await self._attempts.name_newest(at)
                self._mailbox.spawn(self._commits.open(at, ctxs))
            case CommitMean(ctxs):
                await self._attempts.name_newest(at)
                base = Digest(at.plan_body.base_sha256.hex())
                self._mailbox.spawn(self._commits.commit(at, ctxs, base))
            case UnsetKey():
                await self._attempts.unset_key(at)
                return [MaskedEvent(*at.where, KeyUnset())]
            case SignNotOpened(void):
                self._roster.send_all(WordForClients((), self._credentials.sign(void)))
            case ReportFailed(reason):
                self.words.ask_to_abort(at, reason)
        return []

    async def _drop_objects(self, at: AttemptAtHand) -> list[Event]:
        """Remove the masked sums and sealed streams of an attempt that has ended; what stays behind takes room."""
        for digest in sorted(at.objects()):
            try:
                if not await is_named(self._ledger, digest):
                    await self._objects.delete(digest)
            except FednError as fault:
                text = f"an object of a masked attempt could not be removed: {fault.message}"
                self._events.tell("object.kept", text, "warning", object=digest)
        return []


def _left_out(effect: PlanMasked, reasons: Mapping[CombinerName, str]) -> tuple[Exclusion, ...]:
    return tuple(
        Exclusion(client, reason) for name, reason in reasons.items() for client in sorted(effect.cells[name].clients)
    )


def _reasons(effect: PlanMasked, at: AttemptAtHand) -> dict[CombinerName, str]:
    by_client = {exclusion.client: exclusion.reason for exclusion in at.left_out}
    left_out = {name: cell for name, cell in effect.cells.items() if name not in at.orders}
    return {name: by_client[min(cell.clients)] for name, cell in left_out.items()}
