"""fedn_py: federated learning through tiers, over data that never leaves its owners."""

__version__ = "0.1.0"
