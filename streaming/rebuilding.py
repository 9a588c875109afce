"""States that Redis lost, made again from Kafka before anything new of their partition is read.

Nobody hears of it: scores, alerts, dead letters and what was sent on of these events lie on Kafka already. States are made
by the reducer that makes them live, their alert episodes are what was published of them.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from streaming.envelope import Event, Limits
from streaming.errors import InvalidMessage
from streaming.partition import PartitionWrite
from streaming.published import Told
from streaming.records import InRecord, parse_record
from streaming.session import Outcome, Session
from streaming.state import PatientState, apply
from streaming.turns import Turns

log = logging.getLogger(__name__)

LOADED_AT_ONCE = 500

Ranges = Mapping[str, tuple[int, int]]
"""By topic the first offset and the one to stop before."""


class Past(Protocol):
    """Fixed: reads without the worker's group. Raises `Unavailable` where Kafka does not answer."""

    def records(self, partition: int, ranges: Ranges) -> AsyncIterator[tuple[str, Sequence[InRecord]]]:
        """What is left of these ranges, a topic's records in order."""
        ...

    async def told(self, partition: int, below: Mapping[str, int], stored: Mapping[str, int]) -> dict[str, Told]:
        """`Published.told`, of all of whom anything was published since the oldest of these records, by topic, was taken."""
        ...


class KeepsStates(Protocol):
    """The part of the state store that is needed here."""

    async def load(self, partition: int, patients: Sequence[str]) -> list[dict[bytes, bytes]]: ...
    async def write(self, writes: Sequence[PartitionWrite]) -> None: ...


class Rebuilding:
    """Makes a session's states again. What is done is stored part by part: whoever is interrupted goes on there.

    alarms: whether alarms are raised without an event (`silence.py`). Redis may have lost one by itself.
    """

    def __init__(
        self, store: KeepsStates, past: Past, limits: Limits, partition_of: Callable[[bytes], int], alarms: bool
    ) -> None:
        self._alarms = alarms
        self._store = store
        self._past = past
        self._limits = limits
        self._partition_of = partition_of

    async def rebuild(self, session: Session, committed: Mapping[str, int], partitions: int) -> None:
        """From what the session has taken up to what the group has committed, by topic. `partitions`: how many share the
        cache.

        Raises:
            Unavailable: Kafka or Redis is away.
            Fenced, Fatal: this process must stop.
        """
        ranges = {topic: (session.taken.get(topic, -1) + 1, offset) for topic, offset in committed.items()}
        lost = {topic: (first, below) for topic, (first, below) in ranges.items() if first < below}
        if not lost and not (self._alarms and session.taken):
            return
        stored = {topic: first - 1 for topic, (first, _) in lost.items()} or session.taken
        told = await self._past.told(session.partition, committed, stored)
        await self._correct(session, told, partitions)
        if not lost:
            return
        events = sum(below - first for first, below in lost.values())
        log.info("partition %d: Redis lost it; %d events are read again", session.partition, events)
        async for kind, records in self._past.records(session.partition, lost):
            await self._take(session, kind, records, told)
            session.forget_unused(partitions)
        outcome = Outcome()
        for topic, (_, below) in lost.items():  # of records that Kafka keeps no longer, too
            outcome.write(session).offsets[topic] = session.taken[topic] = below - 1
        await self._write(session, outcome)
        log.info("partition %d is made again", session.partition)

    async def _take(self, session: Session, kind: str, records: Sequence[InRecord], told: dict[str, Told]) -> None:
        """These events into the states. Whose episodes are set leaves `told`."""
        turns = Turns()
        events: list[Event] = []
        for record in records:
            try:
                event = parse_record(kind, record, self._limits)
            except InvalidMessage:
                continue  # as it was when it came
            if self._partition_of(event.patient.encode()) == session.partition:  # else a copy lies where it belongs
                events.append(event)
            await turns.give()
        before = await self._states(session, {event.patient for event in events})
        after = dict(before)
        for patient, state in before.items():
            if patient in told:
                after[patient] = replace(state, policy=told.pop(patient).over(state.policy))
            await turns.give()
        for event in events:
            after[event.patient] = apply(after[event.patient], event)
            await turns.give()
        outcome = Outcome()
        outcome.write(session).offsets[kind] = session.taken[kind] = records[-1].offset
        for patient, state in after.items():
            outcome.keep(session, before[patient], state)
            await turns.give()
        await self._write(session, outcome)

    async def _correct(self, session: Session, told: Mapping[str, Told], partitions: int) -> None:
        """The episodes of whom Redis still has: it may have lost an alarm that was raised without an event. First of all, so
        that whoever goes on after an interruption need not know."""
        turns = Turns()
        names = list(told)
        for first in range(0, len(names), LOADED_AT_ONCE):
            states = await self._states(session, names[first : first + LOADED_AT_ONCE])
            outcome = Outcome()
            for patient, state in states.items():
                policy = told[patient].over(state.policy)
                if state.offsets and policy != state.policy and _knows(told[patient], state):
                    outcome.keep(session, state, replace(state, policy=policy))
                await turns.give()
            await self._write(session, outcome)
            session.forget_unused(partitions)

    async def _states(self, session: Session, patients: Collection[str]) -> dict[str, PatientState]:
        unknown = [patient for patient in patients if patient not in session.cache]
        if unknown:
            await session.keep_stored(unknown, await self._store.load(session.partition, unknown))
        return {patient: session.cache[patient] for patient in patients}

    async def _write(self, session: Session, outcome: Outcome) -> None:
        await self._store.write([write for _, write in outcome.writes])
        session.stored = session.writes


def _knows(told: Told, state: PatientState) -> bool:
    """Whether all that the state has taken was known when it was told."""
    if told.offsets is None:
        return True
    return all(offset <= told.offsets.get(topic, -1) for topic, offset in state.offsets.items())
