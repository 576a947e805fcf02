"""What the errors of S3 servers and of the way to them mean."""

import urllib3
from minio.error import S3Error

from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.store.hashing import missing
from fedn_py.store.ports import StoreFull, StoreMisconfigured, StoreUnavailable

_REFUSED = frozenset({"AuthorizationHeaderMalformed", "XAdminUserNotFound"})  # beside all of status 401 and 403
_FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"})


def fault_of(error: Exception, server: str, bucket: str, digest: Digest | None) -> FednError:
    """Return what an error of the libraries means for whoever runs this process."""
    if isinstance(error, S3Error):
        return _refusal(error, server, bucket, digest)
    if isinstance(getattr(error, "reason", error), urllib3.exceptions.SSLError):
        return StoreMisconfigured(
            f"the certificate of MinIO at {server} is not accepted: {getattr(error, 'reason', error)}",
            remedy="Give its certificate authority in ca_file, and use the name that the certificate is for.",
        )
    return StoreUnavailable(
        f"MinIO at {server} cannot be reached or broke off ({type(getattr(error, 'reason', error)).__name__})",
        remedy="Start MinIO, or correct its URL in the settings; check names, ports and firewalls.",
    )


def _refusal(error: S3Error, server: str, bucket: str, digest: Digest | None) -> FednError:
    code = error.code or ""
    if code in ("NoSuchKey", "NoSuchObject") and digest is not None:
        return missing(digest)
    if code in ("NoSuchBucket", "InvalidBucketName", "BucketAlreadyExists"):
        return StoreMisconfigured(
            f"MinIO at {server} has no bucket {bucket!r} that can be used ({code})",
            remedy="Make the bucket, or name another one in the settings.",
        )
    if code == "RequestTimeTooSkewed":
        return StoreMisconfigured(
            f"the clocks of this machine and of MinIO at {server} differ too much", remedy="Set both clocks by NTP."
        )
    if code in _REFUSED or error.response.status in (401, 403):
        return StoreMisconfigured(
            f"MinIO at {server} refuses these keys for the bucket {bucket!r} ({code})",
            remedy="Correct the access key and the secret key, and allow them to read and write the bucket.",
        )
    if code in _FULL:
        return StoreFull(
            f"MinIO at {server} has no room left ({code})", remedy="Free some there; the object was not stored."
        )
    return StoreUnavailable(
        f"MinIO at {server} refuses a request ({code})", remedy="Look into the log of MinIO for the reason."
    )
