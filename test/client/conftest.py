"""Modules beside this file can be imported by the client's tests, and logging is as it was after each."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
