"""What each party sees of what in a session, in plain words: made from the session's masking and from nothing else.

The rows are held to the tables in docs/explanation/masking.md and security.md, which say the same for all settings; the
sentences are in ``privacy_plain.py`` and ``privacy_masked.py``. Whatever the code changes in who is sent what has to be
changed in all of them.
"""

from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.committee import FEWEST_IN_CELL
from fedn_py.protocol.masked.options import ALWAYS_SUMMED, DEFAULT_N_MAX, GIVEN
from fedn_py.protocol.masked.round_messages import Plan
from fedn_py.protocol.reducer_terms import SessionTerms
from fedn_py.reducer.masked_documents import signed_of
from fedn_py.reducer.masked_sessions import LEAST_SLOTS
from fedn_py.reducer.privacy_masked import masked_assumptions, masked_rows
from fedn_py.reducer.privacy_plain import plain_assumptions, plain_rows
from fedn_py.reducer.privacy_words import PrivacyView, Setting
from fedn_py.reducer.records import RoundRecord, SessionRecord


def privacy_view(
    record: SessionRecord, newest: RoundRecord | None, policy: Policy | None, generated_at: float
) -> PrivacyView:
    """Return what each party sees in a session.

    Args:
        newest: the session's newest round, None before there is one.
        policy: of the operator, None where there is none; counts before the first masked round.
    """
    setting = setting_of(record.terms, newest, policy)
    masked = setting.scheme != "none"
    return PrivacyView(
        session=record.terms.session,
        name=record.name,
        scheme=setting.scheme,
        k=setting.k,
        r=setting.r,
        g_min=setting.g_min,
        reopen=setting.reopen,
        n_max=setting.n_max,
        cells=setting.cells,
        metrics=setting.metrics,
        metrics_by_client=setting.by_client,
        round_number=newest.plan.round_number if newest is not None else 0,
        generated_at=generated_at,
        rows=tuple(masked_rows(setting) if masked else plain_rows(setting)),
        assumptions=tuple(masked_assumptions(setting) if masked else plain_assumptions()),
    )


def setting_of(terms: SessionTerms, newest: RoundRecord | None, policy: Policy | None) -> Setting:
    """Return what the rows follow from."""
    if terms.masking == "none":
        return Setting("none", validates=terms.validate)
    if newest is None or newest.masked is None or newest.document is None or not newest.document.attempts:
        return _before_the_first(terms, policy)
    shown, plan = newest.masked, Plan.decode(signed_of(newest.document.attempts[-1].plan).body)
    return Setting(
        shown.scheme,
        validates=terms.validate,
        k=shown.k,
        r=shown.r,
        g_min=shown.g_min,
        reopen=shown.reopen,
        n_max=plan.n_max,
        cells=len(shown.cells),
        metrics=tuple(bound.name for bound in plan.metrics if not bound.name.startswith(GIVEN)),
        by_client=plan.metrics_release == "client",
    )


def _before_the_first(terms: SessionTerms, policy: Policy | None) -> Setting:
    """Return the least that plans can have by the session's options and the operator's policy."""
    options = terms.masked
    k_min, r_min, most, reopen, metrics = (
        (LEAST_SLOTS, 1, DEFAULT_N_MAX, "reducer", "sum")
        if policy is None
        else (policy.k_min, policy.r_min, policy.n_max_max, policy.reopen, policy.metrics)
    )
    k, r = options.k or max(LEAST_SLOTS, k_min), options.r or max(1, r_min)
    summed = () if metrics == "none" else (*ALWAYS_SUMMED, *options.metrics)
    return Setting(
        terms.masking,
        validates=terms.validate,
        k=k,
        r=r,
        g_min=max(terms.least_in_cell, FEWEST_IN_CELL),
        reopen="strict" if reopen == "strict" else options.reopen or ("reducer" if r == 1 else "strict"),
        n_max=options.n_max or min(DEFAULT_N_MAX, most),
        metrics=tuple(sorted(summed)),
        by_client=metrics == "client",
    )
