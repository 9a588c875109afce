"""The claim-check store: bytes too large for a message, kept by content. Owns the seam and the file system's store.

A dataref (`blob:sha256/<hex>`) names content, not a place: the same events work after the store has moved.
"""

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Protocol

from streaming.errors import InvalidMessage, Unavailable

_REF = re.compile(r"^blob:sha256/([0-9a-f]{64})$")


class BlobStore(Protocol):
    """Fixed: `put` is durable when it returns; `get` gives exactly the bytes whose hash was asked for.

    `put` raises `Unavailable`; `get` raises `InvalidMessage` (blob-missing, blob-mismatch, too-large) or `Unavailable`.
    """

    def put(self, data: bytes) -> tuple[str, str]: ...
    def get(self, dataref: str, sha256: str, limit: int) -> bytes: ...


def open_store(url: str, folder: Path) -> BlobStore:
    """The S3 store of `url` (s3://bucket/prefix), or files in `folder` when it is empty.

    Raises:
        ConfigError: the URL is none of these, or the extra `s3` is not installed.
    """
    if not url:
        return FileBlobStore(folder)
    from streaming.blobs_s3 import S3BlobStore

    return S3BlobStore(url)


def dataref_of(digest: str) -> str:
    return f"blob:sha256/{digest}"


def digest_of(dataref: str, sha256: str) -> str:
    """The hash that a claim check names.

    Raises:
        InvalidMessage: blob-missing, when it is not of this kind; blob-mismatch, when `sha256` is another.
    """
    match = _REF.match(dataref)
    if match is None:
        raise InvalidMessage("blob-missing", "ce_dataref is not of this store (blob:sha256/<hex>)")
    if match.group(1) != sha256:
        raise InvalidMessage("blob-mismatch", "ce_dataref and ce_datasha256 name different bytes")
    return sha256


def verified(data: bytes, sha256: str) -> bytes:
    """The bytes, when they have this hash.

    Raises:
        InvalidMessage: blob-mismatch.
    """
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InvalidMessage("blob-mismatch", "the blob's bytes do not have the SHA-256 the event names")
    return data


class FileBlobStore:
    """Files named by their SHA-256 under one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, data: bytes) -> tuple[str, str]:
        """Keeps the bytes, on disk before it returns; gives (dataref, SHA-256).

        Raises:
            Unavailable: the folder cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as sink:
                    sink.write(data)
                    sink.flush()
                    os.fsync(sink.fileno())
                Path(sink.name).replace(path)
        except OSError as error:
            raise Unavailable(f"the blob store cannot be written ({type(error).__name__})") from error
        return dataref_of(digest), digest

    def get(self, dataref: str, sha256: str, limit: int) -> bytes:
        """The bytes behind a claim check.

        Raises:
            InvalidMessage: blob-missing, blob-mismatch or too-large.
            Unavailable: the folder is away.
        """
        path = self._path(digest_of(dataref, sha256))
        if not self._root.is_dir():
            raise Unavailable("the blob store's folder is away")
        if path.is_symlink() or not path.is_file():
            raise InvalidMessage("blob-missing", "the blob store has no such bytes")
        if path.stat().st_size > limit:
            raise InvalidMessage("too-large", f"the blob is larger than {limit} bytes")
        return verified(path.read_bytes(), sha256)

    def _path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest
