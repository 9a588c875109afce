import pytest

from streaming.blobs import FileBlobStore
from streaming.errors import InvalidMessage, Unavailable


def _reason(call):
    with pytest.raises(InvalidMessage) as caught:
        call()
    return caught.value.reason


def test_what_is_put_comes_back(tmp_path):
    store = FileBlobStore(tmp_path)
    dataref, digest = store.put(b"data")
    assert store.put(b"data") == (dataref, digest)
    assert store.get(dataref, digest, 100) == b"data"


def test_tampering_absence_and_size_are_noticed(tmp_path):
    store = FileBlobStore(tmp_path)
    dataref, digest = store.put(b"data")
    assert _reason(lambda: store.get(dataref, digest, 3)) == "too-large"
    assert _reason(lambda: store.get(dataref, "0" * 64, 100)) == "blob-mismatch"
    assert _reason(lambda: store.get("blob:sha256/" + "0" * 64, "0" * 64, 100)) == "blob-missing"
    assert _reason(lambda: store.get("file:///etc/passwd", digest, 100)) == "blob-missing"
    (tmp_path / digest[:2] / digest).write_bytes(b"dasa")
    assert _reason(lambda: store.get(dataref, digest, 100)) == "blob-mismatch"


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
