"""Reading an object to its end, to see whether the store still has what its name says."""

from collections.abc import AsyncIterator

from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.shown_objects import VerificationView
from fedn_py.store.ports import ObjectCorrupt, ObjectMissing, Objects

_TOLD_EVERY = 16 * 1024**2

_WAY_OUT = "Put it back from a backup that has it: fedn-py backup restore --objects-only."


async def verified(objects: Objects, digest: Digest, events: EventLog) -> AsyncIterator[VerificationView]:
    """Give how far it is every 16 MiB, and at last what came of it; what is wrong is told in the event log too."""
    done, size, told = 0, 0, 0
    try:
        size = (await objects.stat(digest)).size
        async for piece in objects.get(digest):
            done += len(piece)
            if done - told >= _TOLD_EVERY:
                told = done
                yield VerificationView(digest, done, size, "reading")
    except ObjectMissing:
        yield VerificationView(digest, done, size, "missing", _told(events, f"object {digest} is missing", digest))
    except ObjectCorrupt:
        text = f"the bytes stored as object {digest} are not what they were"
        yield VerificationView(digest, done, size, "corrupt", _told(events, text, digest))
    except FednError as fault:
        yield VerificationView(digest, done, size, "unknown", f"{fault.message}. {fault.remedy}")
    else:
        yield VerificationView(digest, done, size, "whole")


def _told(events: EventLog, what: str, digest: Digest) -> str:
    text = f"{what}. {_WAY_OUT}"
    events.tell("object.damaged", text, "error", object=digest)
    return text
