"""A session's terms in words."""

from fedn_py.reducer.control import SessionOptions


def masking_in_words(options: SessionOptions) -> str:
    """Return how a session hides its updates, in one line."""
    if options.masking == "none":
        return "none: combiners and the reducer can read each client's update"
    masked = options.masked
    by_size = {"k": masked.k, "r": masked.r, "g_min": masked.g_min, "largest cell": masked.n_max}
    parts = [
        f"clip {masked.clip:g}",
        *(f"{name} {value or 'by cell size'}" for name, value in by_size.items()),
        f"weight cap {masked.weight_cap:,} at {masked.weight_unit:,} samples a unit",
        f"reopen {masked.reopen or 'by replicas'}",
        *(f"{name} within ±{bound:g}" for name, bound in masked.metrics.items()),
    ]
    return f"{options.masking}: {', '.join(parts)}"
