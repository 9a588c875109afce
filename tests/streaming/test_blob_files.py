"""What only the file store does; what every store must do is in tests/contracts/test_blobs.py."""

import pytest

from streaming.blobs import FileBlobStore
from streaming.errors import InvalidMessage, Unavailable


def _reason(call):
    with pytest.raises(InvalidMessage) as caught:
        call()
    return caught.value.reason


def test_a_symlink_is_not_followed(tmp_path):
    store = FileBlobStore(tmp_path / "blobs")
    dataref, digest = store.put(b"data")
    path = tmp_path / "blobs" / digest[:2] / digest
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert _reason(lambda: store.get(dataref, digest, 100)) == "blob-missing"


def test_a_folder_that_is_away_is_no_fault_of_the_event(tmp_path):
    with pytest.raises(Unavailable):
        FileBlobStore(tmp_path / "gone").get("blob:sha256/" + "0" * 64, "0" * 64, 100)
