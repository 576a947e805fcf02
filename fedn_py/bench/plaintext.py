"""A process of the network whose gRPC does without TLS, on this machine's loopback alone: to see what TLS costs.

    python -m fedn_py.bench.plaintext run combiner -c combiner.yaml

Everything behind it is the command ``fedn-py`` as it is.
"""

import runpy
import sys
from collections.abc import Sequence

from fedn_py.transport.plaintext import plaintext_on_loopback


def main(arguments: Sequence[str]) -> None:
    """Run a command of ``fedn-py``."""
    sys.argv = ["fedn-py", *arguments]
    with plaintext_on_loopback():
        runpy.run_module("fedn_py", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
