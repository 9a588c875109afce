"""Publishing: records handed to one idempotent librdkafka producer, the broker's word awaited. Owns topic prefixes.

librdkafka sends from a thread of its own in C, so a record is on its way while Python goes on; aiokafka's producer took
a quarter of the worker's processor time, and an `OutOfOrderSequence` left it dead (aiokafka#1017). `acks=all` and
idempotence keep a retry inside the producer from doubling or reordering records; what it cannot mend is `Fatal`.
"""

import asyncio
import logging
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streaming.errors import Fatal, Unavailable
from streaming.records import OutRecord

CONFIRM_EVERY_S = 0.02
"""How often the broker's answers are looked at while some are due. No reader waits for them: they clear the outbox."""
START_TIMEOUT_S = 5.0
DELIVERY_TIMEOUT_S = 30.0
RECORD_LIMIT_BYTES = 48 << 20


class Publisher:
    """Sends records to their prefixed topics, in the order in which they were handed over."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._prefix = prefix
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "socket.nagle.disable": True,
                "partitioner": "murmur2_random",  # that of Java's and aiokafka's producers
                "message.max.bytes": RECORD_LIMIT_BYTES,
                "queue.buffering.max.messages": 1_000_000,
                "delivery.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
            },
            logger=logging.getLogger("kafka"),
        )
        self._due = 0
        self._any_due = asyncio.Event()
        self._confirming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises `Unavailable` when Kafka does not answer."""
        try:
            await asyncio.to_thread(self._producer.list_topics, timeout=START_TIMEOUT_S)
        except KafkaException as error:
            raise Unavailable(f"Kafka does not answer ({error.args[0].name()})") from error
        self._confirming = asyncio.create_task(self._confirm(), name="publisher-confirm")

    def publish(self, records: Sequence[OutRecord]) -> asyncio.Future[float]:
        """Hands the records over at once; the future ends when the broker has confirmed every one, with the longest
        time in ms that this took.

        Raises (the future):
            Fatal: a record was not confirmed. Nothing may be acknowledged; the outbox publishes again after a restart.
        """
        confirmed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        due, longest_s = len(records), 0.0

        def told(error: KafkaError | None, message: Message) -> None:
            nonlocal due, longest_s
            due -= 1
            self._due -= 1
            longest_s = max(longest_s, message.latency() or 0.0)
            if confirmed.done():
                return
            if error is not None:
                confirmed.set_exception(Fatal(f"the broker did not confirm a record ({error.name()})"))
            elif due == 0:
                confirmed.set_result(longest_s * 1e3)

        if not records:
            confirmed.set_result(0.0)
        self._due += due
        for record in records:
            try:
                self._producer.produce(
                    self._prefix + record.kind,
                    value=record.value,
                    key=record.key,
                    partition=-1 if record.partition is None else record.partition,
                    headers=record.headers,
                    on_delivery=told,
                )
            except (KafkaException, BufferError) as error:
                if not confirmed.done():
                    confirmed.set_exception(Fatal(f"a record cannot be sent ({type(error).__name__})"))
                break
        self._any_due.set()
        return confirmed

    async def _confirm(self) -> None:
        while True:
            await self._any_due.wait()
            while self._due > 0:
                self._producer.poll(0)
                await asyncio.sleep(CONFIRM_EVERY_S)
            self._any_due.clear()

    async def stop(self) -> None:
        if self._confirming is not None:
            self._confirming.cancel()
        await asyncio.to_thread(self._producer.flush, 1.0)
