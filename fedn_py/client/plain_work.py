"""What a registered client looks at before it does work without masks: that its network's reducer asks for just this.

A combiner alone could otherwise have it run a package of its own, or do in the clear what was to be masked.
"""

import hashlib
from collections.abc import Sequence

from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.contexts import WrongContext, work_of
from fedn_py.protocol.masked.registry import Trust, verify_server
from fedn_py.protocol.masked.signing import read_signed
from fedn_py.protocol.masked.words import WorkOrder
from fedn_py.protocol.messages import RoundPlan, TrainTask, ValidationOrder


class UnsignedTask(PeerFault):
    """A plain task came without the reducer's signed order."""

    def __init__(self) -> None:
        super().__init__(
            "the task is not signed by the reducer, so a combiner may have made it up",
            remedy="Give the reducer its credential, as for masked rounds: it then signs plain work too.",
        )


class OrderMismatch(PeerFault):
    """A plain task says something else than the order that the reducer signed."""

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(
            f"the task differs from the order that the reducer signed: {', '.join(fields)}",
            remedy="The combiner, or somebody on the way, altered the task.",
        )


class WasMasked(PeerFault):
    """What was to be masked once is asked for in the clear."""

    def __init__(self) -> None:
        super().__init__(
            "this client was asked to do this work under masks, and does not do it without them",
            remedy="Start a session with another base model or other parameters, or with masking pet.",
        )


def check_plain_work(work: TrainTask | ValidationOrder, trust: Trust, policy: Policy, now_s: int) -> None:
    """Look whether a reducer of this network asks for a plain piece of work.

    Args:
        now_s: wall clock, seconds since 1970.

    Raises:
        UnsignedTask: nobody signed it.
        UnknownOperator, Revoked, Expired, WrongSigner, BadSignature, MalformedMessage: it is not a reducer's word.
        WrongContext: the order is of another network, or for the other kind of work.
        OrderMismatch: the order is for something else.
    """
    if work.signed is None:
        raise UnsignedTask
    cert = verify_server(work.signed.certificate, trust, "reducer", policy, now_s)
    order = read_signed(work.signed.order, WorkOrder, signer=cert.server_key)
    if (order.deployment, order.what) != (trust.deployment, "train" if isinstance(work, TrainTask) else "validate"):
        raise WrongContext(WorkOrder.kind)
    signed: dict[str, object] = {
        "session": order.session.hex(),
        "round": order.round,
        "attempt": order.attempt,
        "generation": order.generation,
        "model": order.model_sha256.hex(),
        "package": order.package_sha256.hex(),
        "parameters": order.params_sha256,
    }
    said = _said(work)
    wrong = [name for name, value in signed.items() if said[name] != value]
    if wrong:
        raise OrderMismatch(wrong)


def work_of_plan(plan: RoundPlan) -> bytes:
    """Return what names a plan's piece of work, masked or not."""
    base, package = bytes.fromhex(plan.base_model), bytes.fromhex(plan.package)
    return work_of(base, package, params_sha256(plan.parameters))


def params_sha256(parameters: str) -> bytes:
    """Return the hash of parameters as they were sent."""
    return hashlib.sha256(parameters.encode()).digest()


def _said(work: TrainTask | ValidationOrder) -> dict[str, object]:
    if isinstance(work, ValidationOrder):
        round_number, attempt, model = work.round_number, 0, work.model
        session, package, parameters = work.session, work.package, work.parameters
    else:
        plan = work.plan
        round_number, attempt, model = plan.round_number, plan.attempt, plan.base_model
        session, package, parameters = plan.session, plan.package, plan.parameters
    return {
        "session": session,
        "round": round_number,
        "attempt": attempt,
        "generation": work.generation,
        "model": model,
        "package": package,
        "parameters": params_sha256(parameters),
    }
