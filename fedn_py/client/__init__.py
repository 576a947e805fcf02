"""The client daemon, and the class to take part from a process of one's own."""

from fedn_py.client.participant import Participant

__all__ = ["Participant"]
