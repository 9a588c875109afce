"""Sends a cohort's events to Kafka, watches what becomes of each, and reports counts and latencies.

Owns pacing, the bookkeeping of every produced event until a risk record covers it or it is dead-lettered, and the
report's content. Leaves where events come from to `mimic.py`, `synthetic.py` and `attached.py`.
"""

import asyncio
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from streaming.envelope import headers_for, to_ms
from streaming.errors import Unavailable
from streaming.kafka_reading import read_from_now
from streaming.latency import Latency
from streaming.mimic import Outgoing

WATCHED = ("risk", "alerts", "dead-letters", "encoded-scans")
IN_FLIGHT = 20_000
"""Produced events at most that no score covers yet: bounds the replay's memory and the worker's backlog."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast: `speed` times real time, a fixed `rate` in events/s, or as fast as the broker takes (both None)."""

    speed: float | None = None
    rate: float | None = None

    def due_s(self, number: int, virtual_ms: int) -> float:
        """Seconds after the start at which an event is sent."""
        if self.rate:
            return number / self.rate
        return virtual_ms / 1000.0 / self.speed if self.speed else 0.0


@dataclass(slots=True)
class _Pending:
    partition: int
    offset: int
    produced_ms: float
    fault: str


@dataclass(slots=True)
class Watch:
    """What has become of every event. Keys: (topic kind, patient); offsets ascend within one."""

    latency: Latency = field(default_factory=Latency)
    pending: dict[tuple[str, str], deque[_Pending]] = field(default_factory=lambda: defaultdict(deque))
    where: dict[tuple[str, int, int], tuple[str, float]] = field(default_factory=dict)
    produced: int = 0
    applied: int = 0
    dead_lettered: int = 0
    risk: int = 0
    alerts: dict[str, str] = field(default_factory=dict)
    repeated_alerts: int = 0
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    probability: dict[tuple[str, str], float] = field(default_factory=dict)
    by_kind: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    change: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    covered: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    early: dict[tuple[str, int, int], ConsumerRecord] = field(default_factory=dict)
    """Answers that came before the broker's confirmation of the event itself: kept until that comes."""
    confirmed: dict[tuple[str, int], int] = field(default_factory=dict)
    """Per topic kind and partition the newest offset that the broker has confirmed to us."""
    letters: set[tuple[str, int, int]] = field(default_factory=set)

    @property
    def outstanding(self) -> int:
        return self.produced - self.applied - self.dead_lettered

    def sent(self, event: Outgoing, partition: int, offset: int, produced_ms: float, fault: str) -> None:
        """An event that the broker has confirmed."""
        self.produced += 1
        self.by_kind[event.kind] += 1
        self.confirmed[event.kind, partition] = max(offset, self.confirmed.get((event.kind, partition), -1))
        self.where[event.kind, partition, offset] = (event.patient, produced_ms)
        one = _Pending(partition, offset, produced_ms, fault)
        answer = self.early.pop((event.kind, partition, offset), None)
        covered, received_ms = self.covered.get((event.kind, event.patient), (-1, 0.0))
        if answer is None and offset <= covered:
            self.where.pop((event.kind, partition, offset))
            self._applied(one, received_ms, 0.0)
            return
        self.pending[event.kind, event.patient].append(one)
        if answer is not None and event.kind == "scans" and answer.topic.endswith("encoded-scans"):
            self.saw_encoded(answer)
        elif answer is not None:
            self.saw_dead_letter(answer)

    def saw_risk(self, record: ConsumerRecord, received_ms: float) -> None:
        """A score: the events it covers are applied."""
        body = orjson.loads(record.value)
        self.risk += 1
        patient = body["patient"]
        for name, ms in body["stage_ms"].items():
            self.latency.record(name, ms)
        # The record's own time is that of its sending, after the write to Redis (whole milliseconds).
        decided_ms = to_ms(datetime.fromisoformat(body["times"]["decision"]))
        self.latency.record("write", record.timestamp - decided_ms)
        self.latency.record("publish", received_ms - record.timestamp)
        moved = 0.0
        for score in body["scores"]:
            before = self.probability.get((patient, score["condition"]))
            if before is not None:
                moved = max(moved, abs(score["probability"] - before))
            self.probability[patient, score["condition"]] = score["probability"]
        for kind, offset in body["offsets"].items():
            self.covered[kind, patient] = (offset, received_ms)
            waiting = self.pending.get((kind, patient))
            while waiting and waiting[0].partition == record.partition and waiting[0].offset <= offset:
                one = waiting.popleft()
                self.where.pop((kind, one.partition, one.offset), None)
                self._applied(one, received_ms, moved)

    def _applied(self, one: _Pending, received_ms: float, moved: float) -> None:
        self.applied += 1
        self.latency.record("end_to_end", received_ms - one.produced_ms)
        if one.fault:
            self.latency.record(f"fault:{one.fault}", received_ms - one.produced_ms)
            self.change[one.fault].append(moved)

    def saw_alert(self, record: ConsumerRecord, received_ms: float) -> dict[str, Any] | None:
        """A new alert, or None for a repeat."""
        body = orjson.loads(record.value)
        if body["id"] in self.alerts:
            self.repeated_alerts += 1
            return None
        self.alerts[body["id"]] = body["action"]
        trigger = body["trigger"]
        sent = self.where.get((trigger["topic"], trigger["partition"], trigger["offset"]))
        if sent is not None:
            self.latency.record("alert_end_to_end", received_ms - sent[1])
        return body

    def saw_dead_letter(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        kind = headers["ww_topic"].decode()
        partition, offset = int(headers["ww_partition"]), int(headers["ww_offset"])
        place = (kind, partition, offset)
        known = self.where.pop(place, None)
        if place in self.letters:
            return
        if known is None and offset > self.confirmed.get((kind, partition), -1):
            self.early[place] = record
            return
        self.letters.add(place)
        self.dead_lettered += 1
        self.reasons[headers["ww_reason"].decode()] += 1
        if known is None:
            self.applied -= 1  # a later score of the patient came first, on another topic, and seemed to cover it
            return
        waiting = self.pending[kind, known[0]]
        for one in waiting:
            if one.offset == offset and one.partition == partition:
                waiting.remove(one)
                break

    def saw_encoded(self, record: ConsumerRecord) -> None:
        """A scan became an embedding: it is applied when a score covers the embedding."""
        body = orjson.loads(record.value)
        place = ("scans", body["scan_partition"], body["scan_offset"])
        known = self.where.pop(place, None)
        if known is None:
            self.early[place] = record
            return
        patient, produced_ms = known
        waiting = self.pending["scans", patient]
        for one in waiting:
            if one.offset == body["scan_offset"]:
                waiting.remove(one)
                moved = _Pending(record.partition, record.offset, produced_ms, one.fault)
                covered, received_ms = self.covered.get(("encoded-scans", patient), (-1, 0.0))
                if record.offset <= covered:
                    self._applied(one, received_ms, 0.0)
                    return
                self.pending["encoded-scans", patient].append(moved)
                self.where["encoded-scans", record.partition, record.offset] = (patient, produced_ms)
                return


async def run(
    events: Iterable[tuple[Outgoing, str]],
    bootstrap: str,
    prefix: str,
    pace: Pace,
    *,
    seed: int,
    idle_timeout_s: float,
    on_alert: Callable[[dict[str, Any]], None],
    on_progress: Callable[[Watch], None],
    wait: bool = True,
) -> tuple[Watch, float]:
    """Sends everything and waits until each event is accounted for; gives the watch and the seconds it took.

    Raises:
        Unavailable: Kafka does not answer or did not take an event, or nothing moved for `idle_timeout_s` while events
            were outstanding.
    """
    watch = Watch()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_request_size=40 << 20, linger_ms=0
    )
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20
    )
    try:
        await producer.start()
        await consumer.start()
        topics = {prefix + kind: kind for kind in WATCHED}
        await read_from_now(consumer, *topics)
        started = time.perf_counter()
        watching = asyncio.create_task(_watch(consumer, topics, watch, on_alert))
        try:
            await _send(events, producer, prefix, pace, seed, watch, on_progress, watching)
            if wait:
                await _drain(watch, idle_timeout_s, on_progress, watching)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return watch, time.perf_counter() - started
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {bootstrap} does not answer ({type(error).__name__})") from error
    finally:
        await consumer.stop()
        await producer.stop()


async def _send(
    events: Iterable[tuple[Outgoing, str]],
    producer: AIOKafkaProducer,
    prefix: str,
    pace: Pace,
    seed: int,
    watch: Watch,
    on_progress: Callable[[Watch], None],
    watching: asyncio.Task[None],
) -> None:
    rng = random.Random(seed)
    started = time.perf_counter()
    confirming: set[asyncio.Future[Any]] = set()
    failures: list[BaseException] = []
    for number, (event, fault) in enumerate(events):
        ahead_s = pace.due_s(number, event.virtual_ms) - (time.perf_counter() - started)
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        while watch.outstanding + len(confirming) >= IN_FLIGHT and not watching.done():
            await asyncio.sleep(0.005)
        if watching.done():
            watching.result()
        _raise_first(failures)
        produced_ms = time.time() * 1e3
        headers = headers_for(
            event.kind,
            id=event.id,
            source=event.source,
            patient=event.patient,
            time_ms=event.time_ms,
            recorded_ms=event.recorded_ms,
            encounter=event.encounter,
            dataref=event.dataref,
            sha256=event.sha256,
            traceparent=f"00-{rng.getrandbits(128) or 1:032x}-{rng.getrandbits(64) or 1:016x}-01",
        )
        future = await producer.send(prefix + event.kind, event.value, event.patient.encode(), headers=headers)
        confirming.add(future)

        def confirmed(done: asyncio.Future[Any], event=event, produced_ms=produced_ms, fault=fault) -> None:  # type: ignore[no-untyped-def]
            confirming.discard(done)
            if done.cancelled():
                return
            if (failure := done.exception()) is not None:
                failures.append(failure)
                return
            place = done.result()
            watch.sent(event, place.partition, place.offset, produced_ms, fault)

        future.add_done_callback(confirmed)
        if number % 500 == 0:
            on_progress(watch)
            await asyncio.sleep(0)
    await producer.flush()
    await asyncio.gather(*confirming, return_exceptions=True)
    _raise_first(failures)


def _raise_first(failures: Sequence[BaseException]) -> None:
    if failures:
        raise Unavailable(f"Kafka did not take an event ({type(failures[0]).__name__})") from failures[0]


async def _watch(
    consumer: AIOKafkaConsumer, topics: dict[str, str], watch: Watch, on_alert: Callable[[dict[str, Any]], None]
) -> None:
    """Takes records in the order in which they can be understood: embeddings before the scores that cover them."""
    order = {kind: place for place, kind in enumerate(("encoded-scans", "dead-letters", "alerts", "risk"))}
    while True:
        fetched = await consumer.getmany(timeout_ms=200, max_records=2000)
        received_ms = time.time() * 1e3
        for tp, records in sorted(fetched.items(), key=lambda item: order[topics[item[0].topic]]):
            kind = topics[tp.topic]
            for record in records:
                if kind == "risk":
                    watch.saw_risk(record, received_ms)
                elif kind == "alerts":
                    body = watch.saw_alert(record, received_ms)
                    if body is not None:
                        on_alert(body)
                elif kind == "dead-letters":
                    watch.saw_dead_letter(record)
                else:
                    watch.saw_encoded(record)


async def _drain(
    watch: Watch, idle_timeout_s: float, on_progress: Callable[[Watch], None], watching: asyncio.Task[None]
) -> None:
    moved, left = time.monotonic(), watch.outstanding
    while watch.outstanding:
        if watching.done():
            watching.result()
        await asyncio.sleep(0.05)
        on_progress(watch)
        if watch.outstanding != left:
            moved, left = time.monotonic(), watch.outstanding
        elif time.monotonic() - moved > idle_timeout_s:
            return
