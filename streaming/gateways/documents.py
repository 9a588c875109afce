"""MDM, documents: T02 a new one to `notes`, T08 an edit and T11 a cancellation to `corrections`. Pure.

The note's id is TXA-12, the unique document number, with its authority; its time TXA-4 (activity), else TXA-6
(origination), else TXA-7 (transcription); its category TXA-2; its text the OBX of type TX, FT and ST, a line each.
Source: HL7 v2.8.2 chapter 9.
"""

from streaming.errors import InvalidMessage
from streaming.gateways.er7 import Message, Segment
from streaming.gateways.translation import Draft

TEXT_TYPES = frozenset({"TX", "FT", "ST"})


def created(message: Message, draft: Draft) -> None:
    """T02, original document with content."""
    txa = _begin(message, draft)
    draft.add("notes", _note(message, txa), _time(txa, draft))


def edited(message: Message, draft: Draft) -> None:
    """T08, the document was edited before it was available; its content replaces the former."""
    txa = _begin(message, draft)
    draft.add("corrections", {"kind": "note-amended", **_note(message, txa)}, _time(txa, draft))


def cancelled(message: Message, draft: Draft) -> None:
    """T11, the document was assigned to the wrong patient or should never have been."""
    txa = _begin(message, draft)
    try:
        time_ms = _time(txa, draft)
    except InvalidMessage:
        time_ms = draft.recorded_ms  # a cancellation counts whenever the document was written
    draft.add("corrections", {"kind": "note-retracted", "note_id": _note_id(txa)}, time_ms)


def _begin(message: Message, draft: Draft) -> Segment:
    """Reads whom the message speaks of; gives its only TXA."""
    headers = []
    for segment in message.segments:
        match segment.name:
            case "PID":
                if draft.found.patient is not None:
                    raise InvalidMessage("bad-hl7", "an MDM with several PID segments")
                draft.identify(segment)
            case "PV1":
                draft.visit(segment)
            case "TXA":
                headers.append(segment)
    if len(headers) != 1:
        raise InvalidMessage("bad-hl7", "an MDM needs exactly one TXA segment")
    return headers[0]


def _note(message: Message, txa: Segment) -> dict[str, object]:
    lines = [
        "^".join(parts) if len(parts) > 1 else parts[0]
        for segment in message.segments
        if segment.name == "OBX" and segment.component(2) in TEXT_TYPES
        for parts in segment.repetitions(5)
    ]
    text = "\n".join(lines).strip()
    if not text:
        raise InvalidMessage("bad-hl7", "the document has no text (OBX of type TX, FT or ST)")
    return {"note_id": _note_id(txa), "text": text, "category": txa.component(2)[:100]}


def _note_id(txa: Segment) -> str:
    parts = [part.strip() for part in (*txa.repetitions(12), [])[0]]
    if not parts or not parts[0]:
        raise InvalidMessage("bad-hl7", "TXA-12, the unique document number, is empty")
    return "^".join(parts).rstrip("^")


def _time(txa: Segment, draft: Draft) -> int:
    stamp = next((found for found in (txa.component(number) for number in (4, 6, 7)) if found), "")
    return draft.time(stamp, "TXA-4 (else TXA-6, TXA-7)")
