"""Of patients of whom nothing has come for longer than Kafka keeps anything, Redis keeps only what never ages.

Nothing else of such a history would count in a score any more, but every admission leaves one behind. What stays are
static facts (age, sex) and past alerts. Who was merged, or was merged into, stays whole, since that holds for whatever
comes in years, and so does whose alert stands.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from streaming import codec
from streaming.alerting import any_standing
from streaming.clock import HOUR_MS
from streaming.history import PatientState
from streaming.observations import Observations
from streaming.session import Outcome, Session
from streaming.turns import Turns

FORGOTTEN_MS = 31 * 24 * HOUR_MS
"""By the clock, whatever the events' times are: the topics keep thirty days."""
AT_ONCE = 1_000
"""Patients of a partition, at most, in one turn; more are left to the next."""


class FindsPatients(Protocol):
    """The part of the state store that is needed here."""

    async def load(self, partition: int, patients: Sequence[str]) -> list[dict[bytes, bytes]]: ...
    async def untouched(self, partition: int, since_ms: int, most: int) -> list[str]: ...


class Forgetting:
    """Takes out who has not been heard of for `FORGOTTEN_MS`, a part at a time."""

    def __init__(self, store: FindsPatients) -> None:
        self._store = store

    async def forget(self, sessions: Iterable[Session], now_ms: int) -> Outcome:
        """The writes that take them out; who stays is looked at again after as long.

        Raises:
            Unavailable: Redis is away; nothing has changed, call again.
        """
        found: list[tuple[Session, str, dict[bytes, bytes]]] = []
        for session in sessions:
            stored_before = session.stored
            names = await self._store.untouched(session.partition, now_ms - FORGOTTEN_MS, AT_ONCE)
            names = [name for name in names if session.last_write.get(name, 0) <= stored_before]
            stored = await self._store.load(session.partition, names)
            found += [(session, name, fields) for name, fields in zip(names, stored, strict=True)]
        outcome, turns = Outcome(), Turns()
        for session, name, fields in found:
            state = codec.decode(name, fields)
            if state.links is not None or state.absorbed is not None or any_standing(state.policy):
                outcome.keep(session, state, state)
            else:
                outcome.renew(session, _ageless(state))
            await turns.give()
        return outcome


def _ageless(state: PatientState) -> PatientState:
    """What never ages of a state; one of nobody when there is nothing."""
    facts = Observations.of((), state.observations.static)
    if not facts.static and not state.policy.episodes:
        return PatientState(state.patient)
    return replace(state, observations=facts, notes={}, scans={}, embeddings={})
