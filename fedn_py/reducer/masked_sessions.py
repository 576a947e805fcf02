"""Sessions of masked rounds: what they begin with, and where they go on after a start of the reducer."""

import json
from collections.abc import Mapping
from dataclasses import replace

from fedn_py.errors import OwnFault, PeerFault
from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, Generation, InstanceId
from fedn_py.protocol.masked.committee import seats_needed
from fedn_py.protocol.masked.contexts import work_of
from fedn_py.protocol.masked.opening_work import Attempt
from fedn_py.protocol.masked.options import LEAST_CLIENTS
from fedn_py.protocol.masked_rounds import most_in_cell
from fedn_py.protocol.masked_rounds_work import Masked, PlanMasked
from fedn_py.protocol.messages import RoundPlan
from fedn_py.protocol.reducer_terms import Cell, Progress, SessionTerms
from fedn_py.reducer.masked_documents import attempt_of
from fedn_py.reducer.planning import Speaker, params_hash, plan_attempt
from fedn_py.reducer.records import RoundRecord

SEEDS_OF_A_SESSION = 1_000
"""More than a session does works on one base model."""

LEAST_SLOTS = 2
"""Of a committee; one alone could open every update."""

_HOW = (
    "Set masking up (fedn-py operator init, policy and certify; then the section masking in the reducer's settings), "
    "or start the session with masking none."
)


class MaskingNotSetUp(PeerFault):
    """A masked session is asked of a reducer that no operator has certified."""

    def __init__(self) -> None:
        super().__init__("this reducer has no operator's credential, so it can run no masked rounds", remedy=_HOW)


class MaskingWasSetUp(OwnFault):
    """A masked session is under way, and the settings no longer have what it needs."""

    def __init__(self) -> None:
        super().__init__(
            "a masked session is under way, and this reducer's settings have no section masking any more",
            remedy="Put the section masking back; the session can then be stopped, or go on.",
        )


class BeyondPolicy(PeerFault):
    """The operator's policy does not let such masked rounds be run."""


def masked_terms(terms: SessionTerms, speaker: Speaker | None, n_parameters: int) -> SessionTerms:
    """Return a session's terms with what the operator's policy makes of them.

    Args:
        n_parameters: of the seed model.

    Raises:
        MaskingNotSetUp: there is no operator.
        BeyondPolicy: no plan of such a session would be believed.
    """
    if speaker is None:
        raise MaskingNotSetUp
    policy = speaker.policy
    k, r = terms.masked.k or max(LEAST_SLOTS, policy.k_min), terms.masked.r or max(1, policy.r_min)
    least = max(LEAST_CLIENTS, policy.g_min, terms.masked.g_min, seats_needed(k, r))
    # Each new work takes the next seed; none of them may be that of another session on the same seed model.
    seeded = {"seed": 1 + SEEDS_OF_A_SESSION * (terms.number - 1), **json.loads(terms.parameters)}
    terms = replace(
        terms,
        parameters=json.dumps(seeded, sort_keys=True),
        clients_required=max(terms.clients_required, least),
        validate=terms.validate and policy.metrics == "client",
        least_in_cell=least,
        rework_max=policy.rework_max,
    )
    check_policy(terms, speaker, n_parameters)
    return terms


def check_policy(terms: SessionTerms, speaker: Speaker, n_parameters: int) -> None:
    """Plan an attempt for nobody, to see whether the policy lets it be; raises BeyondPolicy."""
    size = min(max(terms.clients_wanted, terms.clients_required), most_in_cell(terms))
    name = CombinerName("trial")
    nobody = frozenset(ClientId(f"{number:064x}") for number in range(size))
    cells = {name: Cell(InstanceId("trial"), Generation(1), nobody)}
    plan = RoundPlan(
        terms.session,
        terms.number,
        1,
        1,
        terms.seed_model,
        terms.package,
        terms.parameters,
        terms.masking,
        terms.update_timeout_s,
    )
    trial = PlanMasked(plan, Progress(terms, 0, terms.seed_model, 1, Generation(1)), cells)
    try:
        plan_attempt(
            trial,
            speaker,
            {name: bytes(32)},
            n_parameters=n_parameters,
            before=None,
            round_secret=b"\x01" * 32,
            ever_had={},
        )
    except PeerFault as fault:
        raise BeyondPolicy(f"such a session cannot be masked: {fault.message}", remedy=fault.remedy) from fault


def work_at(progress: Progress) -> bytes:
    """Return what names the work that a session is at."""
    terms = progress.terms
    return work_of(bytes.fromhex(progress.head), bytes.fromhex(terms.package), params_hash(terms.parameters))


def with_history(progress: Progress, record: RoundRecord, names: Mapping[ClientId, ClientName]) -> Progress:
    """Return progress with the attempts at the round at hand that have ended; raises AttemptDamaged."""
    attempts = [attempt_of(kept) for kept in record.document.attempts] if record.document is not None else []
    work = work_at(progress)
    others = {attempt.work for attempt in attempts} - {work}
    history = tuple(attempt for attempt in attempts if attempt.work == work)
    known = {client for attempt in history for cell in attempt.cells for client in cell.assigned}
    return replace(
        progress,
        history=history,
        works=len(others),
        names={client: name for client, name in names.items() if bytes.fromhex(client) in known},
    )


def unfinished(record: RoundRecord) -> Attempt | None:
    """Return the masked attempt of a round that has not come to its end, None where there is none."""
    if record.document is None or not record.document.attempts:
        return None
    newest = record.document.attempts[-1]
    attempt = attempt_of(newest)
    if newest.number != record.plan.attempt or (attempt.key == "unset" and record.status != "running"):
        return None
    return attempt


def found_attempt(progress: Progress, record: RoundRecord, attempt: Attempt, reason: str) -> Masked:
    """Return the work that an attempt in a document is, to be gone on with.

    Args:
        progress: before the attempt's round.
        reason: why it was given up, if it was: what was said of it is not in the document.
    """
    history = tuple(one for one in progress.history if one.attempt != attempt.attempt)
    cells = {cell.combiner: Cell(cell.instance, cell.generation, frozenset(cell.clients)) for cell in record.cells}
    model: Digest | None = record.model if record.status == "committed" else None
    progress = replace(progress, history=history, attempt=attempt.attempt)
    given_up = reason if attempt.stage == "given up" else ""
    return Masked(progress, record.plan, cells, attempt, reason=given_up, model=model)
