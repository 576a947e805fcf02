"""Chaos has real processes and servers, and borrows from the system tests how these are started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
