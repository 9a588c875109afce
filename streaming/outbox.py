"""Publishing: batches through one idempotent aiokafka producer, the broker's word awaited. Owns topic prefixes.

`acks=all` and idempotence keep a retry inside the producer from doubling a record. An `OutOfOrderSequence` leaves
aiokafka's idempotent producer dead (aiokafka#1017), so every error that it cannot mend itself is `Fatal`.
"""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streaming.errors import Fatal, Unavailable
from streaming.records import OutRecord


class Publisher:
    """Sends records to their prefixed topics."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._prefix = prefix
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_request_size=48 << 20,
            request_timeout_ms=30_000,
        )

    async def start(self) -> None:
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka does not answer ({type(error).__name__})") from error

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """Returns when the broker has confirmed every record.

        Raises:
            Fatal: a record was not confirmed. Nothing may be acknowledged; the outbox publishes again after a restart.
        """
        try:
            waiting = [
                await self._producer.send(
                    self._prefix + record.kind,
                    value=record.value,
                    key=record.key,
                    partition=record.partition,
                    headers=record.headers,
                )
                for record in records
            ]
            await asyncio.gather(*waiting)
        except KafkaError as error:
            raise Fatal(f"the broker did not confirm a record ({type(error).__name__})") from error

    async def stop(self) -> None:
        await self._producer.stop()
