"""Sending refused events in again: each once, whatever becomes of the others."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from kafka import TopicPartition

from streaming import dead_letters
from streaming.blobs import FileBlobStore
from streaming.commands.dead_letters import command
from streaming.errors import InvalidMessage, Unavailable, WardwatchError
from streaming.records import DEAD_LETTER_INLINE_BYTES, dead_letter
from tests.helpers import NOON

LETTERS = TopicPartition("dead-letters", 0)


class Kafka:
    """One partition of dead letters, the offset that a group has committed, and what was sent in again."""

    def __init__(self):
        self.log, self.sent, self.committed_offset, self.at = [], [], None, 0

    def refuse(self, blobs, value):
        record = SimpleNamespace(partition=0, offset=len(self.log), key=b"p1", value=value, headers=[("ce_id", b"1")])
        letter = dead_letter(record, "vitals", InvalidMessage("future-time", "ahead"), blobs, NOON)
        self.log.append(
            SimpleNamespace(
                partition=0, offset=len(self.log), key=letter.key, value=letter.value, headers=letter.headers
            )
        )

    def send(self, topic, *, value, key, headers):
        self.sent.append(value)
        return SimpleNamespace(get=lambda timeout: None)

    def partitions_for_topic(self, topic):
        return {0}

    def assign(self, tps):
        assert tps == [LETTERS]

    def committed(self, tp):
        return self.committed_offset

    def seek(self, tp, offset):
        self.at = offset

    def end_offsets(self, tps):
        return {LETTERS: len(self.log)}

    def position(self, tp):
        return self.at

    def poll(self, timeout_ms):
        found, self.at = self.log[self.at :], len(self.log)
        return {LETTERS: found}

    def commit(self, offsets):
        self.committed_offset = offsets[LETTERS].offset

    def close(self):
        pass


@pytest.fixture
def kafka(monkeypatch):
    found = Kafka()
    monkeypatch.setattr(dead_letters, "KafkaConsumer", lambda **_: found)
    monkeypatch.setattr(dead_letters, "KafkaProducer", lambda **_: found)
    return found


def _large(sign):
    return sign * (DEAD_LETTER_INLINE_BYTES + 1)


def _lose(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


def test_a_letter_whose_blob_is_gone_stops_no_other_and_none_is_sent_twice(kafka, tmp_path):
    blobs = FileBlobStore(tmp_path)
    kafka.refuse(blobs, b"first")
    kafka.refuse(blobs, _large(b"x"))
    kafka.refuse(blobs, b"last")
    _lose(tmp_path)
    assert dead_letters.retry("h:1", "", blobs, None) == (2, 0, 1)
    assert dead_letters.retry("h:1", "", blobs, None) == (0, 0, 0)
    assert kafka.sent == [b"first", b"last"]


def test_a_retry_that_a_blob_store_ends_in_the_middle_goes_on_where_it_was(kafka, tmp_path):
    blobs, large = FileBlobStore(tmp_path / "blobs"), _large(b"x")
    for value in (b"first", large, b"last"):
        kafka.refuse(blobs, value)
    away = tmp_path / "away"
    (tmp_path / "blobs").rename(away)
    with pytest.raises(Unavailable):
        dead_letters.retry("h:1", "", blobs, None)
    away.rename(tmp_path / "blobs")
    assert dead_letters.retry("h:1", "", blobs, None) == (2, 0, 0)
    assert kafka.sent == [b"first", large, b"last"]


def test_the_command_ends_with_a_status_and_a_line_when_letters_could_not_be_sent(kafka, tmp_path, monkeypatch):
    monkeypatch.setenv("WARDWATCH_BLOB_DIR", str(tmp_path))
    kafka.refuse(FileBlobStore(tmp_path), _large(b"x"))
    kafka.refuse(FileBlobStore(tmp_path), b"last")
    _lose(tmp_path)
    done = CliRunner().invoke(command, ["--retry"])
    assert done.output == "sent in again: 1\n"
    assert isinstance(done.exception, WardwatchError)
    assert str(done.exception) == "1 not sent in again: the blob store does not have their bytes any more"
