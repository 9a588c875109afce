"""Incremental fetch sessions on the real broker: nothing is lost or read twice, and a lost session is made anew."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from streaming.fetch_scan import FetchScan
from streaming.fetch_sessions import FetchSessions, IncrementalFetch, Session

pytestmark = pytest.mark.integration

PARTITIONS = 8


class _Forgetful(FetchSessions):
    """On demand believes in a session that the broker never made."""

    forge = False

    async def send(self, node_id, request, **options):
        if self.forge:
            self.forge = False
            self._sessions[node_id] = Session(12345, 9, {})
        return await super().send(node_id, request, **options)


class _Counted(FetchScan):
    """Counts the fetcher's questions, and those that aiokafka answered by looking at every partition itself."""

    def __init__(self, fetcher):
        self.appetite = True
        super().__init__(fetcher, lambda: self.appetite)
        self.asked = self.looked = 0
        whole = self._look

        def look(assignment):
            self.looked += 1
            return whole(assignment)

        self._look = look

    def __call__(self, assignment):
        self.asked += 1
        return super().__call__(assignment)


class _Wire:
    """aiokafka's own client, counting the partitions that each fetch names."""

    def __init__(self, client):
        self._client = client
        self.named: list[int] = []
        self.refused = 0

    def __getattr__(self, name):
        return getattr(self._client, name)

    async def send(self, node_id, request, **options):
        response = await self._client.send(node_id, request, **options)
        if isinstance(request, IncrementalFetch):
            self.named.append(sum(len(partitions) for _, partitions in request.topics))
            self.refused += bool(response.error_code)
        return response


def test_every_record_once_through_pauses_seeks_and_lost_sessions(site):
    asyncio.run(_run(site))


async def _run(site):
    topic = site.prefix + "vitals"
    tps = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    producer = AIOKafkaProducer(bootstrap_servers=site.stack.bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=site.stack.bootstrap, enable_auto_commit=False)
    wire = _Wire(consumer._client)
    sessions = consumer._client = _Forgetful(wire)
    await producer.start()
    await consumer.start()
    scan = consumer._fetcher._get_actions_per_node = _Counted(consumer._fetcher)
    consumer.assign(tps)
    await consumer.seek_to_beginning(*tps)
    seen: list[bytes] = []

    async def read_until(count):
        async with asyncio.timeout(20):
            while len(seen) < count:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    seen.extend(record.value for record in records)

    async def send(first, last):
        for number in range(first, last):
            await producer.send_and_wait(topic, b"%d" % number, partition=number % PARTITIONS)

    try:
        await send(0, 64)
        await read_until(64)
        before, asked, looked = len(wire.named), scan.asked, scan.looked
        for number in range(64, 96):  # a trickle: one record a fetch
            await send(number, number + 1)
            await read_until(number + 1)
        assert scan.looked - looked < 0.7 * (scan.asked - asked), (
            "a wake-up that can begin nothing looks at no partition"
        )
        assert max(wire.named[before + 1 :]) < PARTITIONS, "a session names only what changed"
        consumer.pause(tps[0])
        await send(96, 104)
        await read_until(103)
        assert b"96" not in seen
        consumer.resume(tps[0])
        await read_until(104)
        sessions.forge = True
        await send(104, 136)
        await read_until(136)
        assert wire.refused == 1
        assert sorted(map(int, seen)) == list(range(136))
        for tp in tps:
            consumer.seek(tp, 2)
        await read_until(136 + 136 - 2 * PARTITIONS)
        assert sorted(map(int, seen[136:])) == list(range(2 * PARTITIONS, 136))
        assert await consumer.getmany(timeout_ms=0) == {}
        scan.appetite = False
        await asyncio.sleep(1.0)  # what the broker still holds open ends
        fetches = len(wire.named)
        await send(136, 144)
        assert await consumer.getmany(timeout_ms=1000) == {} and len(wire.named) == fetches, "who is full is not fed"
        scan.appetite = True
        scan.wake()
        fed = await consumer.getmany(timeout_ms=100)
        assert sorted(int(record.value) for records in fed.values() for record in records) == list(range(136, 144))
    finally:
        await consumer.stop()
        await producer.stop()
