"""Events made by hand, for tests."""

from typing import Any

import orjson

from streaming.envelope import Event, headers_for, parse

HOUR = 3_600_000
MINUTE = 60_000
NOON = 4_102_444_800_000 + 12 * HOUR
HEART_RATE, SPO2, SYSTOLIC = "8867-4", "59408-5", "8480-6"


def observation(code: str, value: float, unit: str, at_ms: int) -> dict[str, Any]:
    from streaming.envelope import from_ms

    return {"code": code, "value": value, "unit": unit, "time": from_ms(at_ms)}


def vitals(
    patient: str = "p1", at_ms: int = NOON, value: float = 80.0, code: str = HEART_RATE, unit: str = "/min", **more: Any
) -> Event:
    """One vitals event of one observation; `id`, `recorded_ms`, `offset`, `status` may be given."""
    body = {"observations": [observation(code, value, unit, at_ms)]}
    if "status" in more:
        body["status"] = more.pop("status")
    return event("vitals", body, patient, at_ms, **more)


def event(kind: str, body: Any, patient: str = "p1", at_ms: int = NOON, **more: Any) -> Event:
    """Any event, through the real parser."""
    offset = more.pop("offset", -1)
    headers = headers_for(
        kind,
        id=more.pop("id", f"{kind}-{at_ms}-{body!r:.80}"),
        source="test",
        patient=patient,
        time_ms=at_ms,
        recorded_ms=more.pop("recorded_ms", at_ms),
        encounter=more.pop("encounter", None),
    )
    assert not more, more
    return parse(kind, patient.encode(), orjson.dumps(body), headers, offset=offset, partition=0)
