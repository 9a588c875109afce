"""Reading dead letters: what was refused and why, and sending it in again once mended. Owns no contents on screen."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from streaming.blobs import BlobStore
from streaming.errors import InvalidMessage, Unavailable
from streaming.topics import BOOTSTRAP_TIMEOUT_MS

RETRIED = "dead-letters-retried"
LARGEST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused event. `value` is empty when the bytes went to the blob store."""

    partition: int
    offset: int
    reason: str
    detail: str
    topic: str
    source_partition: int
    source_offset: int
    refused_at: str
    sha256: str
    dataref: str | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]

    @property
    def from_gateway(self) -> bool:
        """It was refused before it was in Kafka: its sender has been told and keeps it, so it is not sent in from here."""
        return self.source_offset < 0

    def original(self, blobs: BlobStore) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
        """Key, value and headers as they first came.

        Raises:
            InvalidMessage: the blob store does not have its bytes any more.
            Unavailable: the blob store is away.
        """
        value = blobs.get(self.dataref, self.sha256, LARGEST_BYTES) if self.dataref else self.value
        return self.key, value, [(name, raw) for name, raw in self.headers if not name.startswith("ww_")]


def read(bootstrap: str, prefix: str, idle_s: float = 2.0) -> Iterator[DeadLetter]:
    """Every dead letter from the beginning until none comes for `idle_s`.

    Raises:
        Unavailable: Kafka does not answer, or the topic is missing.
    """
    topic = f"{prefix}dead-letters"
    with _consumer(bootstrap, None, idle_s) as consumer:
        tps = _tps(consumer, topic)
        consumer.assign(tps)
        consumer.seek_to_beginning(*tps)
        for record in consumer:
            yield _letter(record)


def retry(bootstrap: str, prefix: str, blobs: BlobStore, reason: str | None) -> tuple[int, int, int]:
    """Sends dead letters that were not retried yet in again, in order; gives (sent, left: of another reason, or a gateway's,
    lost: the blob store does not have their bytes any more).

    What was retried is remembered as committed offsets of a consumer group of that reason (or of all), letter by letter,
    so that the next call with the same reason sends none of them twice, however this one ended.

    Raises:
        Unavailable: Kafka or the blob store does not answer; nothing unsent is remembered as sent.
    """
    topic = f"{prefix}dead-letters"
    sent = left = lost = 0
    try:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
            acks="all",
            max_request_size=LARGEST_BYTES,
            request_timeout_ms=30_000,
        )
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {bootstrap} does not answer ({type(error).__name__})") from error
    try:
        with _consumer(bootstrap, f"{prefix}{RETRIED}-{reason or 'all'}", None) as consumer:
            tps = _tps(consumer, topic)
            consumer.assign(tps)
            for tp in tps:
                consumer.seek(tp, consumer.committed(tp) or 0)
            ends = consumer.end_offsets(tps)  # what is refused again while this runs is for the next call
            while any(consumer.position(tp) < ends[tp] for tp in tps):
                for tp, records in consumer.poll(timeout_ms=500).items():
                    for record in records:
                        if record.offset >= ends[tp]:
                            continue
                        letter = _letter(record)
                        if letter.from_gateway or reason not in (None, letter.reason):
                            left += 1
                            continue
                        try:
                            key, value, headers = letter.original(blobs)
                        except InvalidMessage:
                            lost += 1
                            continue
                        confirmed = producer.send(f"{prefix}{letter.topic}", value=value, key=key, headers=headers)
                        confirmed.get(timeout=30)
                        consumer.commit({tp: OffsetAndMetadata(record.offset + 1, "", -1)})
                        sent += 1
            consumer.commit({tp: OffsetAndMetadata(ends[tp], "", -1) for tp in tps})
    except KafkaError as error:
        raise Unavailable(f"Kafka at {bootstrap} failed ({type(error).__name__})") from error
    finally:
        producer.close()
    return sent, left, lost


def _letter(record) -> DeadLetter:  # type: ignore[no-untyped-def]  # kafka-python's record
    headers = [(name, raw) for name, raw in record.headers]
    about = {name: raw.decode() for name, raw in headers if name.startswith("ww_")}
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        reason=about["ww_reason"],
        detail=about["ww_detail"],
        topic=about["ww_topic"],
        source_partition=int(about["ww_partition"]),
        source_offset=int(about["ww_offset"]),
        refused_at=about["ww_time"],
        sha256=about["ww_sha256"],
        dataref=about.get("ww_dataref"),
        key=record.key,
        value=record.value,
        headers=headers,
    )


class _consumer:
    """A consumer for one pass, its errors translated."""

    def __init__(self, bootstrap: str, group: str | None, idle_s: float | None) -> None:
        self._arguments = {
            "bootstrap_servers": bootstrap.split(","),
            "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
            "group_id": group,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",  # where retention deleted what came next: from the first that is left
            "consumer_timeout_ms": float("inf") if idle_s is None else int(idle_s * 1000),
            "max_partition_fetch_bytes": LARGEST_BYTES,
        }
        self._bootstrap = bootstrap

    def __enter__(self) -> KafkaConsumer:
        try:
            self._consumer = KafkaConsumer(**self._arguments)
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka at {self._bootstrap} does not answer ({type(error).__name__})") from error
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def _tps(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    partitions = None
    deadline = time.monotonic() + 10
    while not partitions and time.monotonic() < deadline:
        partitions = consumer.partitions_for_topic(topic)
    if not partitions:
        raise Unavailable(f"topic {topic} does not exist: `wardwatch topics create`")
    return [TopicPartition(topic, partition) for partition in sorted(partitions)]
