"""Modules beside this file can be imported by the combiner's tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
