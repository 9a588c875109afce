"""Latency of vitals alone and with notes and scans among them: one fusion and one imaging worker, interleaved rounds.

Three loads: `bare` (vitals, before anybody has a note or a scan), `alone` (vitals, of patients some of whom have one by
now, so that more rows are fused) and `mix` (the same, with notes and scans coming in). The comparator is a bare Faust
agent that passes all three kinds on: what the same bytes cost on the same machine when nothing is done with them.
"""

import asyncio
import gc
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Producer

from streaming import bench_latency, bench_peers, topics
from streaming.bench_latency import DRAIN_S, PATIENTS, event, latencies, patient_of, stop
from streaming.bench_mix_figures import NEAR_S, Sent, compared, groups, line
from streaming.bench_mix_load import Mix
from streaming.bench_throughput import start_workers, wait_ready
from streaming.envelope import headers_for
from streaming.errors import Fatal
from streaming.kafka_reading import read_from_now
from streaming.latency import machine
from streaming.settings import Settings


@dataclass(slots=True)
class _Ward:
    """One system's patients over all rounds: the next number of each kind, and who has had a note or a scan."""

    name: str
    own: str  # prefix of its topics
    next: dict[str, int] = field(default_factory=lambda: {"vitals": 0, "notes": 0, "scans": PATIENTS // 2})
    having: dict[str, set[str]] = field(default_factory=lambda: {"notes": set(), "scans": set()})


def measure(settings: Settings, mix: Mix, seconds: float, rounds: int, report: Callable[[str], None]) -> dict[str, Any]:
    """`runs` (by system, load and group of events p50, p99 and max in ms), what `compared` makes of them, and of how
    many patients of the worker under test a note or a scan had come in the end.

    Raises:
        Fatal: a system under test ended or did not answer every event.
    """
    prefix = f"mix-{int(time.time())}."
    wards = [_Ward("wardwatch", prefix), _Ward("faust", f"{prefix}faust.")]
    children: list[subprocess.Popen[bytes]] = []
    runs: list[dict[str, Any]] = []
    try:
        for ward in wards:
            topics.create(settings.kafka_bootstrap, ward.own, settings.partitions, settings.replication)
        sources = ",".join(f"{wards[1].own}{kind}" for kind in ("vitals", "notes", "scans"))
        children.append(bench_peers.start("faust", settings.kafka_bootstrap, sources, f"{wards[1].own}risk"))
        for role in ("fusion", "imaging"):
            started, ports = start_workers(prefix, "each", 1, role)
            children += started
            wait_ready(ports, started)
        for ward in wards:
            warm_up_s = bench_latency.WARM_UP_S
            asyncio.run(latencies(settings.kafka_bootstrap, prefix, ward.name, mix.vitals, warm_up_s))
        warm = [(ward, "mix", -1) for ward in wards]
        turns = [(ward, load, number) for number in range(rounds) for load in ("alone", "mix") for ward in wards]
        for ward, load, number in [(wards[0], "bare", number) for number in range(rounds)] + warm + turns:
            length = seconds if number >= 0 else bench_latency.SETTLE_S
            sent = asyncio.run(_round(settings.kafka_bootstrap, ward, mix, load, length))
            if any(child.poll() is not None for child in children):
                raise Fatal(f"a system under test ended while {ward.name} had its turn")
            if number >= 0:
                found = groups(sent)
                runs.append({"system": ward.name, "load": load, "round": number, "groups": found})
                for name in ("vitals", "notes", "scans", "vitals near a note", "vitals near a scan"):
                    if name in found:
                        report(line(f"{ward.name} {load}: {name}", found[name]))
    finally:
        stop(children)
    having = {kind: len(names) for kind, names in wards[0].having.items()}
    return {
        **compared(runs),
        "runs": runs,
        "patients": {"all": PATIENTS, **having, "either": len(set.union(*wards[0].having.values()))},
        "rates": {"vitals": mix.vitals, "notes": mix.notes, "scans": mix.scans, "notes_at_once": mix.burst},
        "real_notes_and_scans": mix.real,
        "near_ms": NEAR_S * 1e3,
        "seconds": seconds,
        "rounds": rounds,
        "machine": machine(),
    }


async def _round(bootstrap: str, ward: _Ward, mix: Mix, load: str, seconds: float) -> list[Sent]:
    """Every event of one round, answered. Notes and scans have a producer with threads of its own, as a gateway would
    be: the clock's loop must not be held up by sending half a megabyte.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    vitals = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    gateway = Producer(
        {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 0, "message.max.bytes": 40 << 20}
    )
    await consumer.start()
    await vitals.start()
    try:
        await read_from_now(consumer, f"{ward.own}risk")
        sent: dict[str, Sent] = {}
        schedule = mix.schedule(seconds, load)
        receiving = asyncio.create_task(_receive(consumer, ward.name, sent, len(schedule)))
        run = time.time_ns()
        gc.collect()
        gc.disable()  # as in `latencies`
        started = time.perf_counter()
        for number, (due_s, kind) in enumerate(schedule):
            ahead_s = due_s - (time.perf_counter() - started)
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            name = f"00-{run:024x}{number:08x}-{number + 1:016x}-01"  # also the trace, which a scan's score still names
            value, headers, key = _event(ward, mix, kind, name)
            if ward.name != "wardwatch":  # a comparator passes the value on, so the id has to be in it
                value += b"\n" + name.encode()
            patient = key.decode()
            marked = any(patient in names for names in ward.having.values())
            sent[name] = Sent(kind, time.perf_counter(), marked)
            if kind == "vitals":
                await vitals.send(f"{ward.own}vitals", value, key, headers=headers)
            else:
                gateway.produce(f"{ward.own}{kind}", value=value, key=key, headers=headers)
                ward.having[kind].add(patient)
            gateway.poll(0)
        await asyncio.wait_for(receiving, DRAIN_S)
        return list(sent.values())
    except TimeoutError:
        answered = sum(one.answered > 0 for one in sent.values())
        raise Fatal(f"{ward.name} answered {answered} of {len(schedule)} events") from None
    finally:
        gc.enable()
        await consumer.stop()
        await vitals.stop()


def _event(ward: _Ward, mix: Mix, kind: str, name: str) -> tuple[bytes, list[tuple[str, bytes]], bytes]:
    number = ward.next[kind]
    ward.next[kind] += 1
    if kind == "vitals":
        return event(name, number)
    patient, now_ms = patient_of(number), time.time_ns() // 1_000_000
    headers = headers_for(kind, id=name, source="bench", patient=patient, time_ms=now_ms, traceparent=name)
    if kind == "scans":
        return mix.files[number % len(mix.files)], headers, patient.encode()
    return orjson.dumps({"note_id": name, "text": mix.texts[number % len(mix.texts)]}), headers, patient.encode()


async def _receive(consumer: AIOKafkaConsumer, system: str, sent: dict[str, Sent], total: int) -> None:
    left = total
    while left:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            now = time.perf_counter()
            for record in records:
                one = sent.get(_answers(record.value, system))
                if one is not None and not one.answered:
                    one.answered = now
                    left -= 1


def _answers(value: bytes, system: str) -> str:
    """The event that a record of the sink answers."""
    if system != "wardwatch":
        return value.rpartition(b"\n")[2].decode(errors="replace")
    body = orjson.loads(value)
    return body["traceparent"] or body["trigger_id"]
