"""Times as DICOM (DT, DA + TM) and HL7 v2 (DTM) write them, to milliseconds since the epoch. Nothing is guessed.

Both write YYYYMMDDHHMM[SS[.FFFFFF]][+/-ZZZZ]. Without an offset that of the whole message or instance counts (MSH-7's,
Timezone Offset From UTC), then the configured time zone (WARDWATCH_TIMEZONE); a time that this zone has twice or never
(the hours in which clocks change), one less exact than a minute, or one without offset and zone is refused.
Sources: DICOM PS3.5 section 6.2 (DA, TM, DT); HL7 v2.8.2 chapter 2A (DTM) and section 2.14.9.7 (MSH-7).
"""

import re
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streaming.clock import to_ms, writable
from streaming.errors import ConfigError, InvalidMessage

_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?(?:([+-])(\d\d)(\d\d))?", re.ASCII)

_OFFSET = re.compile(r"\d{4,14}(?:\.\d{1,6})?([+-])(\d\d)(\d\d)", re.ASCII)


def zone_of(name: str) -> ZoneInfo | None:
    """The time zone of an IANA name, None for "".

    Raises:
        ConfigError: there is no such zone.
    """
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"{name!r} is no IANA time zone (like Europe/Berlin)") from None


def offset_of(stamp: str, what: str) -> timezone | None:
    """The offset from UTC that a time stamp names, however exact its time; None when it names none.

    Raises:
        InvalidMessage: bad-time, of an offset that no place has.
    """
    match = _OFFSET.fullmatch(stamp.strip())
    if match is None:
        return None
    try:
        return _fixed(*match.groups())
    except ValueError:
        raise InvalidMessage("bad-time", f"the offset of {what} is none") from None


def _fixed(sign: str, hours: str, minutes: str) -> timezone:
    return timezone(timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1))


def instant(stamp: str, zone: tzinfo | None, what: str) -> int:
    """Milliseconds since the epoch of a time stamp; `what` names the field in the error.

    Raises:
        InvalidMessage: bad-time.
    """
    match = _STAMP.fullmatch(stamp.strip())
    if match is None:
        raise InvalidMessage("bad-time", f"{what} is absent, no time, or less exact than a minute")
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = match.groups()
    try:
        local = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second or 0),
            int((fraction or "0").ljust(6, "0")),
        )  # fmt: skip
        if sign:
            return writable(to_ms(local.replace(tzinfo=_fixed(sign, off_hours, off_minutes))), what, "bad-time")
    except ValueError:
        raise InvalidMessage("bad-time", f"{what} is not in the calendar") from None
    if zone is None:
        raise InvalidMessage("bad-time", f"{what} has no offset from UTC, and WARDWATCH_TIMEZONE is not set")
    first, second_time = local.replace(tzinfo=zone, fold=0), local.replace(tzinfo=zone, fold=1)
    if first.utcoffset() != second_time.utcoffset():
        raise InvalidMessage(
            "bad-time", f"{what} is twice or never in the time zone: clocks change then; send an offset"
        )
    return writable(to_ms(first), what, "bad-time")
