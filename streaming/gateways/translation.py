"""One HL7 v2 message to records: checks the header, finds who does the type, gives ids. Pure.

    ORU^R01           results.py     OBX of the signal table to `vitals`, wrong or deleted ones to `corrections`
    MDM^T02 T08 T11   documents.py   new, edited, cancelled document to `notes` and `corrections`
    ADT^A40           merges.py      merged patients to `corrections`

An id is the control id, a hash of the message's bytes and a number: the same message sent again gives the same events.
Times without an offset of their own are in that of MSH-7, the message's default (HL7 v2.8.2 section 2.14.9.7), else in
the configured zone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from streaming.errors import InvalidMessage
from streaming.gateways import acknowledgments as ack
from streaming.gateways.drafts import Rules, Translation, event
from streaming.gateways.er7 import Message, Segment
from streaming.gateways.patients import Identifier, choose, patient_key
from streaming.gateways.times import instant, offset_of
from streaming.records import OutRecord

SOURCE = "wardwatch/hl7"
MOST_IDENTIFIERS = 100
"""Of one patient: PID-3 or MRG-1."""


class Rejected(Exception):
    """The message's type, version or processing id is none that is taken here: AR, and no dead letter."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.text = text


@dataclass(slots=True)
class Draft:
    """Where the translator of one type puts its records. Owns ids and times of the message."""

    rules: Rules
    received_ms: int
    recorded_ms: int
    id_stem: str
    zone: tzinfo | None
    found: Translation
    encounter: str | None = None

    def add(self, kind: str, body: dict[str, object], time_ms: int) -> None:
        """One event of the current patient.

        Raises:
            InvalidMessage: a worker would refuse it, or no PID came before.
        """
        self.found.records.append(self._event(kind, body, time_ms))

    def check(self, kind: str, body: dict[str, object], time_ms: int) -> None:
        """Raises as `add` would, and adds nothing."""
        self._event(kind, body, time_ms)

    def _event(self, kind: str, body: dict[str, object], time_ms: int) -> OutRecord:
        if self.found.patient is None:
            raise InvalidMessage("missing-patient", "there is no PID segment before the content")
        return event(
            kind,
            body,
            id=f"{self.id_stem}/{len(self.found.records)}",
            source=SOURCE,
            patient=self.found.patient,
            time_ms=time_ms,
            recorded_ms=self.recorded_ms,
            received_ms=self.received_ms,
            encounter=self.encounter,
            limits=self.rules.limits,
        )

    def refuse(self, error: InvalidMessage, place: tuple[str, int, int], number: int) -> None:
        """A part of the message is refused; the others still count."""
        self.found.refusals.append(error)
        self.found.problems.append(ack.Problem(number, str(error), place))

    def time(self, stamp: str, what: str) -> int:
        return instant(stamp, self.zone, what)

    def identify(self, segment: Segment, field: int = 3) -> None:
        """The patient that the segments after this PID (or this MRG, field 1) speak of."""
        if segment.raw(field).count(segment.delimiters.repetition) >= MOST_IDENTIFIERS:
            raise InvalidMessage("bad-hl7", f"more than {MOST_IDENTIFIERS} identifiers of one patient")
        identifiers = [
            Identifier(parts[0], _authority(assigner), parts[4].strip() if len(parts) > 4 else "")
            for parts, assigner in zip(segment.repetitions(field), segment.subcomponents(field, 4), strict=True)
        ]
        self.found.patient = patient_key(choose(identifiers, self.rules.own_issuer), self.rules.own_issuer)
        self.encounter = None

    def visit(self, pv1: Segment) -> None:
        self.encounter = pv1.component(19) or None


def translate(message: Message, data: bytes, rules: Rules, received_ms: int) -> Translation:
    """The records of a parsed message; `data` are its bytes.

    Raises:
        Rejected: no type, version or processing id of ours.
        InvalidMessage: the message as a whole is refused.
    """
    from streaming.gateways import documents, merges, results

    translators = {
        ("ORU", "R01"): results.translate,
        ("MDM", "T02"): documents.created,
        ("MDM", "T08"): documents.edited,
        ("MDM", "T11"): documents.cancelled,
        ("ADT", "A40"): merges.merged,
    }
    header = message.header
    kind, trigger = header.component(9, 1), header.component(9, 2)
    if not header.component(12).startswith("2"):
        raise Rejected(ack.UNSUPPORTED_VERSION, "MSH-12 is no HL7 version 2")
    if header.component(11) != rules.processing_id:
        raise Rejected(
            ack.UNSUPPORTED_PROCESSING_ID, f"MSH-11 is not {rules.processing_id}: this is no place for tests"
        )
    if (kind, trigger) not in translators:
        known = kind in {name for name, _ in translators}
        number = ack.UNSUPPORTED_EVENT if known else ack.UNSUPPORTED_TYPE
        raise Rejected(number, f"taken here: {', '.join('^'.join(name) for name in translators)}")
    control = header.text(10).strip()
    if not control:
        raise InvalidMessage("bad-hl7", "MSH-10, the message control id, is empty")
    digest = hashlib.blake2b(data, digest_size=12).hexdigest()
    zone = offset_of(header.component(7), "MSH-7") or rules.zone
    try:
        recorded_ms = instant(header.component(7), zone, "MSH-7")
    except InvalidMessage:
        recorded_ms = received_ms  # the moment it came here is a true bound, and the best there is
    draft = Draft(rules, received_ms, recorded_ms, f"{_printable(control)}/{digest}", zone, Translation())
    translators[kind, trigger](message, draft)
    return draft.found


def _authority(assigner: Sequence[str]) -> str:
    """Of CX.4, the assigning authority: its namespace, else its universal id."""
    namespace, universal = (*assigner, "", "")[:2]
    return namespace.strip() or universal.strip()


def _printable(control: str) -> str:
    return "".join(c for c in control if c.isprintable())[:50]
