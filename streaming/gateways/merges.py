"""ADT^A40, patients merged: each PID with its MRG becomes a `corrections` event of the patient that goes out of use. Pure.

MRG-1 is the identifier that goes, PID-3 the one that stays. Time: EVN-6 (occurred), else EVN-2 (recorded), else MSH-7.
HL7 v2 has no undo of an A40: the undo is sent to `corrections` itself (`patient-unmerged`).
Source: HL7 v2.8.2 chapter 3, sections 3.3.40 and 3.4.9.
"""

from streaming.errors import InvalidMessage
from streaming.gateways.er7 import Message
from streaming.gateways.translation import Draft


def merged(message: Message, draft: Draft) -> None:
    """Raises `InvalidMessage` when it does not name both patients."""
    time_ms = draft.recorded_ms
    for segment in message.segments:
        match segment.name:
            case "EVN":
                stamp = segment.component(6) or segment.component(2)
                time_ms = draft.time(stamp, "EVN-6 (else EVN-2)") if stamp else time_ms
            case "PID":
                draft.identify(segment)
            case "MRG":
                into = draft.found.patient
                if into is None:
                    raise InvalidMessage("missing-patient", "there is no PID segment before the MRG")
                draft.identify(segment, 1)
                draft.add("corrections", {"kind": "patient-merged", "into": into}, time_ms)
                draft.found.patient = into
    if not draft.found.records:
        raise InvalidMessage("bad-hl7", "an A40 without an MRG segment merges nobody")
