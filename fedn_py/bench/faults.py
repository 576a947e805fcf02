"""What can go wrong with a benchmark."""

from fedn_py.errors import OwnFault


class BenchFailed(OwnFault):
    """The benchmark could not be run to its end, or its result is wrong."""


class ImpossibleBench(OwnFault):
    """What was asked for cannot be measured at all, or not on this machine now."""
