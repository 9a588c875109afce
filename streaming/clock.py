"""Clocks that are passed in. Owns what "now" means for a patient; leaves latency measuring to the wall clock.

All times inside are whole milliseconds since the Unix epoch, UTC.
"""

import time
from typing import Literal, Protocol

ClockMode = Literal["wall", "events"]

MINUTE_MS = 60_000
HOUR_MS = 3_600_000


def wall_ms() -> int:
    """Milliseconds since the epoch by this machine's clock."""
    return time.time_ns() // 1_000_000


class Clock(Protocol):
    """Says at which time a patient is scored. Fixed: never earlier than the patient's newest recorded time."""

    mode: ClockMode

    def as_of(self, newest_recorded_ms: int) -> int:
        """The time at which ages are reckoned for a patient whose newest record was stored then."""
        ...


class WallClock:
    """Service: ages run on while nothing arrives."""

    mode: ClockMode = "wall"

    def as_of(self, newest_recorded_ms: int) -> int:
        return max(wall_ms(), newest_recorded_ms)


class EventsClock:
    """Replay: a patient's own newest recorded time.

    A patient's, not the partition's: MIMIC-III shifts each patient to other years (2100 to 2200), so one
    patient's present is another's next century, and a clock shared by a partition would call all but one late.
    """

    mode: ClockMode = "events"

    def as_of(self, newest_recorded_ms: int) -> int:
        return newest_recorded_ms


def make_clock(mode: ClockMode) -> Clock:
    return WallClock() if mode == "wall" else EventsClock()
