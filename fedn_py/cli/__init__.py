"""The command line, ``fedn-py``."""
