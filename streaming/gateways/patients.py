"""Which Kafka key a patient has: one rule for DICOM's Patient ID and HL7's PID-3, so that both meet in one state.

An identifier is unique only within the authority that issued it. The key is the bare identifier where no authority is
named or it is the site's own (WARDWATCH_PATIENT_ISSUER); otherwise `identifier@authority`, with `%` and `@` inside
either part written as %25 and %40. An account or visit number names a stay and is never a patient's key, not even where
it is the only identifier: it would split one patient's history by stay, and meet another's record number in one key.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from streaming.errors import InvalidMessage

MEDICAL_RECORD_TYPES = ("MR", "PI")
"""HL7 table 0203: medical record number, patient internal identifier."""
STAY_TYPES = ("AN", "ANC", "AND", "ANT", "VN")
"""HL7 table 0203: account numbers (any, creditor's, debitor's, temporary), visit number."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """One patient identifier: its text, who issued it, its HL7 0203 type ("" when not told)."""

    text: str
    issuer: str = ""
    type: str = ""


def patient_key(identifier: Identifier, own_issuer: str) -> str:
    """The Kafka key.

    Raises:
        InvalidMessage: missing-patient, when the identifier is empty.
    """
    text, issuer = identifier.text.strip(), identifier.issuer.strip()
    if not text:
        raise InvalidMessage("missing-patient", "the patient identifier is absent or empty")
    if not issuer or issuer == own_issuer:
        return _escaped(text)
    return f"{_escaped(text)}@{_escaped(issuer)}"


def choose(identifiers: Sequence[Identifier], own_issuer: str) -> Identifier:
    """The identifier by which the site knows the patient, `STAY_TYPES` left out: the own authority's, else the only
    medical record number, else the only one there is.

    Raises:
        InvalidMessage: missing-patient, when there is none or several would do.
    """
    filled = [one for one in identifiers if one.text.strip() and one.type not in STAY_TYPES]
    own = [one for one in filled if own_issuer and one.issuer.strip() == own_issuer]
    records = [one for one in filled if one.type in MEDICAL_RECORD_TYPES]
    for some in ([one for one in own if one.type in MEDICAL_RECORD_TYPES], own, records, filled):
        if len({(one.text.strip(), one.issuer.strip()) for one in some}) == 1:
            return some[0]
        if some:
            raise InvalidMessage(
                "missing-patient", "several patient identifiers would do; set WARDWATCH_PATIENT_ISSUER"
            )
    raise InvalidMessage("missing-patient", "no patient identifier (account and visit numbers are none)")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("@", "%40")
