"""The sequence from a fetched batch to alerts: read this file and you know the system.

    take_over   raise the fence, publish what the outbox still holds, say where reading starts
    process     parse -> load -> reduce -> encode what changed and fuse (one thread) -> decide
    settle      one atomic write a partition -> publish the outbox -> forget it

`process` of the next batch may run while `settle` of the last one does; batches of a partition keep their order.
An event is acknowledged by the engine only after `settle` returned. Owns the order of steps and what makes an update;
leaves Faust to `fusion_agent.py`, queues and pauses to `engine.py`, Redis to `store.py`, Kafka to `outbox.py`.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Protocol

from streaming import alerting, codec, reports
from streaming.clock import HOUR_MS, Clock, EventsClock, wall_ms
from streaming.envelope import Event, Limits
from streaming.errors import Fatal, InvalidMessage
from streaming.partition import PartitionMeta, PartitionWrite
from streaming.records import BlobWriter, InRecord, OutRecord, dead_letter, parse_record
from streaming.reports import Update
from streaming.scoring import Scored, Scorer
from streaming.settings import ScoreMode
from streaming.state import PatientState, apply

INLINE_UPDATES = 2
"""So few vitals are scored on the event loop, in about a millisecond: handing them to a thread costs more."""

CACHED_PATIENTS = 20_000
"""States kept in the worker per partition; beyond that the longest unused is read from Redis again."""

MONITORED_MS = 24 * HOUR_MS
"""A patient of whom nothing was recorded for a day is no longer taken for monitored."""
SILENT_AT_ONCE = 1_000

INPUTS = ("vitals", "notes", "corrections", "encoded-scans")


class StateStore(Protocol):
    """Fixed: `write` is all or nothing per partition and refuses an owner whose fence was passed."""

    async def take_over(self, partition: int) -> PartitionMeta: ...
    async def load(self, partition: int, patients: Sequence[str]) -> list[dict[bytes, bytes]]: ...
    async def write(self, write: PartitionWrite) -> None: ...
    async def clear_outbox(self, entries: Mapping[int, Sequence[str]]) -> None: ...
    async def silent_patients(self, partition: int, before_ms: int, after_ms: int, limit: int) -> list[str]: ...


class Publishes(Protocol):
    """Fixed: keeps the order of calls; the future ends when the broker has confirmed every record of the call, with the
    ms that this took, or with `Fatal`.
    """

    def publish(self, records: Sequence[OutRecord]) -> asyncio.Future[float]: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """What one fetch brought from one partition of topic `kind`. `arrival_ms`: wall clock, fractional."""

    kind: str
    partition: int
    records: Sequence[InRecord]
    arrival_ms: float

    @property
    def size_bytes(self) -> int:
        return sum(len(record.value or b"") for record in self.records)


@dataclass(slots=True)
class Session:
    """One ownership of one partition: from its assignment to its end."""

    partition: int
    token: int
    taken: dict[str, int]  # per topic, the last offset this session has taken or found stored
    rebuilt_below: Mapping[str, int]  # offsets below these were committed before: rebuilt silently
    cache: dict[str, PatientState] = field(default_factory=dict)
    entries: int = 0

    def outbox_name(self) -> str:
        """A name no other owner uses, sorting in order of making."""
        self.entries += 1
        return f"{self.token:012d}-{self.entries:012d}"


@dataclass(slots=True)
class Outcome:
    """A processed batch, not yet stored."""

    writes: list[tuple[Session, PartitionWrite]] = field(default_factory=list)
    records: list[OutRecord] = field(default_factory=list)
    """What the outboxes of `writes` hold, in order."""
    counts: dict[str, int] = field(default_factory=dict)
    stage_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Taken:
    """One record that this session takes: an accepted event, a refused one, or one for another partition."""

    session: Session
    batch: Batch
    record: InRecord
    event: Event | None
    error: InvalidMessage | None
    rerouted_to: int | None = None
    letter: OutRecord | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the deployment decides of the sequence."""

    site: str
    score: ScoreMode
    auto_coalesce_ms: int
    max_rows: int
    dead_letter_limit: int
    limits: Limits
    partition_of: Callable[[bytes], int]


class Pipeline:
    """The fusion worker's sequence over its collaborators. One per process; not for use from two tasks at once."""

    def __init__(
        self,
        store: StateStore,
        publisher: Publishes,
        blobs: BlobWriter,
        scorer: Scorer,
        policy: alerting.Policy,
        clock: Clock,
        rules: Rules,
        executor: Executor,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._blobs = blobs
        self._scorer = scorer
        self._policy = policy
        self._clock = clock
        self._rules = rules
        self._executor = executor
        self._sessions: dict[int, Session] = {}
        self._refused_in_a_row = 0

    # ---------------------------------------------------------------- ownership

    async def take_over(self, committed: Mapping[int, Mapping[str, int | None]]) -> dict[int, dict[str, int]]:
        """Step 1 for the partitions now owned; every other session ends. Answers, per topic, where to read.

        Where Redis holds less than the group has committed (it was lost or restored), reading starts at what Redis
        holds and the difference is rebuilt silently.
        """
        self._sessions = {}
        starts: dict[int, dict[str, int]] = {}
        for partition, topics in committed.items():
            meta = await self._store.take_over(partition)
            await self._publish_leftovers(partition, meta)
            known = {topic: offset for topic, offset in topics.items() if offset is not None}
            self._sessions[partition] = Session(partition, meta.token, dict(meta.offsets), known)
            starts[partition] = {
                topic: min(known.get(topic, 1 << 62), meta.offsets.get(topic, -1) + 1) for topic in topics
            }
        return starts

    async def _publish_leftovers(self, partition: int, meta: PartitionMeta) -> None:
        if meta.outbox:
            await self._publisher.publish([OutRecord.unpack(packed) for _, packed in meta.outbox])
            await self._store.clear_outbox({partition: [name for name, _ in meta.outbox]})

    # ---------------------------------------------------------------- process

    async def process(self, batches: Sequence[Batch]) -> Outcome:
        """Parse, load, reduce, encode, fuse, decide. Changes only this process's memory.

        Raises:
            Unavailable: Redis is away; nothing has changed, call again with the same batches.
            Fatal: too many events in a row were refused.
        """
        started = time.perf_counter()
        taken = [one for batch in batches for one in self._parse(batch)]
        parsed = time.perf_counter()
        await self._load(taken)
        await self._refuse(taken)
        updates = self._reduce(taken)
        reduced = time.perf_counter()
        scored, encode_ms, fuse_ms = await self._score(updates)
        outcome = Outcome(
            stage_ms={
                "parse": (parsed - started) * 1e3,
                "state": (reduced - parsed) * 1e3,
                "encode": encode_ms,
                "fuse": fuse_ms,
            }
        )
        self._decide(taken, updates, scored, started, outcome)
        return outcome

    def _parse(self, batch: Batch) -> Iterable[_Taken]:
        session = self._sessions.get(batch.partition)
        if session is None:
            return
        last = session.taken.get(batch.kind, -1)
        for record in batch.records:
            if record.offset <= last:
                continue  # its effect is stored already
            try:
                event = parse_record(batch.kind, record, self._rules.limits)
            except InvalidMessage as error:
                yield _Taken(session, batch, record, None, error)
            else:
                yield _Taken(session, batch, record, event, None)

    async def _load(self, taken: Sequence[_Taken]) -> None:
        """States of patients not cached. A patient's first event also shows whether it lies where it belongs."""
        missing: dict[int, dict[str, Session]] = {}
        for one in taken:
            if one.event is None or one.event.patient in one.session.cache:
                continue
            home = self._rules.partition_of(one.event.patient.encode())
            if home != one.session.partition:
                one.rerouted_to = home
            else:
                missing.setdefault(one.session.partition, {})[one.event.patient] = one.session
        for partition, patients in missing.items():
            names = list(patients)
            stored = await self._store.load(partition, names)
            for name, fields in zip(names, stored, strict=True):
                patients[name].cache[name] = codec.decode(name, fields) if fields else PatientState(name)

    async def _refuse(self, taken: Sequence[_Taken]) -> None:
        """Makes the dead letters; too many in a row are a broken source, not bad events."""
        in_a_row = self._refused_in_a_row
        for one in taken:
            in_a_row = in_a_row + 1 if one.error else 0
            if one.error is None:
                continue
            if in_a_row >= self._rules.dead_letter_limit:
                raise Fatal(
                    f"{in_a_row} events in a row were refused, the last with {one.error.reason}: a source is "
                    "broken. Mend it, or raise WARDWATCH_DEAD_LETTER_LIMIT, and start again"
                )
            one.letter = await asyncio.to_thread(
                dead_letter, one.record, one.batch.kind, one.error, self._blobs, wall_ms()
            )
        self._refused_in_a_row = in_a_row

    def _reduce(self, taken: Sequence[_Taken]) -> list[Update]:
        """The events applied in order, grouped into updates that are scored once each."""
        each = self._each(taken)
        updates: list[Update] = []
        open_updates: dict[tuple[int, str], Update] = {}
        working: dict[tuple[int, str], PatientState] = {}
        for one in taken:
            event, session = one.event, one.session
            if event is None or one.rerouted_to is not None:
                continue
            where = (session.partition, event.patient)
            state = apply(working.get(where, session.cache[event.patient]), event)
            working[where] = state
            silent = event.offset < session.rebuilt_below.get(event.kind, 0)
            as_of = (_REBUILD_CLOCK if silent else self._clock).as_of(state.newest_recorded_ms)
            timely = alerting.is_timely(event, as_of)
            update = None if each else open_updates.get(where)
            if update is None or update.silent != silent:
                update = Update(session.partition, one.batch.arrival_ms, silent)
                updates.append(update)
                open_updates[where] = update
            update.take(event, state, as_of, timely)
        return updates

    def _each(self, taken: Sequence[_Taken]) -> bool:
        if self._rules.score != "auto":
            return self._rules.score == "each"
        now = wall_ms()
        oldest = min((one.batch.arrival_ms for one in taken), default=now)
        return now - oldest <= self._rules.auto_coalesce_ms and len(taken) <= self._rules.max_rows

    async def _score(self, updates: Sequence[Update]) -> tuple[list[Scored], float, float]:
        if not updates:
            return [], 0.0, 0.0
        if len(updates) <= INLINE_UPDATES and not self._scorer.has_new_notes([update.state for update in updates]):
            return self._score_now(updates)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._score_now, updates)

    def _score_now(self, updates: Sequence[Update]) -> tuple[list[Scored], float, float]:
        scored: list[Scored] = []
        encode_ms = fuse_ms = 0.0
        for first in range(0, len(updates), self._rules.max_rows):
            rows = updates[first : first + self._rules.max_rows]
            started = time.perf_counter()
            states = self._scorer.embed([update.state for update in rows])
            for update, state in zip(rows, states, strict=True):
                update.state = state
            embedded = time.perf_counter()
            scored += self._scorer.score(states, [update.as_of_ms for update in rows])
            encode_ms += (embedded - started) * 1e3
            fuse_ms += (time.perf_counter() - embedded) * 1e3
        return scored, encode_ms, fuse_ms

    def _decide(
        self,
        taken: Sequence[_Taken],
        updates: Sequence[Update],
        scored: Sequence[Scored],
        started: float,
        outcome: Outcome,
    ) -> None:
        """Alert policy over the scores in order; then what is to be written and published, per partition."""
        writes: dict[int, PartitionWrite] = {}
        before: dict[tuple[int, str], PatientState] = {}
        decision_ms = time.time() * 1e3
        queue_ms = decision_ms - (time.perf_counter() - started) * 1e3

        def write_for(session: Session) -> PartitionWrite:
            if session.partition not in writes:
                writes[session.partition] = PartitionWrite(session.partition, session.token)
                outcome.writes.append((session, writes[session.partition]))
            return writes[session.partition]

        def count(session: Session, name: str) -> None:
            counters = write_for(session).counters
            counters[name] = counters.get(name, 0) + 1
            outcome.counts[name] = outcome.counts.get(name, 0) + 1

        def out(session: Session, record: OutRecord) -> None:
            write_for(session).outbox.append((session.outbox_name(), record.pack()))
            outcome.records.append(record)

        for one in taken:
            kind, offset = one.batch.kind, one.record.offset
            write = write_for(one.session)
            previous = write.offsets[kind][0] if kind in write.offsets else one.session.taken.get(kind)
            write.offsets[kind] = (previous, offset)
            one.session.taken[kind] = offset
            if one.error is not None:
                count(one.session, f"refused:{kind}")
                if one.letter is not None and offset >= one.session.rebuilt_below.get(kind, 0):
                    out(one.session, one.letter)
            elif one.rerouted_to is not None:
                count(one.session, f"rerouted:{kind}")
                out(one.session, reports.rerouted(one.record, kind, one.rerouted_to))
            else:
                count(one.session, f"applied:{kind}")

        for update, score in zip(updates, scored, strict=True):
            session = self._sessions[update.partition]
            patient = update.state.patient
            held = session.cache[patient]
            before.setdefault((session.partition, patient), held)
            policy_state, decisions = alerting.decide(
                self._policy, held.policy, reports.for_policy(update, score, self._scorer.card, self._rules.site)
            )
            policy_state, heard = alerting.heard_again(policy_state, self._rules.site, patient)
            session.cache.pop(patient)  # to the end: the longest unused stays first
            session.cache[patient] = replace(update.state, policy=policy_state)
            if update.silent:
                continue
            if heard is not None:
                card, site = self._scorer.card, self._rules.site
                out(session, reports.technical(update.state, heard, card, site, int(decision_ms)))
                count(session, f"alerts:{heard.action}")
            stages = {
                "broker": update.arrival_ms - update.trigger.broker_ms,
                "queue": queue_ms - update.arrival_ms,
                **outcome.stage_ms,
            }
            report = reports.Report(update, score, self._scorer.card, self._rules.site, decision_ms, stages)
            out(session, report.risk())
            count(session, "scored")
            for decision in decisions:
                out(session, report.alert(decision))
                count(session, f"alerts:{decision.action}")

        for (partition, patient), old in before.items():
            session = self._sessions[partition]
            new = session.cache[patient]
            write_for(session).patients[patient] = (
                new.newest_recorded_ms,
                codec.encode(new, old if old.offsets else None),
            )
            while len(session.cache) > CACHED_PATIENTS:
                session.cache.pop(next(iter(session.cache)))

    # ---------------------------------------------------------------- silence

    async def silence(self, limit_ms: int, now_ms: int) -> Outcome:
        """Technical alarms of monitored patients of whom nothing was recorded for `limit_ms`, each raised once.

        Raises:
            Unavailable: Redis is away; nothing has changed, call again.
        """
        found: list[tuple[Session, PatientState]] = []
        for session in self._sessions.values():
            before = now_ms - limit_ms
            names = await self._store.silent_patients(session.partition, before, now_ms - MONITORED_MS, SILENT_AT_ONCE)
            unknown = [name for name in names if name not in session.cache]
            stored = await self._store.load(session.partition, unknown) if unknown else []
            for name, fields in zip(unknown, stored, strict=True):
                session.cache[name] = codec.decode(name, fields)
            found += [(session, session.cache[name]) for name in names]
        outcome = Outcome()
        writes: dict[int, PartitionWrite] = {}
        for session, state in found:
            silent_ms = now_ms - state.newest_recorded_ms
            topic, offset = max(state.offsets.items(), key=lambda item: (item[0] == "vitals", item))
            policy, decision = alerting.silence(
                state.policy, self._rules.site, state.patient, (topic, session.partition, offset), silent_ms, limit_ms
            )
            if decision is None:
                continue
            if session.partition not in writes:
                writes[session.partition] = PartitionWrite(session.partition, session.token)
                outcome.writes.append((session, writes[session.partition]))
            write = writes[session.partition]
            changed = replace(state, policy=policy)
            session.cache[state.patient] = changed
            alarm = reports.technical(changed, decision, self._scorer.card, self._rules.site, now_ms)
            write.outbox.append((session.outbox_name(), alarm.pack()))
            outcome.records.append(alarm)
            write.patients[state.patient] = (changed.newest_recorded_ms, codec.encode(changed, state))
            outcome.counts["alerts:raised"] = outcome.counts.get("alerts:raised", 0) + 1
        return outcome

    # ---------------------------------------------------------------- settle

    async def store(self, outcome: Outcome) -> None:
        """Step 3: one atomic write a partition. Safe to repeat after `Unavailable`.

        Raises:
            Fenced, Fatal: this process must stop before it acknowledges anything of this batch.
        """
        await asyncio.gather(*(self._store.write(write) for _, write in outcome.writes))

    def publish(self, outcome: Outcome) -> asyncio.Future[float]:
        """Step 4: its outbox, in order, after what was published before. The future: the broker has confirmed it all."""
        return self._publisher.publish(outcome.records)

    async def forget(self, outcomes: Sequence[Outcome]) -> None:
        """Clears the confirmed outbox entries. Safe to repeat."""
        entries: dict[int, list[str]] = {}
        for outcome in outcomes:
            for _, write in outcome.writes:
                entries.setdefault(write.partition, []).extend(name for name, _ in write.outbox)
        await self._store.clear_outbox(entries)


_REBUILD_CLOCK = EventsClock()
