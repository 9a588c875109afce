"""The sequence from a fetched batch to alerts: read this file and you know the system.

    take_over   raise the fence, publish what the outbox still holds, make again what Redis lost, say where reading starts
    ahead       encode notes that have just come, in a thread, before their batch waits with the others
    process     parse -> load -> reduce -> encode what changed and fuse (many: in a thread) -> decide
    settle      one atomic write a partition (store) -> publish the outbox -> forget it

`process` of the next batch may run while `settle` of the last one does; batches of a partition keep their order.
An event is acknowledged by the engine only after it is settled. Events of a patient who was merged into another are
reduced and sent on, through the outbox, to where that other one lives; only the other is scored. Owns the order of
steps and what makes an update; leaves Faust to `agent.py`, queues and pauses to `engine.py`, Redis to `store.py`, Kafka
to `outbox.py`, what a score leads to to `decisions.py`.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from streaming import alerting
from streaming.clock import Clock, wall_ms
from streaming.decisions import Decider
from streaming.envelope import Limits
from streaming.errors import Fatal, InvalidMessage
from streaming.forgetting import Forgetting
from streaming.forwarding import Forwarder
from streaming.messages import Note, NoteAmended
from streaming.partition import PartitionMeta, PartitionWrite
from streaming.rebuilding import Past, Rebuilding
from streaming.records import BlobWriter, OutRecord, dead_letter, parse_record
from streaming.reports import Update
from streaming.scoring import Scorer
from streaming.session import Ahead, Batch, Outcome, Session, Taken
from streaming.settings import ScoreMode
from streaming.silence import Silence
from streaming.state import PatientState, apply
from streaming.turns import Turns

ENCODED_AHEAD = 32
"""Notes of a batch, at most, that are encoded ahead. More are a backlog: there only those that stand in the end are."""

INLINE_UPDATES = 16
"""So few vitals are scored on the event loop: handing them to a thread costs both more."""
AT_ONCE = 8
"""Updates scored on the loop between two turns of others: one to two milliseconds."""

INPUTS = ("vitals", "notes", "corrections", "encoded-scans", "forwarded")


class StateStore(Protocol):
    """Fixed: `write` is all or nothing per partition and refuses an owner whose fence was passed; it may be repeated."""

    async def take_over(self, partition: int) -> PartitionMeta: ...
    async def load(self, partition: int, patients: Sequence[str]) -> list[dict[bytes, bytes]]: ...
    async def write(self, writes: Sequence[PartitionWrite]) -> None: ...
    async def clear_outbox(self, entries: Mapping[int, Sequence[str]]) -> None: ...
    async def silent_patients(self, partition: int, after_ms: int, to_ms: int) -> list[str]: ...
    async def untouched(self, partition: int, since_ms: int, most: int) -> list[str]: ...


class Publishes(Protocol):
    """Fixed: keeps the order of calls; the future ends when the broker has confirmed every record of the call, with the
    ms that this took, or with `Fatal`.
    """

    def publish(self, records: Sequence[OutRecord]) -> asyncio.Future[float]: ...


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
    silence_ms: int = 0  # without data for so long a technical alarm is raised; 0: never


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
        past: Past,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._blobs = blobs
        self._scorer = scorer
        self._clock = clock
        self._rules = rules
        self._executor = executor
        self._decider = Decider(policy, scorer.card, rules.site, rules.silence_ms)
        self._forgetting = Forgetting(store)
        self._silence = Silence(store, self._decider, rules.silence_ms)
        self._forwarder = Forwarder(rules.site, rules.partition_of)
        self._sessions: dict[int, Session] = {}
        self._rebuilding = Rebuilding(store, past, rules.limits, rules.partition_of, rules.silence_ms > 0)
        self._refused_in_a_row = 0
        self.ahead: Ahead = {"notes": self._encode_ahead}

    # ---------------------------------------------------------------- ahead

    async def _encode_ahead(self, batch: Batch) -> None:
        """The note encoder takes milliseconds a note: it runs, note by note, in the thread before the batch is processed,
        so that vitals which come meanwhile wait for one note at most."""
        if len(batch.records) > ENCODED_AHEAD:
            return
        loop = asyncio.get_running_loop()
        for record in batch.records:
            try:
                data = parse_record(batch.kind, record, self._rules.limits).data
            except InvalidMessage:
                continue  # `process` refuses it
            if isinstance(data, Note | NoteAmended):
                await loop.run_in_executor(self._executor, self._scorer.encode_ahead, data.text)

    # ---------------------------------------------------------------- ownership

    async def take_over(self, committed: Mapping[int, Mapping[str, int | None]]) -> dict[int, dict[str, int]]:
        """Step 1 for the partitions now owned; every other session ends. Answers, per topic, where to read.

        Where Redis holds less than the group has committed (it was lost or restored), the difference is made again first.
        """
        self._sessions = {}
        starts: dict[int, dict[str, int]] = {}
        for partition, topics in committed.items():
            meta = await self._store.take_over(partition)
            await self._publish_leftovers(partition, meta)
            known = {topic: offset for topic, offset in topics.items() if offset is not None}
            session = Session(partition, meta.token, dict(meta.offsets), meta.writes)
            await self._rebuilding.rebuild(session, known, len(committed))
            self._sessions[partition] = session
            starts[partition] = {
                topic: min(known.get(topic, 1 << 62), session.taken.get(topic, -1) + 1) for topic in topics
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
        turns = Turns()
        taken = []
        for batch in batches:
            for one in self._parse(batch):
                taken.append(one)
                await turns.give()
        parsed = time.perf_counter()
        await self._load(taken)
        await self._refuse(taken)
        updates = await self._reduce(taken)
        reduced = time.perf_counter()
        encode_ms, fuse_ms = await self._score(updates)
        outcome = Outcome(
            stage_ms={
                "parse": (parsed - started) * 1e3,
                "state": (reduced - parsed) * 1e3,
                "encode": encode_ms,
                "fuse": fuse_ms,
            }
        )
        await self._decider.decide(taken, updates, self._sessions, started, outcome)
        return outcome

    def _parse(self, batch: Batch) -> Iterable[Taken]:
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
                yield Taken(session, batch, record, None, error)
            else:
                yield Taken(session, batch, record, event, None)

    async def _load(self, taken: Sequence[Taken]) -> None:
        """States of patients not cached. A patient's first event also shows whether it lies where it belongs."""
        missing: dict[int, dict[str, None]] = {}
        for one in taken:
            if one.event is None or one.event.patient in one.session.cache:
                continue
            home = self._rules.partition_of(one.event.patient.encode())
            if home != one.session.partition:
                one.rerouted_to = home
            else:
                missing.setdefault(one.session.partition, {})[one.event.patient] = None
        for partition, patients in missing.items():
            names = list(patients)
            await self._sessions[partition].keep_stored(names, await self._store.load(partition, names))

    async def _refuse(self, taken: Sequence[Taken]) -> None:
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

    async def _reduce(self, taken: Sequence[Taken]) -> list[Update]:
        """The events applied in order, grouped into updates that are scored once each."""
        each = self._each(taken)
        updates: list[Update] = []
        open_updates: dict[tuple[int, str], Update] = {}
        working: dict[tuple[int, str], PatientState] = {}
        turns = Turns()
        for one in taken:
            await turns.give()
            event, session = one.event, one.session
            if event is None or one.rerouted_to is not None:
                continue
            where = (session.partition, event.patient)
            before = working.get(where, session.cache[event.patient])
            state = working[where] = apply(before, event)
            as_of = self._clock.as_of(state.newest_recorded_ms)
            timely = alerting.is_timely(event, as_of)
            if state.links is not None:
                one.sent_on = self._forwarder.sent_on(before, state, event, one.record)
            if event.path and state.absorbed is before.absorbed:
                timely = False  # forwarded twice, or by a merge that no longer stands: it says nothing new
            update = None if each else open_updates.get(where)
            if update is None:
                update = Update(session.partition, one.batch.arrival_ms)
                updates.append(update)
                open_updates[where] = update
            update.take(event, state, as_of, timely)
        return updates

    def _each(self, taken: Sequence[Taken]) -> bool:
        if self._rules.score != "auto":
            return self._rules.score == "each"
        now = wall_ms()
        oldest = min((one.batch.arrival_ms for one in taken), default=now)
        return now - oldest <= self._rules.auto_coalesce_ms and len(taken) <= self._rules.max_rows

    async def _score(self, updates: Sequence[Update]) -> tuple[float, float]:
        """Fills in the scores, of all but patients merged into another; gives the ms of encoding and of fusing."""
        updates = [update for update in updates if update.state.links is None or update.state.merged_into is None]
        if not updates:
            return 0.0, 0.0
        if len(updates) > INLINE_UPDATES or self._scorer.takes_long([update.state for update in updates]):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, self._score_now, updates)
        encode_ms = fuse_ms = 0.0
        turns = Turns()
        for first in range(0, len(updates), AT_ONCE):
            encoded_ms, fused_ms = self._score_now(updates[first : first + AT_ONCE])
            encode_ms, fuse_ms = encode_ms + encoded_ms, fuse_ms + fused_ms
            await turns.give()
        return encode_ms, fuse_ms

    def _score_now(self, updates: Sequence[Update]) -> tuple[float, float]:
        encode_ms = fuse_ms = 0.0
        for first in range(0, len(updates), self._rules.max_rows):
            rows = updates[first : first + self._rules.max_rows]
            started = time.perf_counter()
            states = self._scorer.embed([update.state for update in rows])
            embedded = time.perf_counter()
            scores = self._scorer.score(states, [update.as_of_ms for update in rows])
            for update, state, score in zip(rows, states, scores, strict=True):
                update.state, update.score = state, score
            encode_ms += (embedded - started) * 1e3
            fuse_ms += (time.perf_counter() - embedded) * 1e3
        return encode_ms, fuse_ms

    # ---------------------------------------------------------------- what no event brings

    async def silence(self, now_ms: int, arrived: Mapping[int, Mapping[str, int]]) -> Outcome:
        """Alarms of patients fallen silent: `Silence.judge`."""
        return await self._silence.judge(self._sessions.values(), now_ms, arrived)

    async def forget_patients(self, now_ms: int) -> Outcome:
        """Takes out who has not been heard of for a month: `Forgetting.forget`."""
        return await self._forgetting.forget(self._sessions.values(), now_ms)

    # ---------------------------------------------------------------- settle

    async def store(self, outcome: Outcome) -> None:
        """Step 3: one atomic write a partition. Safe to repeat after `Unavailable`.

        Raises:
            Fenced, Fatal: this process must stop before it acknowledges anything of this batch.
        """
        await self._store.write([write for _, write in outcome.writes])
        for session, write in outcome.writes:
            session.stored = write.number

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
