"""The DICOM door: an instance's bytes to a record; and real associations of pynetdicom's sender."""

import contextlib
import hashlib
import io
import socket
import struct
import threading
from zoneinfo import ZoneInfo

import pydicom
import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE
from pynetdicom.sop_class import ComputedRadiographyImageStorage, Verification

from streaming.blobs import FileBlobStore
from streaming.clock import from_ms
from streaming.dicom import decode
from streaming.envelope import Limits
from streaming.errors import InvalidMessage
from streaming.gateways import dicom, elements
from streaming.gateways.dicom import Bounds, DicomGateway
from streaming.gateways.drafts import Rules
from streaming.gateways.instances import Stored, event_time, scan_record
from streaming.metrics import Metrics
from streaming.synthetic import radiograph
from tests.streaming.broker import Broker

BERLIN = ZoneInfo("Europe/Berlin")
RULES = Rules(own_issuer="HOSP", zone=BERLIN)
NOW = 1_790_000_000_000


def instance(**tags):
    """A small CR with these tags."""
    dataset = pydicom.dcmread(io.BytesIO(radiograph(1, False)))
    for name, value in {"PatientID": "123", "AcquisitionDateTime": "20260102153000", **tags}.items():
        setattr(dataset, name, value)
    return dataset


def stored(dataset, instance_uid=None):
    sink = io.BytesIO()
    dataset.save_as(sink)
    return Stored(sink.getvalue(), sink.getvalue()[400:], instance_uid or str(dataset.SOPInstanceUID))


@pytest.mark.parametrize(
    ("tags", "utc"),
    [
        ({"AcquisitionDateTime": "20260102153000.5"}, "2026-01-02T14:30:00.500Z"),
        ({"AcquisitionDateTime": "20260102153000+0000"}, "2026-01-02T15:30:00.000Z"),
        ({"AcquisitionDateTime": "20260102153000", "TimezoneOffsetFromUTC": "-0500"}, "2026-01-02T20:30:00.000Z"),
        ({"AcquisitionDate": "20260102", "AcquisitionTime": "1530", "StudyDate": "20250101", "StudyTime": "000000"},
         "2026-01-02T14:30:00.000Z"),
        ({"AcquisitionDate": "20260102", "SeriesDate": "20260103", "SeriesTime": "120000.25"}, "2026-01-03T11:00:00.250Z"),
        ({"AcquisitionDateTime": "2026", "ContentDate": "20260104", "ContentTime": "120000"}, "2026-01-04T11:00:00.000Z"),
        ({"StudyDate": "20260105", "StudyTime": "120000"}, "2026-01-05T11:00:00.000Z"),
    ],
)  # fmt: skip
def test_the_time_is_the_acquisitions_else_the_next_best(tags, utc):
    dataset = pydicom.Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    assert from_ms(event_time(dataset, RULES)) == utc


def test_a_record_is_the_same_event_when_it_is_sent_again(tmp_path):
    one = stored(instance(IssuerOfPatientID="HOSP", AdmissionID="V77"))
    record = scan_record(one, RULES, FileBlobStore(tmp_path), NOW)
    assert record.key == b"123" and record.value == one.part10
    headers = {name: raw.decode() for name, raw in record.headers}
    assert headers["ce_id"] == f"{one.instance_uid}/{hashlib.sha256(one.dataset).hexdigest()[:32]}"
    assert headers["ce_time"] == "2026-01-02T14:30:00.000Z" and headers["ce_encounter"] == "V77"
    again = scan_record(one, RULES, FileBlobStore(tmp_path), NOW + 60_000)
    assert dict(again.headers)["ce_id"] == dict(record.headers)["ce_id"]


def test_over_the_inline_limit_the_record_carries_a_claim_check(tmp_path):
    blobs = FileBlobStore(tmp_path)
    one = stored(instance(IssuerOfPatientID="OTHER"))
    record = scan_record(one, Rules(zone=BERLIN, limits=Limits(inline_bytes=1024)), blobs, NOW)
    headers = {name: raw.decode() for name, raw in record.headers}
    assert record.value == b"" and record.key == b"123@OTHER"
    assert blobs.get(headers["ce_dataref"], headers["ce_datasha256"], 1 << 20) == one.part10


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PatientID": ""}, "missing-patient"),
        ({"PatientID": "  "}, "missing-patient"),
        ({"PatientID": "x\\y"}, "bad-dicom"),
        ({"AcquisitionDateTime": ""}, "bad-time"),
        ({"AcquisitionDateTime": "", "StudyDate": "20260102", "StudyTime": ""}, "bad-time"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_an_instance_without_patient_or_time_is_refused(tmp_path, tags, reason):
    one = stored(instance(**tags))
    with pytest.raises(InvalidMessage) as caught:
        scan_record(one, RULES, FileBlobStore(tmp_path), NOW)
    assert caught.value.reason == reason


def key_of(tmp_path, one):
    return scan_record(one, RULES, FileBlobStore(tmp_path), NOW).key


def qualifiers(**tags):
    item = pydicom.Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return {"IssuerOfPatientIDQualifiersSequence": [item]}


def test_a_universal_id_names_the_authority_where_no_issuer_does(tmp_path):
    universal = qualifiers(UniversalEntityID="1.2.3", UniversalEntityIDType="ISO", IdentifierTypeCode="MR")
    assert key_of(tmp_path, stored(instance(**universal))) == b"123@1.2.3"
    assert key_of(tmp_path, stored(instance(IssuerOfPatientID="OTHER", **universal))) == b"123@OTHER"
    assert key_of(tmp_path, stored(instance(IssuerOfPatientIDQualifiersSequence=[]))) == b"123"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PatientID": "A?B", "SpecificCharacterSet": "ISO_IR 192"}, "bad-dicom"),
        ({"IssuerOfPatientID": "A?B", "SpecificCharacterSet": "ISO_IR 192"}, "bad-dicom"),
        (qualifiers(UniversalEntityID="A?B") | {"SpecificCharacterSet": "ISO_IR 192"}, "bad-dicom"),
        (qualifiers(IdentifierTypeCode="VN"), "missing-patient"),
        ({"PatientID": "1" * 5000}, "decode-limit"),
    ],
)
def test_an_identifier_that_may_be_anothers_is_refused(tmp_path, tags, reason):
    one = stored(instance(**tags))
    with pytest.raises(InvalidMessage) as caught:
        key_of(tmp_path, Stored(one.part10.replace(b"A?B", b"A\xd6B"), one.dataset, one.instance_uid))
    assert caught.value.reason == reason


def test_no_value_of_a_header_reaches_a_log_or_a_warning(tmp_path, door, recwarn, caplog):
    _, start = door
    start()
    one = stored(instance(SpecificCharacterSet="ISO_IR 192", AdmissionID="DOE^JANE" * 10))
    part10 = one.part10.replace(b"ISO_IR 192", b"DOE^JANE  ").replace(b"123 ", b"\xd6\xc4\xd6 ")
    key_of(tmp_path, Stored(part10, one.dataset, one.instance_uid))
    assert not recwarn.list and "DOE" not in caplog.text


def test_a_bomb_in_the_header_is_refused_and_the_association_goes_on(door, monkeypatch):
    broker, start = door
    _, port = start()
    monkeypatch.setattr(elements, "MOST_STEPS", 500)
    bomb = instance(ReferencedSeriesSequence=[pydicom.Dataset() for _ in range(600)])
    bomb["ReferencedSeriesSequence"].is_undefined_length = True
    link = associate(port)
    assert link.send_c_store(bomb).Status == 0xC000
    assert link.send_c_store(instance()).Status == 0x0000
    link.release()
    assert [reason for *_, reason in broker.refused] == ["decode-limit"]


def test_another_instance_than_the_request_names_and_broken_bytes_are_refused(tmp_path):
    whole = stored(instance())
    for bad in (stored(instance(), "1.2.3"), Stored(whole.part10[:150], b"", "1"), Stored(b"", b"", "1")):
        with pytest.raises(InvalidMessage) as caught:
            scan_record(bad, RULES, FileBlobStore(tmp_path), NOW)
        assert caught.value.reason == "bad-dicom"


def test_only_syntaxes_that_the_imaging_worker_decodes_are_offered():
    assert DeflatedExplicitVRLittleEndian not in dicom.TRANSFER_SYNTAXES
    assert ExplicitVRLittleEndian in dicom.TRANSFER_SYNTAXES


@pytest.fixture
def door(tmp_path):
    """`open(**bounds)` gives (gateway, port); all are stopped at the end."""
    broker, gateways = Broker(tmp_path), []

    def start(calling=(), **bounds):
        gateway = DicomGateway(broker, RULES, Bounds(**bounds), Metrics(), "WARDWATCH", calling)
        gateways.append(gateway)
        return gateway, gateway.start("127.0.0.1", 0)

    yield broker, start
    broker.confirm.set()
    for gateway in gateways:
        gateway.stop()


def associate(port, title="CT1", called="WARDWATCH", contexts=((ComputedRadiographyImageStorage, None),)):
    ae = AE(ae_title=title)
    ae.add_requested_context(Verification)
    for uid, syntaxes in contexts:
        ae.add_requested_context(uid, syntaxes or [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    return ae.associate("127.0.0.1", port, ae_title=called)


def test_an_echo_is_answered_and_unknown_titles_are_turned_away(door):
    _, start = door
    _, port = start(calling=["CT1"])
    link = associate(port)
    assert link.send_c_echo().Status == 0x0000
    link.release()
    assert not associate(port, title="STRANGER").is_established
    assert not associate(port, called="OTHER").is_established


def test_an_instance_arrives_as_the_bytes_that_were_sent_in_a_part_10_file(door):
    broker, start = door
    _, port = start()
    link = associate(port)
    sent = instance()
    assert link.send_c_store(sent).Status == 0x0000
    assert link.send_c_store(sent).Status == 0x0000
    link.release()
    first, again = broker.records
    assert dict(first.headers)["ce_id"] == dict(again.headers)["ce_id"] and first.value == again.value
    found = pydicom.dcmread(io.BytesIO(first.value))
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert found.PixelData == sent.PixelData
    assert decode(first.value)[0].instance_uid == sent.SOPInstanceUID


def test_success_is_answered_only_after_the_brokers_word(door):
    broker, start = door
    _, port = start()
    link = associate(port)
    broker.confirm.clear()
    status = []
    sending = threading.Thread(target=lambda: status.append(link.send_c_store(instance()).Status))
    sending.start()
    assert broker.asked.wait(20) and not status
    broker.confirm.set()
    sending.join(20)
    assert status == [0x0000]
    link.release()


def test_while_kafka_is_away_the_sender_is_told_to_try_again(door):
    broker, start = door
    _, port = start()
    link = associate(port)
    broker.away = True
    assert link.send_c_store(instance()).Status == 0xA700
    assert link.send_c_store(instance(PatientID="")).Status == 0xA700  # its dead letter is not safe either
    broker.away = False
    assert link.send_c_store(instance()).Status == 0x0000
    link.release()
    assert len(broker.records) == 1 and not broker.refused


def test_an_instance_without_a_patient_fails_and_is_kept_with_its_bytes(door):
    broker, start = door
    _, port = start()
    link = associate(port)
    answer = link.send_c_store(instance(PatientID=""))
    assert answer.Status == 0xA900 and answer.ErrorComment.startswith("missing-patient")
    assert link.send_c_store(instance(AcquisitionDateTime="")).Status == 0xA900
    assert link.send_c_store(instance()).Status == 0x0000
    link.release()
    assert [reason for *_, reason in broker.refused] == ["missing-patient", "bad-time"]
    kept = pydicom.dcmread(io.BytesIO(broker.refused[0][2]))
    assert kept.PixelData == instance().PixelData


def test_what_holds_no_picture_or_cannot_be_decoded_is_not_negotiated(door):
    _, start = door
    _, port = start()
    link = associate(
        port, contexts=[(EncapsulatedPDFStorage, None), (CTImageStorage, [DeflatedExplicitVRLittleEndian])]
    )
    assert {context.abstract_syntax for context in link.accepted_contexts} == {Verification}
    link.release()


@pytest.mark.filterwarnings("ignore:The value")  # pydicom's, of so long a comment
def test_an_instance_over_the_limit_ends_its_association_only(door):
    broker, start = door
    _, port = start(instance_bytes=300_000)
    small, large = associate(port), associate(port)
    assert small.send_c_store(instance()).Status == 0x0000
    answer = large.send_c_store(instance(ImageComments="x" * 400_000))
    assert "Status" not in answer
    for _ in range(12):  # the limit is an instance's, not an association's
        assert small.send_c_store(instance()).Status == 0x0000
    small.release()
    assert len(broker.records) == 13


def test_a_pdu_that_claims_four_gigabytes_is_hung_up_on(door):
    _, start = door
    _, port = start()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFFF))
        assert link.recv(1024) in (b"", struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 2, 0))


def test_a_peer_that_falls_silent_in_a_pdu_is_hung_up_on(door):
    _, start = door
    _, port = start(network_timeout_s=1.0)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(struct.pack(">BBL", 1, 0, 1000) + b"x")
        while link.recv(1024):
            pass


@contextlib.contextmanager
def dripping(link, every_s=0.1):
    """The sender goes on byte by byte; gives what is set when it is hung up on."""
    hung_up, done = threading.Event(), threading.Event()

    def drip():
        while not done.wait(every_s):
            try:
                link.sendall(b"x")
            except OSError:
                hung_up.set()
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield hung_up
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("established", [False, True])
def test_a_peer_that_drips_a_pdu_is_hung_up_on(door, established):
    _, start = door
    _, port = start(network_timeout_s=1.0)
    with contextlib.ExitStack() as closing:
        if established:
            association = associate(port)
            closing.callback(association.abort)
            link = association.dul.socket.socket
        else:
            link = closing.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        link.sendall(struct.pack(">BBL", 4 if established else 1, 0, 100_000))
        with dripping(link) as hung_up:
            assert hung_up.wait(10)


def test_stopping_takes_no_longer_than_it_may_while_senders_drip(door):
    _, start = door
    gateway, port = start(stop_timeout_s=4.0)
    with contextlib.ExitStack() as closing:
        links = [closing.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in range(3)]
        for link in links[:2]:  # the third never says anything
            link.sendall(struct.pack(">BBL", 1, 0, 1_000_000))
        association = associate(port)
        closing.callback(association.abort)
        association.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, 100_000))
        for link in (*links[:2], association.dul.socket.socket):
            closing.enter_context(dripping(link))
        idle = associate(port)
        stopping = threading.Thread(target=gateway.stop, daemon=True)
        stopping.start()
        stopping.join(6)
        assert not stopping.is_alive()
        assert not any(one.dul.is_alive() for one in gateway._ae.active_associations)
        idle.join(20)
        assert idle.is_aborted


def test_stopping_answers_what_is_in_work(door):
    broker, start = door
    gateway, port = start()
    link = associate(port)
    broker.confirm.clear()
    status = []
    sending = threading.Thread(target=lambda: status.append(link.send_c_store(instance()).Status))
    sending.start()
    assert broker.asked.wait(20)
    stopping = threading.Thread(target=gateway.stop)
    stopping.start()
    broker.confirm.set()
    sending.join(20)
    stopping.join(20)
    assert status == [0x0000]
    assert not associate(port).is_established
