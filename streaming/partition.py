"""What passes between the pipeline and the state store, per partition. Plain data: knows neither Redis nor Kafka."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streaming.clock import wall_ms


@dataclass(frozen=True, slots=True)
class PartitionMeta:
    """What Redis holds of a partition when a worker takes it over."""

    token: int
    offsets: Mapping[str, int]  # unprefixed topic -> last offset whose effect is stored
    outbox: Sequence[tuple[str, bytes]]  # entries not yet known to be published, in order
    writes: int = 0  # how many it holds


@dataclass(slots=True)
class PartitionWrite:
    """One batch's effect on one partition."""

    partition: int
    token: int
    number: int  # of the partition's writes: it follows the one before
    offsets: dict[str, int] = field(default_factory=dict)  # topic -> last offset
    counters: dict[str, int] = field(default_factory=dict)
    outbox: list[tuple[str, bytes]] = field(default_factory=list)
    patients: dict[str, tuple[int, dict[str, bytes]]] = field(default_factory=dict)  # newest recorded ms, fields
    forgotten: list[str] = field(default_factory=list)  # taken out first, with all that was stored of them
    at_ms: int = field(default_factory=wall_ms)  # when that is
