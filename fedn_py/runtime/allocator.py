"""What the C library's allocator keeps of the memory that is freed: little, in a process that moves much through it.

glibc gives many threads a heap of their own, and lets each keep up to 64 MiB of what was freed once a large piece was.
For a server that receives from all of gRPC's threads, that is more than what it holds. Where no large piece was, each
keeps next to nothing, and every chunk of a transfer is memory that the kernel has to clear first.
"""

import ctypes

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

_MIB = 1024 * 1024
_MOST_HEAPS = 1
"""Of two, each keeps holes that what goes to the other would fill; threads that wait for one cost no more than that."""

_KEPT_BYTES = 16 * _MIB
_FROM_THE_KERNEL_BYTES = 4 * _MIB
"""So much at once comes from the kernel and goes back to it; chunks of transfers are smaller, and stay at hand."""


def keep_little() -> None:
    """Have the allocator keep little; where it is another than glibc's, do nothing. To be called before threads run."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_ARENA_MAX, _MOST_HEAPS)
    mallopt(_M_MMAP_THRESHOLD, _FROM_THE_KERNEL_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
