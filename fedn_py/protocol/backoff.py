"""How long to wait before trying again: full jitter, so that a thousand clients do not come back in one second."""

_MOST_DOUBLINGS = 32


def delay_s(attempt: int, random01: float, base_s: float, cap_s: float) -> float:
    """Return the seconds to wait before an attempt.

    The wait is drawn evenly from 0 up to ``base_s`` doubled once for each failed attempt before, at most ``cap_s``.

    Args:
        attempt: counts the failures so far, from 1.
        random01: a fresh random number, 0 <= random01 < 1.
        base_s: the bound of the first wait.
        cap_s: the bound of every wait.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, the variant called full jitter.
    """
    # The exponent is bounded so that a peer that is away for weeks does not overflow a float.
    doublings = min(max(attempt - 1, 0), _MOST_DOUBLINGS)
    return random01 * min(cap_s, base_s * 2.0**doublings)
