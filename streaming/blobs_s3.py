"""The claim-check store on S3 or anything that speaks its protocol, through obstore (extra `s3`).

obstore (Rust's object_store; one wheel of 16 MB, no dependencies but typing-extensions; botocore alone is 27 MB) reads
the usual AWS_* variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL for another server than
Amazon's, AWS_ALLOW_HTTP=true for one without TLS; and the roles of EC2, ECS and EKS.
"""

import hashlib
import os
from datetime import timedelta

from streaming.blobs import dataref_of, digest_of, verified
from streaming.errors import ConfigError, InvalidMessage, Unavailable

TIMEOUT = timedelta(seconds=60)
CONNECT_TIMEOUT = timedelta(seconds=5)
RETRY_FOR = timedelta(seconds=10)


class S3BlobStore:
    """Objects named by their SHA-256 under a bucket's prefix. Implements `blobs.BlobStore`."""

    def __init__(self, url: str) -> None:
        if not url.startswith("s3://") or len(url) <= len("s3://"):
            raise ConfigError("WARDWATCH_BLOB_URL is no s3://bucket/prefix")
        try:
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ImportError:
            raise ConfigError("WARDWATCH_BLOB_URL needs the extra s3: pip install 'wardwatch[s3]'") from None
        self._error = BaseError
        try:
            self._store = S3Store.from_url(
                url,
                client_options={
                    "timeout": TIMEOUT,
                    "connect_timeout": CONNECT_TIMEOUT,
                    "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true",  # ours replace the library's
                },
                retry_config={"max_retries": 3, "retry_timeout": RETRY_FOR},
                checksum_algorithm="SHA256",
            )
        except (BaseError, ValueError) as error:
            raise ConfigError(f"WARDWATCH_BLOB_URL cannot be used ({type(error).__name__})") from None

    def put(self, data: bytes) -> tuple[str, str]:
        """Keeps the bytes, on the server before it returns; gives (dataref, SHA-256).

        Raises:
            Unavailable: the server refused or does not answer.
        """
        digest = hashlib.sha256(data).hexdigest()
        try:
            # The server checks the SHA-256 that travels with it; a part of a failed upload never becomes an object.
            self._store.put(_name(digest), data)
        except (self._error, OSError) as error:
            raise Unavailable(f"the blob store cannot be written ({type(error).__name__})") from error
        return dataref_of(digest), digest

    def get(self, dataref: str, sha256: str, limit: int) -> bytes:
        """The bytes behind a claim check.

        Raises:
            InvalidMessage: blob-missing, blob-mismatch or too-large.
            Unavailable: the server does not answer.
        """
        digest = digest_of(dataref, sha256)
        try:
            found = self._store.get(_name(digest))
            if found.meta["size"] > limit:
                raise InvalidMessage("too-large", f"the blob is larger than {limit} bytes")
            data = bytes(found.bytes())
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):  # S3's error code: a wrong setting, and no fault of the event
                raise Unavailable("the blob store's bucket does not exist") from None
            raise InvalidMessage("blob-missing", "the blob store has no such bytes") from None
        except (self._error, OSError) as error:
            raise Unavailable(f"the blob store cannot be read ({type(error).__name__})") from error
        return verified(data, sha256)


def _name(digest: str) -> str:
    return f"{digest[:2]}/{digest}"
