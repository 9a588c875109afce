"""One DICOM instance, as a C-STORE brings it, to a `scans` record. Pure; pictures are decoded later, in a sandbox.

Time, the first that is there: Acquisition DateTime, Acquisition Date + Time, Content Date + Time, Series Date + Time,
Study Date + Time. Without an offset of its own the Timezone Offset From UTC counts, then the configured zone. A date
without a time of day is none. Patient: `patients.py`, of Patient ID and Issuer of Patient ID, else the Universal Entity
ID of its qualifiers. Only these elements are read, cut out by `elements.py`.
Source: DICOM PS3.3 (Patient, General Study, Series, Image modules), PS3.5 section 6.2, PS3.10 section 7.
"""

import hashlib
import io
from dataclasses import dataclass

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import _read_file_meta_info, read_preamble

from streaming.blobs import BlobStore
from streaming.envelope import headers_for
from streaming.errors import InvalidMessage
from streaming.gateways import elements
from streaming.gateways.drafts import Rules, check
from streaming.gateways.patients import Identifier, choose, patient_key
from streaming.gateways.times import instant
from streaming.records import OutRecord

SOURCE = "wardwatch/dicom"

_PAIRS = ("Acquisition", "Content", "Series", "Study")
_READ = [
    "PatientID", "IssuerOfPatientID", "AdmissionID", "SOPInstanceUID", "AcquisitionDateTime", "TimezoneOffsetFromUTC",
    *(f"{name}{part}" for name in _PAIRS for part in ("Date", "Time")),
]  # fmt: skip
_QUALIFIERS = "IssuerOfPatientIDQualifiersSequence"
_WANTED = frozenset(
    tag for name in (*_READ, _QUALIFIERS, "SpecificCharacterSet") if (tag := tag_for_keyword(name)) is not None
)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a C-STORE request carries: Part 10 bytes (made of its data set), the data set itself, its instance UID."""

    part10: bytes
    dataset: bytes | memoryview
    instance_uid: str


def scan_record(stored: Stored, rules: Rules, blobs: BlobStore, received_ms: int) -> OutRecord:
    """The record; over the inline limit the bytes are in the blob store, and the record carries the claim check.

    Its id is the SOP Instance UID and a hash of the data set, so an instance that is sent again is the same event.

    Raises:
        InvalidMessage: bad-dicom, decode-limit, missing-patient, bad-time, future-time or bad-attribute.
        Unavailable: the blob store is away.
    """
    header = _read(stored.part10)
    if _text(header, "SOPInstanceUID") != stored.instance_uid:
        raise InvalidMessage("bad-dicom", "the request and the data set name different SOP instances")
    patient = patient_key(choose([_identifier(header)], rules.own_issuer), rules.own_issuer)
    time_ms = event_time(header, rules)
    dataref = sha256 = None
    inline = len(stored.part10) <= rules.limits.inline_bytes
    if not inline:
        dataref, sha256 = blobs.put(stored.part10)
    headers = headers_for(
        "scans",
        id=f"{stored.instance_uid}/{hashlib.sha256(stored.dataset).hexdigest()[:32]}",
        source=SOURCE,
        patient=patient,
        time_ms=time_ms,
        recorded_ms=max(received_ms, time_ms),
        encounter=_text(header, "AdmissionID") or None,
        dataref=dataref,
        sha256=sha256,
    )
    record = OutRecord("scans", None, patient.encode(), stored.part10 if inline else b"", headers)
    check(record, received_ms, rules.limits)
    return record


def event_time(header: pydicom.Dataset, rules: Rules) -> int:
    """When the picture was true of the patient, in milliseconds since the epoch.

    Raises:
        InvalidMessage: bad-time.
    """
    offset = _text(header, "TimezoneOffsetFromUTC")
    stamp = _text(header, "AcquisitionDateTime")
    if len(stamp) >= len("YYYYMMDDHHMM"):
        has_own = "+" in stamp or "-" in stamp
        return instant(stamp if has_own else stamp + offset, rules.zone, "Acquisition DateTime")
    for name in _PAIRS:
        date, time = _text(header, f"{name}Date"), _text(header, f"{name}Time")
        if date and len(time) >= len("HHMM"):
            return instant(date + time + offset, rules.zone, f"{name} Date and Time")
    raise InvalidMessage("bad-time", "no acquisition, content, series or study date with a time")


def _read(part10: bytes) -> pydicom.Dataset:
    try:
        stream = io.BytesIO(part10)
        read_preamble(stream, force=False)
        meta = _read_file_meta_info(stream)  # leaves the stream where the data set begins
        start = stream.tell()
        cut = elements.cut(part10, start, meta.TransferSyntaxUID.is_little_endian, _WANTED)
        header = pydicom.dcmread(io.BytesIO(part10[:start] + cut))
        for name in _READ:
            _text(header, name)
        _identifier(header)
    except InvalidMessage:
        raise
    except Exception as error:  # pydicom raises many kinds on bad bytes; none may end the association
        raise InvalidMessage("bad-dicom", f"the data set is not readable ({type(error).__name__})") from None
    return header


def _identifier(header: pydicom.Dataset) -> Identifier:
    issuer = _text(header, "IssuerOfPatientID")
    qualifiers = (header.get(_QUALIFIERS) or [pydicom.Dataset()])[0]
    return Identifier(
        _text(header, "PatientID"),
        issuer or _text(qualifiers, "UniversalEntityID"),
        _text(qualifiers, "IdentifierTypeCode"),
    )


def _text(header: pydicom.Dataset, name: str) -> str:
    value = header.get(name)
    if isinstance(value, pydicom.multival.MultiValue):
        raise ValueError(f"{name} has several values")
    text = "" if value is None else str(value).strip()
    if "\ufffd" in text:  # pydicom's for bytes that the character set has not: two patients could share it
        raise InvalidMessage("bad-dicom", f"{name} is not in the character set that the data set names")
    return text
