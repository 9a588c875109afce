"""What real feeds do, on purpose and with a seed: late, duplicated and shuffled events, whole modalities missing. Pure."""

import heapq
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from streaming.clock import HOUR_MS, MINUTE_MS
from streaming.mimic import Outgoing

LATE_UP_TO_MS = 6 * HOUR_MS
SHUFFLE_WITHIN_MS = 10 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities per event; `drop` by kind of event."""

    late: float = 0.0
    duplicate: float = 0.0
    shuffle: float = 0.0
    drop: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    @property
    def any(self) -> bool:
        return bool(self.late or self.duplicate or self.shuffle or any(self.drop.values()))


def inject(events: Iterable[Outgoing], faults: Faults) -> Iterator[tuple[Outgoing, str]]:
    """The events as a faulty feed brings them, each with its fault's name ("" for none), in the new order.

    A late event is recorded up to six hours after it was true; a shuffled one is sent up to ten minutes later than its
    place; a duplicate keeps its id. Order by `virtual_ms` is kept; the input must come in that order.
    """
    if not faults.any:
        yield from ((event, "") for event in events)
        return
    rng = random.Random(faults.seed)
    waiting: list[tuple[int, int, Outgoing, str]] = []
    number = 0

    def hold(event: Outgoing, fault: str) -> None:
        nonlocal number
        number += 1
        heapq.heappush(waiting, (event.virtual_ms, number, event, fault))

    for event in events:
        while waiting and waiting[0][0] < event.virtual_ms:
            _, _, due, fault = heapq.heappop(waiting)
            yield due, fault
        if rng.random() < faults.drop.get(event.kind, 0.0):
            continue
        if rng.random() < faults.late:
            delay = rng.randrange(MINUTE_MS, LATE_UP_TO_MS)
            hold(replace(event, recorded_ms=event.recorded_ms + delay, virtual_ms=event.virtual_ms + delay), "late")
        elif rng.random() < faults.shuffle:
            hold(replace(event, virtual_ms=event.virtual_ms + rng.randrange(SHUFFLE_WITHIN_MS)), "shuffle")
        else:
            hold(event, "")
        if rng.random() < faults.duplicate:
            hold(replace(event, virtual_ms=event.virtual_ms + rng.randrange(HOUR_MS)), "duplicate")
    while waiting:
        _, _, due, fault = heapq.heappop(waiting)
        yield due, fault
