"""The fusion worker's pipeline on a broker and a store in memory: deaths at every step, without Kafka and Redis."""

import asyncio
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

from aiokafka.partitioner import murmur2

from streaming import alerting, codec
from streaming.clock import EventsClock
from streaming.envelope import Limits
from streaming.partition import PartitionMeta
from streaming.pipeline import INPUTS, Batch, Pipeline, Rules
from streaming.published import Published
from streaming.scoring import Scorer
from streaming.verify import verify
from tests.helpers import MINUTE, NOON

PARTITIONS = 4
SILENCE_MS = 30 * MINUTE


def partition_of(key):
    return (murmur2(key) & 0x7FFFFFFF) % PARTITIONS


class Broker:
    """Topics that outlive every worker."""

    def __init__(self):
        self.logs = defaultdict(list)
        self.now_ms, self.appended = NOON, 0

    def append(self, kind, key, value, headers, partition=None):
        partition = partition_of(key) if partition is None else partition
        log = self.logs[kind, partition]
        self.appended += 1
        log.append(
            SimpleNamespace(
                topic=kind,
                partition=partition,
                offset=len(log),
                timestamp=self.now_ms + self.appended,
                key=key,
                value=value,
                headers=headers,
            )
        )

    def publish(self, records):
        for one in records:
            self.append(one.kind, one.key, one.value, one.headers, one.partition)
        confirmed = asyncio.get_running_loop().create_future()
        confirmed.set_result(0.0)
        return confirmed

    def topics(self):
        found = defaultdict(list)
        for (kind, _), log in sorted(self.logs.items(), key=lambda item: item[0]):
            found[kind] += log
        return found


class Store:
    """What `streaming.store.Store` keeps in Redis."""

    def __init__(self):
        self.fence = defaultdict(int)
        self.writes = defaultdict(int)
        self.offsets = defaultdict(dict)
        self.outbox = defaultdict(dict)
        self.patients = defaultdict(lambda: defaultdict(dict))
        self.touched = defaultdict(dict)

    async def take_over(self, partition):
        self.fence[partition] += 1
        return PartitionMeta(
            self.fence[partition],
            dict(self.offsets[partition]),
            sorted(self.outbox[partition].items()),
            self.writes[partition],
        )

    async def load(self, partition, patients):
        return [dict(self.patients[partition].get(name, {})) for name in patients]

    async def write(self, writes):
        for write in writes:
            assert write.token == self.fence[write.partition]
            assert write.number == self.writes[write.partition] + 1
            self.writes[write.partition] = write.number
            self.offsets[write.partition].update(write.offsets)
            self.outbox[write.partition].update(write.outbox)
            for name in write.forgotten:
                del self.patients[write.partition][name], self.touched[write.partition][name]
            for name, (_, fields) in write.patients.items():
                self.patients[write.partition][name] |= {key.encode(): value for key, value in fields.items()}
                self.touched[write.partition][name] = write.at_ms

    async def clear_outbox(self, entries):
        for partition, names in entries.items():
            for name in names:
                self.outbox[partition].pop(name, None)

    async def silent_patients(self, partition, after_ms, to_ms):
        newest = {
            name: codec.decode(name, fields).newest_recorded_ms for name, fields in self.patients[partition].items()
        }
        return [name for name, recorded_ms in newest.items() if after_ms < recorded_ms <= to_ms]

    async def untouched(self, partition, since_ms, most):
        held = sorted(self.touched[partition].items(), key=lambda item: item[1])
        return [name for name, at_ms in held if at_ms <= since_ms][:most]

    def states(self):
        return {name: codec.decode(name, fields) for held in self.patients.values() for name, fields in held.items()}


class Touchy:
    """The shipped model with thresholds that every score reaches, or none."""

    def __init__(self, predictor, threshold=1e-9):
        levels = {"watch": threshold, "warning": 1.0, "critical": 1.0}
        self._predictor = predictor
        self.card = replace(predictor.card, thresholds=dict.fromkeys(predictor.card.conditions, levels))

    def __getattr__(self, name):
        return getattr(self._predictor, name)


class At:
    """A wall clock that stands where a test puts it."""

    mode = "wall"

    def __init__(self, now_ms):
        self.now_ms = now_ms

    def as_of(self, newest_recorded_ms):
        return max(self.now_ms, newest_recorded_ms)


class Past:
    """What `streaming.past.Past` reads from Kafka."""

    def __init__(self, broker):
        self.broker = broker

    async def records(self, partition, ranges):
        for kind, (first, below) in ranges.items():
            log = [one for one in self.broker.logs[kind, partition] if first <= one.offset < below]
            for at in range(0, len(log), 3):
                yield kind, log[at : at + 3]

    async def told(self, partition, below, stored):
        found, since_ms = Published(below), 0
        inputs = {kind: {one.offset: one.timestamp for one in self.broker.logs[kind, partition]} for kind in stored}
        if all(offset in inputs[kind] for kind, offset in stored.items()):
            since_ms = min(inputs[kind][offset] for kind, offset in stored.items())
        for kind in ("risk", "alerts"):
            for one in [one for one in self.broker.logs[kind, partition] if one.timestamp >= since_ms]:
                found.take(kind, one.key, one.value, one.timestamp)
        return found.told()


class Hospital:
    """One worker at a time over all partitions."""

    def __init__(self, predictor, score="each", clock=None, threshold=1e-9, limits=None):
        self.predictor, self.score, self.clock = Touchy(predictor, threshold), score, clock or EventsClock()
        self.broker, self.store, self.limits = Broker(), Store(), limits or Limits()
        self.committed = {(kind, partition): None for kind in INPUTS for partition in range(PARTITIONS)}
        self.start()

    def start(self):
        """A new worker: takes over what the last one left."""
        self.pipeline = Pipeline(
            self.store, self.broker, None, Scorer(self.predictor), alerting.Policy.from_card(self.predictor.card), self.clock,
            Rules("ward", self.score, 10**9, 64, 100, self.limits, partition_of, SILENCE_MS), ThreadPoolExecutor(1),
            Past(self.broker),
        )  # fmt: skip
        committed = {
            partition: {kind: self.committed[kind, partition] for kind in INPUTS} for partition in range(PARTITIONS)
        }
        starts = asyncio.run(self.pipeline.take_over(committed))
        for partition, topics in starts.items():  # as the transport does
            for kind, start in topics.items():
                if start and self.committed[kind, partition] is None:
                    self.committed[kind, partition] = start
        self.at = {(kind, partition): starts[partition][kind] for kind in INPUTS for partition in range(PARTITIONS)}

    def send(self, *records):
        for one in records:
            self.broker.append(one.topic, one.key, one.value, one.headers)
        return self

    def step(self, dies=None):
        """One batch of everything that waits, up to a death `before` the write, after it (`stored`) or `published`."""
        batches = []
        for (kind, partition), log in list(self.broker.logs.items()):
            if kind in INPUTS and len(log) > self.at[kind, partition]:
                batches.append(Batch(kind, partition, log[self.at[kind, partition] :], 0.0))
                self.at[kind, partition] = len(log)
        if not batches:
            return False
        asyncio.run(self._settle(batches, dies))
        return True

    async def _settle(self, batches, dies):
        for batch in batches:
            if batch.kind in self.pipeline.ahead:
                await self.pipeline.ahead[batch.kind](batch)
        outcome = await self.pipeline.process(batches)
        if dies == "before":
            return
        if await self._finish(outcome, dies):
            return
        for batch in batches:
            before = self.committed[batch.kind, batch.partition] or 0  # what a group has committed never goes back
            self.committed[batch.kind, batch.partition] = max(before, batch.records[-1].offset + 1)

    async def _finish(self, outcome, dies=None):
        await self.pipeline.store(outcome)
        if dies == "stored":
            return True
        await self.pipeline.publish(outcome)
        if dies == "published":
            return True
        await self.pipeline.forget([outcome])
        return False

    def listen(self, now_ms):
        """Judges silence as of then, by what lies on the broker now."""
        ends = {partition: {} for partition in range(PARTITIONS)}
        for (kind, partition), log in self.broker.logs.items():
            if kind in INPUTS and log:
                ends[partition][kind] = len(log)

        async def judge():
            await self._finish(await self.pipeline.silence(now_ms, ends))

        asyncio.run(judge())

    def forget(self, now_ms):
        """Takes out who was not heard of for a month by then."""

        async def forget():
            await self._finish(await self.pipeline.forget_patients(now_ms))

        asyncio.run(forget())

    def run(self, *records):
        """Sends, and works until nothing waits."""
        self.send(*records)
        while self.step():
            pass
        return self

    def lose_redis(self):
        self.store = Store()
        self.start()

    def verdict(self):
        return verify(self.broker.topics(), self.predictor, self.limits, partition_of)
