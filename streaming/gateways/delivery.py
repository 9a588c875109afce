"""Records to Kafka for the gateways: `deliver` returns when the broker has confirmed them all, or says it has not.

A gateway answers its sender only after that, so what was answered is never lost. kafka-python's producer is used from
DICOM's threads and HL7's executor alike; it is idempotent, acks=all, and gives up after the deadline, so that nothing
piles up while Kafka is away: each connection has at most one message in flight, and its sender keeps it.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streaming.blobs import BlobStore
from streaming.clock import wall_ms
from streaming.errors import InvalidMessage, Unavailable
from streaming.records import OutRecord, dead_letter

LARGEST_BYTES = 48 << 20
RETRY_AFTER_S = 1.0
"""So long after a failed connection no other is tried: many senders that wait must not wait one after the other."""


@dataclass(frozen=True, slots=True)
class AtTheDoor:
    """A refused message as `records.InRecord`: it never was in Kafka, so it has no partition and offset."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int = -1
    offset: int = -1
    timestamp: int = field(default_factory=wall_ms)


class Delivery:
    """Thread-safe. One producer, made anew when it failed for another reason than time."""

    def __init__(self, bootstrap: str, prefix: str, blobs: BlobStore, confirm_s: float) -> None:
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        self.blobs = blobs
        self._bootstrap, self._prefix, self._confirm_s = bootstrap, prefix, confirm_s
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None
        self._failed_at = -RETRY_AFTER_S

    def deliver(self, records: Sequence[OutRecord]) -> None:
        """Sends the records in order; each has the broker's word when this returns.

        Raises:
            Unavailable: not all were confirmed in time. The sender keeps the message; sent again it has the same ids.
        """
        producer = self._connected()
        try:
            waiting = [
                producer.send(
                    self._prefix + record.kind, value=record.value, key=record.key, headers=record.headers,
                    partition=record.partition,
                )
                for record in records
            ]  # fmt: skip
            for future in waiting:
                future.get(timeout=self._confirm_s + 1)
        except (KafkaError, OSError) as error:
            self._drop(producer)
            raise Unavailable(f"Kafka did not confirm in time ({type(error).__name__})") from error

    def refuse(self, door: str, key: str | None, data: bytes, error: InvalidMessage) -> None:
        """Writes a dead letter of topic `door` with the bytes as they came.

        Raises:
            Unavailable: it is not confirmed; then the sender must keep the message.
        """
        record = AtTheDoor(door, None if key is None else key.encode(), data)
        self.deliver([dead_letter(record, door, error, self.blobs, wall_ms())])

    def close(self) -> None:
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=self._confirm_s)

    def _connected(self) -> KafkaProducer:
        with self._lock:
            if self._producer is None:
                if time.monotonic() - self._failed_at < RETRY_AFTER_S:
                    raise Unavailable("Kafka does not answer")
                wait_ms = int(self._confirm_s * 1000)
                try:
                    self._producer = KafkaProducer(
                        bootstrap_servers=self._bootstrap.split(","),
                        acks="all",
                        enable_idempotence=True,
                        linger_ms=0,
                        max_request_size=LARGEST_BYTES,
                        allow_auto_create_topics=False,
                        max_block_ms=wait_ms,
                        request_timeout_ms=wait_ms,
                        delivery_timeout_ms=wait_ms,
                        bootstrap_timeout_ms=wait_ms,
                        reconnect_backoff_max_ms=1_000,
                        metrics_enabled=False,
                    )
                except (KafkaError, OSError) as error:
                    self._failed_at = time.monotonic()
                    raise Unavailable(f"Kafka does not answer ({type(error).__name__})") from error
            return self._producer

    def _drop(self, producer: KafkaProducer) -> None:
        """The next message gets a new producer: an idempotent one that lost a record may refuse all that follow."""
        with self._lock:
            if self._producer is producer:
                self._producer = None
        producer.close(timeout=0)
