"""ORU^R01, unsolicited results, to vitals and retractions. Pure.

Taken: OBX of type NM (or SN with a bare number) whose OBX-3 is a LOINC code of the signal table. OBX-11 F is final, C
corrected, P and R preliminary; W and D retract what was sent for that code and time. Time: OBX-14, else OBR-7. Unit:
`units.py`. What is not of the signal table is skipped and counted; what is, but cannot be taken, is refused by itself.
Source: HL7 v2.8.2 chapter 7; table 0085 (OBX-11).
"""

import re
from collections import defaultdict

from models.signals import by_loinc
from streaming.clock import from_ms
from streaming.errors import InvalidMessage
from streaming.gateways import acknowledgments as ack
from streaming.gateways.er7 import Message, Segment
from streaming.gateways.translation import Draft
from streaming.gateways.units import to_ucum

STATUSES = {"F": "final", "C": "corrected", "P": "preliminary", "R": "preliminary"}
WITHDRAWN = frozenset({"W", "D"})
MOST_OBSERVATIONS = 500
"""Of one vitals event (messages.Vitals)."""

Observed = dict[str, list[tuple[int, dict[str, object]]]]
"""By status: (time in ms, observation) in the order of the message."""

_BLAMED = {"unknown-unit": 6, "bad-time": 14, "future-time": 14}
"""Field of OBX by the reason of its refusal; else OBX-5."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)


def translate(message: Message, draft: Draft) -> None:
    """Raises `InvalidMessage` when nothing can be told of whom or what it speaks."""
    observed: Observed = defaultdict(list)
    order_time, sequence = "", 0

    def flush() -> None:
        for status, items in observed.items():
            for start in range(0, len(items), MOST_OBSERVATIONS):
                part = items[start : start + MOST_OBSERVATIONS]
                body = {"observations": [one for _, one in part], "status": status}
                draft.add("vitals", body, max(at_ms for at_ms, _ in part))
        observed.clear()

    for segment in message.segments:
        match segment.name:
            case "PID":
                flush()
                draft.identify(segment)
                order_time, sequence = "", 0
            case "PV1":
                flush()
                draft.visit(segment)
            case "OBR":
                order_time = segment.component(7)
            case "OBX":
                sequence += 1
                if draft.found.patient is None:
                    raise InvalidMessage("missing-patient", "there is no PID segment before the first OBX")
                _take(segment, sequence, order_time, draft, observed)
    flush()
    if not sequence:
        raise InvalidMessage("bad-hl7", "an ORU^R01 without OBX says nothing")


def _take(obx: Segment, sequence: int, order_time: str, draft: Draft, observed: Observed) -> None:
    code, status = _loinc(obx), obx.component(11)
    if code is None or code not in by_loinc:
        draft.found.skipped["code"] += 1
        return
    try:
        if status in WITHDRAWN:
            at_ms = _time(obx, order_time, draft)
            draft.add("corrections", {"kind": "observation-retracted", "code": code, "time": from_ms(at_ms)}, at_ms)
            return
        if not status:
            raise InvalidMessage("bad-hl7", "OBX-11, the result status, is empty")
        value = _value(obx)
        if status not in STATUSES or value is None:
            draft.found.skipped["status" if status not in STATUSES else "not-a-number"] += 1
            return
        unit = to_ucum((*obx.repetitions(6), [""])[0], code)
        if not unit:
            raise InvalidMessage("unknown-unit", "OBX-6 is empty, or no unit of the table")
        at_ms = _time(obx, order_time, draft)
        observation: dict[str, object] = {"code": code, "value": value, "unit": unit, "time": from_ms(at_ms)}
        draft.check("vitals", {"observations": [observation]}, at_ms)
    except InvalidMessage as error:
        number = ack.TABLE_VALUE if error.reason == "unknown-unit" else ack.DATA_TYPE
        draft.refuse(error, ("OBX", sequence, _BLAMED.get(error.reason, 5)), number)
        return
    observed[STATUSES[status]].append((at_ms, observation))


def _loinc(obx: Segment) -> str | None:
    """OBX-3's LOINC code: the identifier's or the alternate's, whichever its coding system says is LOINC."""
    parts = [part.strip() for part in (*(*obx.repetitions(3), [])[0], *[""] * 6)[:6]]
    for code, system in ((parts[0], parts[2]), (parts[3], parts[5])):
        if system in ("LN", "LOINC") and code:
            return code
    return None


def _value(obx: Segment) -> float | None:
    """The number of OBX-5, None when it holds no single number.

    Raises:
        InvalidMessage: an NM that is not one.
    """
    kind, repetitions = obx.component(2), obx.repetitions(5)
    if kind not in ("NM", "SN") or not any(part.strip() for parts in repetitions for part in parts):
        return None
    if len(repetitions) > 1:
        raise InvalidMessage("bad-hl7", "OBX-5 holds several values")
    parts = [part.strip() for part in (*repetitions[0], "", "", "")]
    if kind == "SN":
        # A comparator, a ratio or a range (SN.1, SN.3, SN.4) is no measurement to compute with.
        if parts[0] not in ("", "=") or parts[2] or parts[3]:
            return None
        parts = parts[1:]
    if not _NUMBER.fullmatch(parts[0]) or len(parts[0]) > 30:
        raise InvalidMessage("bad-hl7", "OBX-5 is not a number")
    return float(parts[0])


def _time(obx: Segment, order_time: str, draft: Draft) -> int:
    return draft.time(obx.component(14) or order_time, "OBX-14 (else OBR-7)")
