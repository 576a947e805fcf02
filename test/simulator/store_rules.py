"""How processes go about the stores they share; a planted bug replaces one of these rules."""

from collections.abc import Callable
from dataclasses import dataclass

from simulator.documents import StoreLink
from simulator.lease import LeasedNode, lease_of, stamp
from simulator.objects import served
from simulator.storing import StoringNode, is_kept
from simulator.working import Work

from fedn_py.identity import Digest
from fedn_py.reducer.lease import Lease
from fedn_py.store.memory import MemoryObjects


@dataclass(frozen=True)
class StoreRules:
    """The rules.

    Attributes:
        link: a process's way to the documents. lease: its view of the lease.
        stamp: what a new reducer does before it reads. served: how an object is read.
        is_kept: looks whether an object that was named is there.
        is_older: whether a reducer is older than another that a combiner has heard of.
    """

    link: Callable[..., StoreLink] = StoreLink
    lease: Callable[[LeasedNode], Lease] = lease_of
    stamp: Callable[[LeasedNode], Work] = stamp
    served: Callable[[MemoryObjects, Digest], bytes] = served
    is_kept: Callable[[StoringNode, Digest], bool] = is_kept
    is_older: Callable[[int, int], bool] = lambda fence, highest: fence < highest
