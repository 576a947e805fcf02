"""What the reducer signs of plain work: without it a combiner could send clients packages and models of its own."""

import hashlib
from dataclasses import replace

from fedn_py.protocol.masked.words import WorkOrder, WorkTerms
from fedn_py.protocol.messages import CellOrder, ValidationOrder
from fedn_py.reducer.masking_credentials import MaskingCredentials

PlainOrder = CellOrder | ValidationOrder


def with_work_terms(order: PlainOrder, credentials: MaskingCredentials) -> PlainOrder:
    """Return a plain order with what the reducer signs of it."""
    signed = credentials.sign(work_order(credentials.trust.deployment, order))
    return replace(order, signed=WorkTerms(credentials.certificate, signed))


def work_order(deployment: bytes, order: PlainOrder) -> WorkOrder:
    """Return what a plain order has its clients do; the parameters are hashed exactly as they are sent."""
    match order:
        case CellOrder(plan=plan):
            return WorkOrder(
                deployment=deployment,
                what="train",
                session=bytes.fromhex(plan.session),
                round=plan.round_number,
                attempt=plan.attempt,
                generation=order.generation,
                model_sha256=bytes.fromhex(plan.base_model),
                package_sha256=bytes.fromhex(plan.package),
                params_sha256=hashlib.sha256(plan.parameters.encode()).digest(),
            )
        case ValidationOrder():
            return WorkOrder(
                deployment=deployment,
                what="validate",
                session=bytes.fromhex(order.session),
                round=order.round_number,
                attempt=0,
                generation=order.generation,
                model_sha256=bytes.fromhex(order.model),
                package_sha256=bytes.fromhex(order.package),
                params_sha256=hashlib.sha256(order.parameters.encode()).digest(),
            )
