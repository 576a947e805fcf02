"""The addresses at which a network's reducers can be reached: one is active, the others wait to take over."""

import asyncio
from collections.abc import Sequence

from fedn_py.transport.channels import Channel, secure_channel


class ReducerChannels:
    """A channel to each address, of which one at a time is used.

    Args:
        addresses: host:port each, at least one.
    """

    def __init__(self, addresses: Sequence[str], authority_pem: bytes, token: str) -> None:
        self._channels = [secure_channel(address, authority_pem, token) for address in addresses]
        self._at = 0

    @property
    def current(self) -> Channel:
        """The one in use."""
        return self._channels[self._at]

    def turn(self) -> bool:
        """Use the next one; returns whether all have had their turn, and the first one has it again."""
        self._at = (self._at + 1) % len(self._channels)
        return self._at == 0

    async def close(self) -> None:
        """End all connections."""
        await asyncio.gather(*(channel.close() for channel in self._channels))
