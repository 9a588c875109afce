"""Finished offsets per topic-partition: what may be committed. Owns the rule "contiguous prefix only".

Knows no Faust and no Kafka client. Faust's own accounting commits past an event in flight (faust-streaming#606).
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Partition:
    delivered: deque[int] = field(default_factory=deque)  # next offset of each batch handed out, ascending
    finished: set[int] = field(default_factory=set)
    committable: int | None = None


class Ledger:
    """Batches are delivered in offset order and may finish in any; only a gapless prefix is committable."""

    def __init__(self) -> None:
        self._partitions: dict[Hashable, _Partition] = {}

    def delivered(self, tp: Hashable, next_offset: int) -> None:
        """A batch that ends just before `next_offset` was handed out."""
        self._partitions.setdefault(tp, _Partition()).delivered.append(next_offset)

    def finished(self, tp: Hashable, next_offset: int) -> None:
        """That batch's effect is stored and published. Ignored when the partition was cleared meanwhile."""
        part = self._partitions.get(tp)
        if part is None or next_offset not in part.delivered:
            return
        part.finished.add(next_offset)
        while part.delivered and part.delivered[0] in part.finished:
            part.committable = part.delivered.popleft()
            part.finished.discard(part.committable)

    def committable(self, tp: Hashable) -> int | None:
        """The offset to commit (that of the next event), or None when nothing has finished."""
        part = self._partitions.get(tp)
        return part.committable if part else None

    def clear(self, tps: Iterable[Hashable]) -> None:
        """Forgets partitions that were revoked or assigned anew."""
        for tp in tps:
            self._partitions.pop(tp, None)

    def known(self) -> list[Hashable]:
        return list(self._partitions)
