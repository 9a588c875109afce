from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streaming.blobs import FileBlobStore
from streaming.errors import InvalidMessage
from streaming.records import DEAD_LETTER_INLINE_BYTES, OutRecord, dead_letter

_bytes = st.none() | st.binary(max_size=50)


@given(st.none() | st.integers(0, 9), _bytes, _bytes, st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=9))))
def test_the_outbox_gives_back_the_same_record(partition, key, value, headers):
    record = OutRecord("risk", partition, key, value, headers)
    assert OutRecord.unpack(record.pack()) == record


def _refused(value):
    return SimpleNamespace(
        topic="vitals", partition=3, offset=9, timestamp=0, key=b"p", value=value, headers=[("ce_id", b"1")]
    )


def test_a_dead_letter_carries_reason_place_and_bytes(tmp_path):
    letter = dead_letter(_refused(b"{"), "vitals", InvalidMessage("broken-json", "x"), FileBlobStore(tmp_path), 0)
    headers = dict(letter.headers)
    assert (letter.key, letter.value, headers["ce_id"]) == (b"p", b"{", b"1")
    assert headers["ww_reason"] == b"broken-json"
    assert (headers["ww_topic"], headers["ww_partition"], headers["ww_offset"]) == (b"vitals", b"3", b"9")


def test_a_large_dead_letter_goes_to_the_blob_store_whole(tmp_path):
    value = b"x" * (DEAD_LETTER_INLINE_BYTES + 1)
    blobs = FileBlobStore(tmp_path)
    headers = dict(dead_letter(_refused(value), "scans", InvalidMessage("too-large", "x"), blobs, 0).headers)
    assert blobs.get(headers["ww_dataref"].decode(), headers["ww_sha256"].decode(), 1 << 30) == value
