"""Checks a run's own history from the topics alone, independently of the worker.

Which waiting updates share a score, and how topics interleave, differs from run to run; so each run is checked against
what it said: every risk record is computed again from the events up to its recorded offsets, offsets only grow, every
event is covered, and the alerts are the policy applied to the recorded scores in order. A patient merged into another
has no scores while the merge stands, and the other's are computed with that history. An event that lies on another
partition than its patient's counts by the copy that the worker sent there. Uses the pure functions (parse, reduce,
score, decide), none of the engine, store, pipeline or forwarding.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from models import conformal
from models.predictor import Predictor
from streaming import alerting, verify_merges
from streaming.envelope import Event, Limits, parse_time
from streaming.errors import InvalidMessage, Unavailable
from streaming.history import PatientState
from streaming.kafka_reading import partitions_of
from streaming.records import parse_record
from streaming.scoring import Scorer
from streaming.state import apply

INPUTS = ("vitals", "notes", "corrections", "encoded-scans", "forwarded")
TOPICS = (*INPUTS, "scans", "risk", "alerts", "dead-letters")
TOLERANCE = 1e-5
_ROWS = 64

PartitionOf = Callable[[bytes], int]
_Sent = tuple[str, str, str, bytes | None]  # topic, patient, id, value


@dataclass(slots=True)
class Verdict:
    """Counts, the largest difference between a live and a recomputed score, and violations, a line each."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    largest_difference: float = 0.0
    violations: list[str] = field(default_factory=list)

    def wrong(self, line: str) -> None:
        self.counts["violations"] += 1
        if len(self.violations) < 50:
            self.violations.append(line)


async def read_all(bootstrap: str, prefix: str) -> tuple[dict[str, list[ConsumerRecord]], int]:
    """Every record of the run's topics, per topic in order of (partition, offset), and the topics' number of partitions.

    Raises:
        Unavailable: Kafka does not answer, or a topic is missing.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20
    )
    try:
        await consumer.start()
        tps = [tp for kind in TOPICS for tp in await partitions_of(consumer, prefix + kind)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        found: dict[str, list[ConsumerRecord]] = defaultdict(list)
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                found[tp.topic.removeprefix(prefix)] += [r for r in records if r.offset < ends[tp]]
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {bootstrap} does not answer ({type(error).__name__})") from error
    finally:
        await consumer.stop()
    for records in found.values():
        records.sort(key=lambda record: (record.partition, record.offset))
    return found, 1 + max(tp.partition for tp in tps)


def verify(
    topics: Mapping[str, Sequence[ConsumerRecord]], predictor: Predictor, limits: Limits, partition_of: PartitionOf
) -> Verdict:
    """The whole check over what `read_all` gave; `partition_of` a key is where its patient lives."""
    verdict = Verdict()
    events = _inputs(topics, limits, partition_of, verdict)
    risks = _once(topics.get("risk", ()), "risk", verdict)
    for line in verify_merges.sent_on_wrongly(topics, events):
        verdict.wrong(line)
    states = _check_scores(risks, events, predictor, verdict)
    for line in verify_merges.parts_that_differ(states):
        verdict.wrong(line)
    first_places = {
        (event.kind, event.partition, event.offset): event.position
        for (kind, _), some in events.items()
        if kind == "forwarded"
        for event in some
    }
    _check_alerts(risks, topics.get("alerts", ()), first_places, predictor, verdict)
    return verdict


def _inputs(
    topics: Mapping[str, Sequence[ConsumerRecord]], limits: Limits, partition_of: PartitionOf, verdict: Verdict
) -> dict[tuple[str, str], list[Event]]:
    """Accepted events by (topic, patient); refused ones must be dead-lettered with their bytes, misplaced ones copied."""
    letters = {}
    for record in topics.get("dead-letters", ()):
        headers = dict(record.headers)
        if int(headers["ww_offset"]) < 0:
            verdict.counts["refused:at-a-gateway"] += 1  # it never was on an input topic
            continue
        letters[headers["ww_topic"].decode(), int(headers["ww_partition"]), int(headers["ww_offset"])] = record
    events: dict[tuple[str, str], list[Event]] = defaultdict(list)
    at_home: set[_Sent] = set()
    misplaced: list[tuple[_Sent, ConsumerRecord]] = []
    for kind in (*INPUTS, "scans"):
        for record in topics.get(kind, ()):
            verdict.counts[f"in:{kind}"] += 1
            place = (kind, record.partition, record.offset)
            letter = letters.pop(place, None)
            try:
                event = parse_record(kind, record, limits)
            except InvalidMessage as error:
                verdict.counts[f"refused:{error.reason}"] += 1
                if letter is None:
                    verdict.wrong(f"{kind} {record.partition}/{record.offset}: refused, but not in dead-letters")
                elif letter.value != record.value and "ww_dataref" not in dict(letter.headers):
                    verdict.wrong(f"{kind} {record.partition}/{record.offset}: dead letter has other bytes")
                continue
            if kind != "scans":
                if letter is not None:
                    verdict.wrong(f"{kind} {record.partition}/{record.offset}: dead-lettered, though valid")
                sent = (kind, event.patient, event.id, record.value)
                if partition_of(record.key) != record.partition:
                    verdict.counts[f"rerouted:{kind}"] += 1
                    misplaced.append((sent, record))
                    continue
                at_home.add(sent)
                events[kind, event.patient].append(event)
            elif letter is not None:
                verdict.counts["refused:scans"] += 1
    for kind, partition, offset in letters:
        verdict.wrong(f"{kind} {partition}/{offset}: dead letter of an event that is not there")
    for sent, record in misplaced:
        if sent not in at_home:
            verdict.wrong(f"{sent[0]} {record.partition}/{record.offset}: not sent on to its patient's partition")
    return events


def _once(records: Sequence[ConsumerRecord], kind: str, verdict: Verdict) -> list[dict]:
    """Bodies in order, each id once; a repeat must be identical to the byte."""
    seen: dict[str, bytes] = {}
    bodies = []
    for record in records:
        body = orjson.loads(record.value)
        held = seen.get(body["id"])
        if held is None:
            seen[body["id"]] = record.value
            bodies.append({**body, "_partition": record.partition})
        else:
            verdict.counts[f"repeated:{kind}"] += 1
            if held != record.value:
                verdict.wrong(f"{kind} {record.partition}/{record.offset}: repeats an id with other bytes")
    verdict.counts[kind] = len(bodies)
    return bodies


def _check_scores(
    risks: Sequence[dict], events: Mapping[tuple[str, str], list[Event]], predictor: Predictor, verdict: Verdict
) -> dict[str, PatientState]:
    """Gives every patient's state after the last record."""
    states: dict[str, PatientState] = {}
    taken: dict[tuple[str, str], int] = defaultdict(int)
    covered: dict[tuple[str, str], int] = {}
    scorer = Scorer(predictor)
    names = predictor.card.conditions
    rows: list[tuple[dict, PatientState]] = []

    def compare() -> None:
        scored = scorer.score(scorer.embed([state for _, state in rows]), [_ms(body["as_of"]) for body, _ in rows])
        for (body, _), score in zip(rows, scored, strict=True):
            told = {one["condition"]: one for one in body["scores"]}
            if told.keys() != {name for name, asked in zip(names, score.asked, strict=True) if asked}:
                verdict.wrong(f"risk {body['id'][:12]}: tells of other conditions than there is something to ask of")
                continue
            probability = score.probability.copy()
            for row, name in enumerate(names):
                probability[row] = told[name]["probability"] if name in told else probability[row]
            difference = float(np.abs(probability - score.probability).max())
            verdict.largest_difference = max(verdict.largest_difference, difference)
            if difference > TOLERANCE:
                verdict.wrong(f"risk {body['id'][:12]}: differs from the recomputed score by {difference:.2g}")
            sets = predictor.card.conformal
            if sets is not None:
                # from the recorded probability: at a cut the recomputed one may fall to the other side
                abstaining = dict(zip(names, conformal.abstains(sets.contains(probability)).tolist(), strict=True))
                if any(abstaining[name] != one.get("abstains", False) for name, one in told.items()):
                    verdict.wrong(f"risk {body['id'][:12]}: abstains otherwise than its probability and the card say")
        rows.clear()

    for body in risks:
        patient = body["patient"]
        state = states.get(patient, PatientState(patient))
        for kind, offset in body["offsets"].items():
            key = (kind, patient)
            if offset < covered.get(key, -1):
                verdict.wrong(f"risk {body['id'][:12]}: offset of {kind} went back")
            covered[key] = max(offset, covered.get(key, -1))
            waiting = events.get(key, [])
            while taken[key] < len(waiting) and waiting[taken[key]].offset <= offset:
                state = apply(state, waiting[taken[key]])
                taken[key] += 1
        states[patient] = state
        into = state.merged_into
        if (body.get("merged_into"), tuple(body.get("merged_from", ()))) != (into, state.merged_from):
            verdict.wrong(f"risk {body['id'][:12]}: tells of other merges than its events")
        verdict.counts["merged"] += into is not None
        if (into is None) != bool(body["scores"]):
            verdict.wrong(f"risk {body['id'][:12]}: scored though merged into another, or neither")
        if not body["scores"]:
            continue
        rows.append((body, state))
        if len(rows) == _ROWS:
            compare()
    if rows:
        compare()
    for key, accepted in events.items():
        missed = len(accepted) - taken[key]
        verdict.counts["covered"] += taken[key]
        if missed:
            verdict.wrong(f"{missed} events of {key[0]} are not covered by any score")
    return states


def _check_alerts(
    risks: Sequence[dict],
    records: Sequence[ConsumerRecord],
    first_places: Mapping[verify_merges.Place, verify_merges.Place],
    predictor: Predictor,
    verdict: Verdict,
) -> None:
    policy = alerting.Policy.from_card(predictor.card)
    states: dict[str, alerting.PolicyState] = {}
    expected: list[str] = []
    for body in risks:
        held = states.get(body["patient"], alerting.PolicyState())
        if body.get("merged_into") is not None:
            states[body["patient"]], decisions = alerting.merged(held, body["site"], body["patient"])
            expected += [decision.alert_id for decision in decisions]
            continue
        place = (body["trigger"]["topic"], body["trigger"]["partition"], body["trigger"]["offset"])
        scored = alerting.Scored(
            site=body["site"],
            patient=body["patient"],
            position=first_places.get(place, place),
            event_ms=_ms(body["newest_event"]),
            may_page=body["may_page"],
            probabilities={one["condition"]: one["probability"] for one in body["scores"]},
            abstains=frozenset(one["condition"] for one in body["scores"] if one.get("abstains")),
        )
        states[body["patient"]], decisions = alerting.decide(policy, held, scored)
        expected += [decision.alert_id for decision in decisions]
    told = [b["id"] for b in _once(records, "alerts", verdict) if b["condition"] != alerting.SILENCE]
    for missing in set(expected) - set(told):
        verdict.wrong(f"alert {missing[:12]}: the policy decides it, but it was not published")
    for extra in set(told) - set(expected):
        verdict.wrong(f"alert {extra[:12]}: published, but the policy does not decide it")
    if set(told) == set(expected) and told != expected:
        verdict.wrong("alerts are not in the order of the scores")


def _ms(text: str) -> int:
    return parse_time(text, "time")


def run(
    bootstrap: str, prefix: str, predictor: Predictor, limits: Limits, partitioner: Callable[[int], PartitionOf]
) -> Verdict:
    """`read_all` and `verify`; `partitioner` gives the producers' for a number of partitions."""
    topics, partitions = asyncio.run(read_all(bootstrap, prefix))
    return verify(topics, predictor, limits, partitioner(partitions))
