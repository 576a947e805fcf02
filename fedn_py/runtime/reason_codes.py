"""The codes of reasons that metrics are counted by: a closed list, so that nobody's words become a label.

A reason begins with its code and a colon (``Late: no whole update before the deadline``). It may be a client's own
text, so a code that is not in this list counts as ``other``.
"""

OTHER = "other"

REASON_CODES = frozenset(
    {
        # of an update, or of a client that sends none
        "AlreadyIn",
        "AlreadyRefused",
        "BadBox",
        "BadSignature",
        "ClientLeft",
        "ClientLost",
        "DigestMismatch",
        "EmptyOutput",
        "EntryConflict",
        "EntryPointFailed",
        "EntryPointMissing",
        "EntryPointTimedOut",
        "EnvironmentNotBuilt",
        "Expired",
        "InvalidMetrics",
        "InvalidSamples",
        "Late",
        "MalformedMessage",
        "MalformedOutput",
        "MissingTensor",
        "NotAModel",
        "NotAssigned",
        "NotFinite",
        "NotMasked",
        "PackageNotAllowed",
        "ParticipantFailed",
        "PlainRefused",
        "PlanMismatch",
        "Revoked",
        "SentAway",
        "SpoolFull",
        "UnexpectedTensor",
        "UploadBroken",
        "UploadMismatch",
        "WrongContext",
        "WrongDtype",
        "WrongLength",
        "WrongShape",
        # of a cell or an attempt
        "BaseUsedUp",
        "CellFailed",
        "CellTooSmall",
        "ClientTwice",
        "CombinerLost",
        "CommitteeNotStored",
        "DiskFailed",
        "DiskFull",
        "EchoQuorumMissing",
        "NoSamples",
        "NoSum",
        "NoSumParticipant",
        "NoWeight",
        "NotASum",
        "ObjectCorrupt",
        "ObjectMissing",
        "PeerUnreachable",
        "QuorumBeyondCommittee",
        "ReducerRestarted",
        "ReplicasDisagree",
        "SlotUnanswered",
        "Stopped",
        "StoreFull",
        "StoreMisconfigured",
        "StoreUnavailable",
        "StoresRestored",
        "TooFewClients",
        "TooFewIncluded",
        "TooFewToOpen",
        "TooFewUpdates",
        "TooLittleMemory",
        "WrongWeight",
    }
)


def code_of(reason: str) -> str:
    """Return the code that a reason begins with, or ``other`` where it is none of the list."""
    code = reason.partition(":")[0]
    return code if code in REASON_CODES else OTHER
