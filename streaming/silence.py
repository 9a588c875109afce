"""The technical alarm that a monitored patient's data fell silent: who is judged, and when.

A partition is judged as of a time, once all that lay on Kafka then is taken: what waits to be read is no silence. Whose
newest record has become too old since the last time is found in Redis; whose newest record was too old already when it was
taken (it came late, or a merge was undone) is named by `decisions.py`. Leaves the alarm's rules to `alerting.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from streaming import codec
from streaming.clock import HOUR_MS
from streaming.decisions import Decider
from streaming.session import Outcome, Session
from streaming.state import PatientState
from streaming.turns import Turns

MONITORED_MS = 24 * HOUR_MS
"""A patient who has been silent for a day beyond the limit is no longer taken for monitored, and a standing alarm ends."""
AWAY_MS = 7 * MONITORED_MS
"""So long a worker may be away, and still ends the alarms of who was silent for that day meanwhile."""
OVERLAP_MS = 60_000
"""Who was judged so lately is looked at again: what is taken may be on its way to Redis."""
LOADED_AT_ONCE = 1_000


class ReadsStates(Protocol):
    """The part of the state store that is needed here."""

    async def load(self, partition: int, patients: Sequence[str]) -> list[dict[bytes, bytes]]: ...
    async def silent_patients(self, partition: int, after_ms: int, to_ms: int) -> list[str]: ...


class Silence:
    """Judges all patients of whom nothing was recorded for `limit_ms`; each alarm is raised once."""

    def __init__(self, store: ReadsStates, decider: Decider, limit_ms: int) -> None:
        self._store = store
        self._decider = decider
        self._limit_ms = limit_ms

    async def judge(
        self, sessions: Iterable[Session], now_ms: int, arrived: Mapping[int, Mapping[str, int]]
    ) -> Outcome:
        """Alarms of patients fallen silent, raised or ended.

        arrived: per partition what lay on Kafka at `now_ms`, as topics' ends. A partition is judged as of that time, if
        only in a later call; one that is missing was assigned since.

        Raises:
            Unavailable: Redis is away; nothing has changed, call again.
        """
        found: list[tuple[Session, int, list[PatientState]]] = []
        for session in sessions:
            if session.arrived is None and session.partition in arrived:
                session.arrived = now_ms, arrived[session.partition]
            if session.arrived is not None and session.has_taken(session.arrived[1]):
                asked_ms = session.arrived[0]
                found.append((session, asked_ms, await self._silent(session, asked_ms)))
        outcome, turns = Outcome(), Turns()
        for session, asked_ms, states in found:
            for state in states:
                self._decider.silence(session, state, MONITORED_MS, asked_ms, outcome)
                await turns.give()
            session.arrived, session.judged_ms = None, asked_ms
            session.overdue.clear()
        return outcome

    async def _silent(self, session: Session, asked_ms: int) -> list[PatientState]:
        """Who fell silent since the partition was last judged, or has been for a day, or was when last heard of."""
        since_ms = session.judged_ms - OVERLAP_MS if session.judged_ms else asked_ms - AWAY_MS
        silent_from = max(since_ms, asked_ms - MONITORED_MS) - self._limit_ms
        left_from = since_ms - self._limit_ms - MONITORED_MS
        names = dict.fromkeys(session.overdue)
        for after_ms, to_ms in (
            (silent_from, asked_ms - self._limit_ms),
            (left_from, asked_ms - self._limit_ms - MONITORED_MS),
        ):
            names |= dict.fromkeys(await self._store.silent_patients(session.partition, after_ms, to_ms))
        states = {name: session.cache[name] for name in names if name in session.cache}
        unknown = [name for name in names if name not in states]
        turns = Turns()
        for first in range(0, len(unknown), LOADED_AT_ONCE):
            some = unknown[first : first + LOADED_AT_ONCE]
            stored = await self._store.load(session.partition, some)
            for name, fields in zip(some, stored, strict=True):
                states[name] = codec.decode(name, fields)
                await turns.give()
        return list(states.values())
