"""Kafka records: how one is read as an event, what leaves a worker, how a refused event becomes a dead letter.

Owns the outgoing record and the dead letter's headers; leaves publishing to `outbox.py`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from streaming.envelope import Event, Limits, from_ms, parse
from streaming.errors import InvalidMessage
from streaming.forwarded import parse_forwarded

DEAD_LETTER_INLINE_BYTES = 256 * 1024
"""A larger refused value goes to the blob store, so that neither Redis nor the topic carries megabytes."""


class InRecord(Protocol):
    """What is read of a Kafka record (aiokafka's `ConsumerRecord` has it). `timestamp` is in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def parse_record(kind: str, record: InRecord, limits: Limits) -> Event:
    """The event that a record of topic `kind` carries.

    Raises:
        InvalidMessage: it is refused.
    """
    place = {"partition": record.partition, "offset": record.offset, "broker_ms": record.timestamp}
    if kind == "forwarded":
        return parse_forwarded(record.key, record.value, record.headers, **place, limits=limits)
    return parse(kind, record.key, record.value, record.headers, **place, limits=limits)


class BlobWriter(Protocol):
    """The writing half of the claim-check store."""

    def put(self, data: bytes) -> tuple[str, str]:
        """Keeps the bytes; gives their dataref and SHA-256."""
        ...


@dataclass(frozen=True, slots=True)
class OutRecord:
    """One record to publish. `kind` is the unprefixed topic; `partition` None lets the key decide."""

    kind: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]

    def pack(self) -> bytes:
        """As bytes for the outbox: published again after a crash, it is the same record to the last byte."""
        head = orjson.dumps(
            [
                self.kind,
                self.partition,
                None if self.key is None else self.key.decode("latin-1"),
                self.value is not None,
                [[name, raw.decode("latin-1")] for name, raw in self.headers],
            ]
        )
        return len(head).to_bytes(4, "little") + head + (self.value or b"")

    @classmethod
    def unpack(cls, data: bytes) -> "OutRecord":
        end = 4 + int.from_bytes(data[:4], "little")
        kind, partition, key, has_value, headers = orjson.loads(data[4:end])
        return cls(
            kind=kind,
            partition=partition,
            key=None if key is None else key.encode("latin-1"),
            value=bytes(data[end:]) if has_value else None,
            headers=[(name, text.encode("latin-1")) for name, text in headers],
        )


def dead_letter(record: InRecord, kind: str, error: InvalidMessage, blobs: BlobWriter, now_ms: int) -> OutRecord:
    """The refused record as it came, with `ww_*` headers that say why and where it lay.

    Raises:
        Unavailable: when a large value cannot be kept; then nothing may be acknowledged.
    """
    value = record.value or b""
    about = {
        "ww_reason": error.reason,
        "ww_detail": error.detail,
        "ww_topic": kind,
        "ww_partition": str(record.partition),
        "ww_offset": str(record.offset),
        "ww_time": from_ms(now_ms),
        "ww_sha256": hashlib.sha256(value).hexdigest(),
    }
    kept = record.value
    if len(value) > DEAD_LETTER_INLINE_BYTES:
        about["ww_dataref"], _ = blobs.put(value)
        kept = b""
    original = [(name, raw) for name, raw in record.headers if not name.startswith("ww_")]
    headers = [*original, *((name, text.encode()) for name, text in about.items())]
    return OutRecord("dead-letters", None, record.key, kept, headers)
