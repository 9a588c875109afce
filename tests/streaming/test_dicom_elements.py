"""Elements cut out of a data set: the same that pydicom reads, under bounds."""

import io
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from streaming.errors import InvalidMessage
from streaming.gateways.elements import MOST_NESTING, MOST_STEPS, MOST_VALUE_BYTES, cut
from streaming.synthetic import radiograph

PACKAGED = Path(pydicom.__file__).parent / "data/test_files"
PATIENT_ID, INSTANCE_UID, ADMISSION = 0x00100020, 0x00080018, 0x00380010
WANTED = {PATIENT_ID, INSTANCE_UID, ADMISSION}

SEQUENCE = b"\x04\x00\x01\x00SQ\0\0\xff\xff\xff\xff"
ITEM, OPEN_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
ITEM_END, SEQUENCE_END = b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
PATIENT = b"\x10\x00\x20\x00LO\x04\x00123 "


def _reason(data):
    with pytest.raises(InvalidMessage) as caught:
        cut(data, 0, True, WANTED)
    return caught.value.reason


def _begin(data):
    """The file's offset of its data set, and its transfer syntax."""
    stream = io.BytesIO(data)
    pydicom.filereader.read_preamble(stream, force=False)
    meta = pydicom.filereader._read_file_meta_info(stream)
    return stream.tell(), meta.TransferSyntaxUID


def _read(data):
    """The wanted elements as pydicom reads them from what was cut."""
    start, syntax = _begin(data)
    return pydicom.dcmread(io.BytesIO(data[:start] + cut(data, start, syntax.is_little_endian, WANTED)))


@pytest.mark.filterwarnings("ignore")
def test_of_every_packaged_file_the_same_is_read_as_by_pydicom():
    compared = 0
    for path in sorted(PACKAGED.rglob("*.dcm")):
        data = path.read_bytes()
        try:
            whole = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
            if _begin(data)[1] == DeflatedExplicitVRLittleEndian:  # not negotiated
                continue
        except Exception:  # the packaged bad ones
            continue
        found = _read(data)
        for tag in WANTED:
            assert found.get(tag) == whole.get(tag), path
        compared += 1
    assert compared > 60


def _with_long_header(frames):
    """An enhanced instance: groups of each frame, references in one another, a private blob."""
    dataset = pydicom.dcmread(io.BytesIO(radiograph(1, False)))
    dataset.PatientID, dataset.AdmissionID = "123", "V7"

    def items(number, **tags):
        made = [Dataset() for _ in range(number)]
        for item in made:
            for name, value in tags.items():
                setattr(item, name, value)
        return made

    references = items(200, ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.2.3")
    dataset.ReferencedSeriesSequence = items(3, SeriesInstanceUID="1.2", ReferencedInstanceSequence=references)
    dataset.PerFrameFunctionalGroupsSequence = items(
        frames, PixelValueTransformationSequence=items(1, RescaleIntercept="-1024", RescaleSlope="1")
    )
    dataset.private_block(0x0009, "MAKER", create=True).add_new(1, "OB", b"\x01" * 3_000_000)
    return dataset


def _unbounded(dataset):
    """With every sequence and item of undefined length."""
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                _unbounded(item)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("unbounded", [False, True])
def test_long_headers_of_real_objects_pass(syntax, unbounded):
    dataset, sink = _with_long_header(300), io.BytesIO()
    if unbounded:
        _unbounded(dataset)
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        sink,
        dataset,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    found = _read(sink.getvalue())
    assert (found.PatientID, found.AdmissionID, found.SOPInstanceUID) == ("123", "V7", dataset.SOPInstanceUID)


def test_an_unknown_element_of_undefined_length_holds_implicit_items():
    unknown = b"\x09\x00\x01\x10UN\0\0\xff\xff\xff\xff" + OPEN_ITEM + b"\x09\x00\x02\x10\x02\0\0\0AA"
    assert cut(unknown + ITEM_END + SEQUENCE_END + PATIENT, 0, True, WANTED) == PATIENT


def test_sequences_without_end_or_bottom_are_refused():
    assert cut(SEQUENCE + ITEM * 1000 + SEQUENCE_END + PATIENT, 0, True, WANTED) == PATIENT
    assert _reason(SEQUENCE + ITEM * MOST_STEPS + SEQUENCE_END + PATIENT) == "decode-limit"
    empty = b"\x08\x00\x05\x00CS\0\0"
    assert _reason(SEQUENCE + OPEN_ITEM + empty * MOST_STEPS + ITEM_END + SEQUENCE_END) == "decode-limit"
    assert _reason(empty * (MOST_STEPS + 1)) == "decode-limit"
    nested = (SEQUENCE + OPEN_ITEM) * MOST_NESTING + (ITEM_END + SEQUENCE_END) * MOST_NESTING
    assert cut(nested + PATIENT, 0, True, WANTED) == PATIENT
    assert _reason((SEQUENCE + OPEN_ITEM) * (MOST_NESTING + 1)) == "decode-limit"


@pytest.mark.parametrize(
    "data",
    [
        PATIENT + PATIENT,
        PATIENT[:-1],
        PATIENT[:5],
        SEQUENCE + ITEM,
        SEQUENCE + PATIENT + SEQUENCE_END,
        SEQUENCE + ITEM + PATIENT + SEQUENCE_END,
        SEQUENCE + OPEN_ITEM + ITEM_END + PATIENT + SEQUENCE_END,
    ],
)
def test_what_is_no_data_set_or_names_two_patients_is_refused(data):
    assert _reason(data) == "bad-dicom"


def test_a_value_of_no_identifiers_size_is_refused():
    assert _reason(b"\x10\x00\x20\x00LO" + b"\x00\x20" + b"1" * 8192) == "decode-limit"
    assert MOST_VALUE_BYTES < 8192


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [SEQUENCE, ITEM, OPEN_ITEM, ITEM_END, SEQUENCE_END, PATIENT, b"\x08\x00\x05\x00CS\0\0", b"\xff"]
        ),
        max_size=20,
    ).map(b"".join)
    | st.binary(max_size=200),
    st.booleans(),
)
def test_whatever_comes_is_cut_or_refused(data, little_endian):
    try:
        found = cut(data, 0, little_endian, WANTED)
    except InvalidMessage as error:
        assert error.reason in ("bad-dicom", "decode-limit")
    else:
        assert len(found) <= len(data)
