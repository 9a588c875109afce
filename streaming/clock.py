"""Clocks that are passed in, and times as text. Owns what "now" means for a patient; leaves latency measuring to the
wall clock.

All times inside are whole milliseconds since the Unix epoch, UTC.
"""

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, Protocol

from streaming.errors import InvalidMessage

ClockMode = Literal["wall", "events"]

MINUTE_MS = 60_000
HOUR_MS = 3_600_000

EARLIEST_MS, LATEST_MS = -62_135_596_800_000, 253_402_300_799_999
"""Of the years 1 to 9999 in UTC: no other time can be written."""


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


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime, exact (no float on the way)."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_ms(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds; raises `ValueError` for a time that cannot be written."""
    seconds, rest = divmod(ms, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=4096)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def parse_time(text: str, attribute: str) -> int:
    """Milliseconds since the epoch.

    Raises:
        InvalidMessage: bad-attribute.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidMessage("bad-attribute", f"{attribute} is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise InvalidMessage("bad-attribute", f"{attribute} has no offset from UTC")
    return writable(to_ms(moment), attribute)


def writable(ms: int, attribute: str, reason: str = "bad-attribute") -> int:
    """The time, when `from_ms` can write it: an offset from UTC, or a broker, may say others.

    Raises:
        InvalidMessage: with the reason.
    """
    if not EARLIEST_MS <= ms <= LATEST_MS:
        raise InvalidMessage(reason, f"{attribute} lies outside the years 1 to 9999 in UTC")
    return ms
