"""What passes through the pipeline: batches, the records taken of them, one ownership of a partition, its outcome.

Plain data with the little that collects it; leaves the steps to `pipeline.py`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from streaming import codec
from streaming.envelope import Event
from streaming.errors import InvalidMessage
from streaming.history import PatientState
from streaming.partition import PartitionWrite
from streaming.records import InRecord, OutRecord
from streaming.turns import Turns

CACHED_PATIENTS = 160_000
CACHED_MEASUREMENTS = 32_000_000
"""States, and measurements in them, that a worker keeps, an even share of each partition; beyond that the longest unused
is read from Redis again. About 2 GiB at most."""


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


Ahead = Mapping[str, Callable[[Batch], Awaitable[None]]]
"""By kind what is slow about a batch and changes nothing, so that it can be done before the batch's turn."""


@dataclass(slots=True)
class Session:
    """One ownership of one partition: from its assignment to its end."""

    partition: int
    token: int
    taken: dict[str, int]  # per topic, the last offset this session has taken or found stored
    writes: int  # the number of its last write
    stored: int = 0  # the number of the last write that Redis has taken
    last_write: dict[str, int] = field(default_factory=dict)  # by patient in the cache
    cache: dict[str, PatientState] = field(default_factory=dict)
    measurements: int = 0  # of all in the cache
    entries: int = 0
    arrived: tuple[int, Mapping[str, int]] | None = None
    """A time, and per topic the offset below which all had arrived by then: silence is judged once all that is taken."""
    judged_ms: int = 0  # when silence was last judged
    overdue: set[str] = field(default_factory=set)  # patients whose newest record was too old when it was taken

    def outbox_name(self) -> str:
        """A name no other owner uses, sorting in order of making."""
        self.entries += 1
        return f"{self.token:012d}-{self.entries:012d}"

    def has_taken(self, arrived: Mapping[str, int]) -> bool:
        """Everything below these offsets."""
        return all(self.taken.get(topic, -1) + 1 >= offset for topic, offset in arrived.items())

    def keep(self, state: PatientState, write: int = 0) -> None:
        """Into the cache, as the one used last. `write`: the number of the write that stores it; 0: it is stored."""
        held = self.cache.pop(state.patient, None)
        self.cache[state.patient] = state
        self.measurements += state.observations.standing - (0 if held is None else held.observations.standing)
        if write:
            self.last_write[state.patient] = write

    async def keep_stored(self, patients: Sequence[str], stored: Sequence[Mapping[bytes, bytes]]) -> None:
        """These patients' stored fields as states into the cache; without fields a patient was never seen."""
        turns = Turns()
        for patient, fields in zip(patients, stored, strict=True):
            self.keep(codec.decode(patient, fields) if fields else PatientState(patient))
            await turns.give()

    def forget_unused(self, partitions: int) -> None:
        """What is over the share of one of so many partitions, the longest unused first. A state that is not stored yet
        stays, and so does what was used after it."""
        patients, measurements = CACHED_PATIENTS // partitions, CACHED_MEASUREMENTS // partitions
        while len(self.cache) > patients or self.measurements > measurements:
            patient = next(iter(self.cache))
            if self.last_write.get(patient, 0) > self.stored:
                break
            self.measurements -= self.cache.pop(patient).observations.standing
            self.last_write.pop(patient, None)


@dataclass(slots=True)
class Taken:
    """One record that this session takes: an accepted event, a refused one, or one for another partition."""

    session: Session
    batch: Batch
    record: InRecord
    event: Event | None
    error: InvalidMessage | None
    rerouted_to: int | None = None
    letter: OutRecord | None = None
    sent_on: Sequence[OutRecord] = ()  # to the patient that this one was merged into


@dataclass(slots=True)
class Outcome:
    """A processed batch, not yet stored: one write a partition."""

    writes: list[tuple[Session, PartitionWrite]] = field(default_factory=list)
    records: list[OutRecord] = field(default_factory=list)
    """What the outboxes of `writes` hold, in order."""
    counts: dict[str, int] = field(default_factory=dict)
    stage_ms: dict[str, float] = field(default_factory=dict)
    _by_partition: dict[int, PartitionWrite] = field(default_factory=dict)

    def write(self, session: Session) -> PartitionWrite:
        """The session's write, begun when first asked for."""
        found = self._by_partition.get(session.partition)
        if found is None:
            session.writes += 1
            found = PartitionWrite(session.partition, session.token, session.writes)
            self._by_partition[session.partition] = found
            self.writes.append((session, found))
        return found

    def count(self, session: Session, name: str) -> None:
        """One more of `name`, in the worker's metrics and in the partition's stored counters."""
        counters = self.write(session).counters
        counters[name] = counters.get(name, 0) + 1
        self.counts[name] = self.counts.get(name, 0) + 1

    def out(self, session: Session, record: OutRecord) -> None:
        """One more record for the outbox."""
        self.write(session).outbox.append((session.outbox_name(), record.pack()))
        self.records.append(record)

    def keep(self, session: Session, before: PatientState, after: PatientState) -> None:
        """Into the cache, and over what was stored: only what differs from `before`, when that was stored."""
        write = self.write(session)
        session.keep(after, write.number)
        write.patients[after.patient] = (
            after.newest_recorded_ms,
            codec.encode(after, before if before.offsets else None),
        )

    def renew(self, session: Session, state: PatientState) -> None:
        """In place of all that is stored of the patient; a state of nobody leaves nothing there. Who comes again meanwhile
        goes on from it."""
        write = self.write(session)
        session.keep(state, write.number)
        write.forgotten.append(state.patient)
        if state.offsets:
            write.patients[state.patient] = (state.newest_recorded_ms, codec.encode(state))
