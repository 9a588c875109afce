"""ORU^R01, unsolicited results, to vitals and retractions. Pure.

Taken: OBX of type NM (or SN with a bare number) whose OBX-3 is a LOINC code of the signal table. OBX-11 F is final, C
corrected, P and R preliminary; W and D retract what was sent for that code and time. Time: OBX-14, else OBR-7. Unit:
`units.py`. What is not of the signal table is skipped and counted; what is, but cannot be taken, is refused by itself.

A correction (C) to HL7's null or to words ("HEMOLYZED") retracts too, unless the message also has a number for that
code and time: then the words are a comment. A C that holds something else than a number (a comparator, a range,
nothing) is refused, for the wrong value still stands. X (cannot be obtained) is skipped: it takes nothing back, and a
retraction, which only a later correction outdoes, would keep out the final result that may follow for the same time.
Source: HL7 v2.8.2 chapter 7; table 0085 (OBX-11).
"""

import re
from collections import defaultdict
from dataclasses import dataclass

from models.signals import by_loinc
from streaming.clock import from_ms
from streaming.errors import InvalidMessage
from streaming.gateways import acknowledgments as ack
from streaming.gateways.er7 import Message, Segment
from streaming.gateways.translation import Draft
from streaming.gateways.units import to_ucum

STATUSES = {"F": "final", "C": "corrected", "P": "preliminary", "R": "preliminary"}
WITHDRAWN = frozenset({"W", "D"})
CODED_TYPES = frozenset({"CE", "CWE", "CNE"})
WORD_TYPES = frozenset({"ST", "TX", "FT", "IS", "NM"})
"""NM too: some senders write words where they announce a number."""
MOST_OBSERVATIONS = 500
"""Of one vitals event (messages.Vitals)."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was read and not added yet, in the order of the message; times in ms."""

    numbers: dict[str, list[tuple[int, dict[str, object]]]]
    """By status: (time, observation)."""
    withdrawn: list[tuple[int, str]]
    """(time, code) of corrections to no number."""
    numbered: set[tuple[int, str]]
    """(time, code) of what came as a number, taken or not: words beside it are a comment."""


_BLAMED = {"unknown-unit": 6, "bad-time": 14, "future-time": 14}
"""Field of OBX by the reason of its refusal; else OBX-5."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_BEGINS_WITH_A_NUMBER = re.compile(r"\W*\d")
"""After a sign or a comparator: text of this kind is a value that is not understood, no words."""


def translate(message: Message, draft: Draft) -> None:
    """Raises `InvalidMessage` when nothing can be told of whom or what it speaks."""
    observed = Observed(defaultdict(list), [], set())
    order_time, sequence = "", 0

    def flush() -> None:
        for status, items in observed.numbers.items():
            for start in range(0, len(items), MOST_OBSERVATIONS):
                part = items[start : start + MOST_OBSERVATIONS]
                body = {"observations": [one for _, one in part], "status": status}
                draft.add("vitals", body, max(at_ms for at_ms, _ in part))
        for at_ms, code in observed.withdrawn:
            if (at_ms, code) in observed.numbered:
                draft.found.skipped["not-a-number"] += 1
            else:
                draft.add("corrections", _retraction(code, at_ms), at_ms)
        observed.numbers.clear()
        observed.withdrawn.clear()
        observed.numbered.clear()

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
            draft.add("corrections", _retraction(code, at_ms), at_ms)
            return
        if not status:
            raise InvalidMessage("bad-hl7", "OBX-11, the result status, is empty")
        if status == "C" and (obx.is_null(5) or _is_words(obx)):
            at_ms = _time(obx, order_time, draft)
            draft.check("corrections", _retraction(code, at_ms), at_ms)
            observed.withdrawn.append((at_ms, code))
            return
        value = _value(obx)
        if status == "C" and value is None:
            raise InvalidMessage("bad-hl7", "OBX-5 of a correction is neither a single number nor words nor null")
        if status not in STATUSES or value is None:
            draft.found.skipped["status" if status not in STATUSES else "not-a-number"] += 1
            return
        at_ms = _time(obx, order_time, draft)
        observed.numbered.add((at_ms, code))
        unit = to_ucum((*obx.repetitions(6), [""])[0], code)
        if not unit:
            raise InvalidMessage("unknown-unit", "OBX-6 is empty, or no unit of the table")
        observation: dict[str, object] = {"code": code, "value": value, "unit": unit, "time": from_ms(at_ms)}
        draft.check("vitals", {"observations": [observation]}, at_ms)
    except InvalidMessage as error:
        number = ack.TABLE_VALUE if error.reason == "unknown-unit" else ack.DATA_TYPE
        draft.refuse(error, ("OBX", sequence, _BLAMED.get(error.reason, 5)), number)
        return
    observed.numbers[STATUSES[status]].append((at_ms, observation))


def _retraction(code: str, at_ms: int) -> dict[str, object]:
    return {"kind": "observation-retracted", "code": code, "time": from_ms(at_ms)}


def _loinc(obx: Segment) -> str | None:
    """OBX-3's LOINC code: the identifier's or the alternate's, whichever its coding system says is LOINC."""
    parts = [part.strip() for part in (*(*obx.repetitions(3), [])[0], *[""] * 6)[:6]]
    for code, system in ((parts[0], parts[2]), (parts[3], parts[5])):
        if system in ("LN", "LOINC") and code:
            return code
    return None


def _is_words(obx: Segment) -> bool:
    """Whether OBX-5 tells by words or a code that there is no number."""
    kind, text = obx.component(2), " ".join(part for parts in obx.repetitions(5) for part in parts).strip()
    if kind in CODED_TYPES:
        return bool(text)
    return kind in WORD_TYPES and bool(text) and not _BEGINS_WITH_A_NUMBER.match(text)


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
