"""The gateways as processes: real DICOM and MLLP senders, real Kafka, both workers, to a risk record."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time

import hl7
import orjson
import pydicom
import pytest
from hl7.client import MLLPClient
from pynetdicom import AE, StoragePresentationContexts

from streaming import local_stack
from streaming.blobs import FileBlobStore
from streaming.errors import WardwatchError
from streaming.messages import Risk
from tests.conftest import absent
from tests.integration.conftest import Site, eventually

pytestmark = pytest.mark.integration


class Gateway:
    """`wardwatch listen` as a process that listens."""

    def __init__(self, site, what, *arguments):
        self.log = site.folder / f"{what}.log"
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streaming", "listen", what, "--port", "0", *arguments],
                env=site.env,
                stderr=sink,
            )
        self.port = int(eventually(self._listens, f"{what} gateway listens").group(1))

    def _listens(self):
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        return re.search(r"gateway listens on [^ ]*:(\d+)", self.log.read_text())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0, self.log.read_text()[-2000:]
        return self.log.read_text()


@pytest.fixture
def listen(site):
    """`listen(what, ...)` gives a running gateway; what still runs is stopped at the end."""
    started = []

    def start(what, *arguments, at=site):
        started.append(Gateway(at, what, *arguments))
        return started[-1]

    yield start
    for gateway in started:
        if gateway.process.poll() is None:
            gateway.stop()


def associate(port):
    ae = AE(ae_title="CT1")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    for context in StoragePresentationContexts:
        if context.abstract_syntax.name in ("CT Image Storage", "Secondary Capture Image Storage"):
            for syntax in (pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.JPEGBaseline8Bit):
                ae.add_requested_context(context.abstract_syntax, syntax)
    link = ae.associate("127.0.0.1", port, ae_title="WARDWATCH")
    assert link.is_established
    return link


def pictures(data_root, patient, stamp):
    """The CT slices and radiographs as a modality would send them: of this patient, acquired now.

    The published files are de-identified: the CT has no date at all.
    """
    for folder in ("ct_head_ge", "cxr_rsna_sample"):
        for path in sorted((data_root / "dicom/ship" / folder).glob("*.dcm")):
            dataset = pydicom.dcmread(path)
            dataset.PatientID, dataset.AcquisitionDateTime = patient, stamp
            yield dataset


def stamp(seconds_ago=0):
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() - seconds_ago)) + "+0000"


def message(kind, control, *lines):
    head = f"MSH|^~\\&|MON|ICU|WARD|H|{stamp()}||{kind}|{control}|P|2.5.1"
    return "".join(f"{line}\r" for line in (head, *lines))


def oru(control, value="131", unit="/min", patient="p7"):
    return message(
        "ORU^R01", control, f"PID|1||{patient}", f"OBR|1||||||{stamp(5)}",
        f"OBX|1|NM|8867-4^Heart rate^LN||{value}|{unit}|||||F", "OBX|2|NM|59408-5^SpO2^LN||91|%|||||F",
    )  # fmt: skip


def mdm(control, text, patient="p7"):
    return message("MDM^T02", control, f"PID|1||{patient}", f"TXA|1|PN|TX|{stamp(5)}||||||||D1", f"OBX|1|TX|||{text}")


class Monitor:
    """The MLLP client of the hl7 package; `send` gives MSA-1 and the whole answer."""

    def __init__(self, port):
        self._client = MLLPClient("127.0.0.1", port)

    def send(self, text):
        answer = self._client.send_message(text).decode().strip("\x0b\x1c\r")
        return str(hl7.parse(answer).segment("MSA")[1]), answer

    def close(self):
        self._client.close()


def risks(site, patient):
    found = [Risk.model_validate_json(record.value) for record in site.read("risk")]
    return [risk for risk in found if risk.patient == patient]


def test_pictures_results_and_a_note_of_hospital_senders_reach_one_score(site, listen, data_root):
    site.env["WARDWATCH_CLOCK"] = "wall"
    site.env["WARDWATCH_INLINE_LIMIT_BYTES"] = str(400_000)  # the CT slices go through the claim check
    site.start("imaging")
    site.start("fusion")
    pacs, monitor = listen("dicom", "--calling", "CT1"), listen("hl7")
    link = associate(pacs.port)
    sent = list(pictures(data_root, "p7", stamp(5)))
    assert len(sent) == 30
    for dataset in sent:
        assert link.send_c_store(dataset).Status == 0x0000
    assert link.send_c_store(sent[0]).Status == 0x0000  # again: the same event
    link.release()
    sender = Monitor(monitor.port)
    assert sender.send(oru("1"))[0] == "AA"
    assert sender.send(mdm("2", "Lethargic, hypotensive despite fluids."))[0] == "AA"
    sender.close()

    def complete():
        return next((r for r in risks(site, "p7") if all(use.present for use in r.modalities.values())), None)

    risk = eventually(complete, "a score of all three modalities", 120)
    assert risk.modalities["vitals"].items == 2 and risk.modalities["notes"].items == 1
    scans = site.read("scans")
    assert len(scans) == 31 and len({dict(record.headers)["ce_id"] for record in scans}) == 30
    claims = [dict(record.headers) for record in scans if not record.value]
    assert len(claims) == 29  # 28 slices and the one sent again
    blobs = FileBlobStore(site.folder / "blobs")
    kept = blobs.get(claims[0]["ce_dataref"].decode(), claims[0]["ce_datasha256"].decode(), 1 << 20)
    assert pydicom.dcmread(io.BytesIO(kept)).PixelData == sent[0].PixelData
    syntaxes = {pydicom.dcmread(io.BytesIO(r.value)).file_meta.TransferSyntaxUID for r in scans if r.value}
    assert syntaxes == {pydicom.uid.JPEGBaseline8Bit}
    eventually(lambda: len(site.read("encoded-scans")) == 31, "every picture is embedded", 120)
    assert not site.read("dead-letters")
    verdict = site.command("verify")
    assert verdict.returncode == 0, verdict.stdout
    for gateway in (pacs, monitor):
        said = gateway.stop()
        assert "p7" not in said and "Lethargic" not in said
        assert "after 31 instances" in said or "after 2 messages" in said


def test_a_merge_moves_the_score_to_the_patient_that_stays(site, listen):
    site.env["WARDWATCH_CLOCK"] = "wall"
    site.start("fusion")
    sender = Monitor(listen("hl7").port)
    assert sender.send(oru("1", patient="old"))[0] == "AA"
    assert sender.send(message("ADT^A40^ADT_A39", "2", f"EVN||{stamp()}", "PID|1||stays", "MRG|old"))[0] == "AA"
    sender.close()
    eventually(lambda: any("old" in r.merged_from for r in risks(site, "stays")), "a score of the merged patient")


def test_what_is_refused_at_the_door_is_kept_and_the_door_stays_open(site, listen, data_root):
    pacs, monitor = listen("dicom"), listen("hl7")
    link = associate(pacs.port)
    one = next(pictures(data_root, "", stamp()))
    answer = link.send_c_store(one)
    assert answer.Status == 0xA900 and answer.ErrorComment.startswith("missing-patient")
    link.release()
    sender = Monitor(monitor.port)
    code, text = sender.send(oru("3", unit="furlong"))
    assert code == "AA" and "unknown-unit" in text and "furlong" not in text
    assert sender.send(oru("4", value="131", unit="furlong").replace("59408-5", "1-1"))[0] == "AE"
    assert sender.send("PID|this is no message")[0] == "AR"
    assert sender.send(oru("5"))[0] == "AA"
    sender.close()
    letters = site.read("dead-letters")
    reasons = sorted(dict(record.headers)["ww_reason"].decode() for record in letters)
    assert reasons == ["bad-hl7", "missing-patient", "unknown-unit", "unknown-unit"]
    assert b"PID|this is no message" in {record.value for record in letters}
    (picture,) = [dict(r.headers) for r in letters if dict(r.headers)["ww_topic"] == b"dicom"]
    kept = FileBlobStore(site.folder / "blobs").get(
        picture["ww_dataref"].decode(), picture["ww_sha256"].decode(), 1 << 20
    )
    assert pydicom.dcmread(io.BytesIO(kept)).PixelData == one.PixelData
    listed = site.command("dead-letters")
    assert "hl7 at the gateway" in listed.stdout and "4 dead letters" in listed.stdout
    retried = site.command("dead-letters", "--retry")
    assert retried.stdout == "sent in again: 0; left, of other reasons or refused at a gateway: 4\n", retried.stderr


def test_while_kafka_is_away_senders_keep_their_messages_and_later_none_is_lost(tmp_path, data_root):
    folder = tmp_path / "stack"
    try:
        own = local_stack.start(folder, kafka_port=0, redis_port=0)
    except WardwatchError as error:
        absent(f"no local stack: {error}")
    site = Site(own, "away.", tmp_path)
    kafka = next(process for process in own.processes if process.name.startswith("kafka"))
    gateways = []
    try:
        gateways += [Gateway(site, "dicom", "--confirm-timeout", "2"), Gateway(site, "hl7", "--confirm-timeout", "2")]
        link, sender = associate(gateways[0].port), Monitor(gateways[1].port)
        one = next(pictures(data_root, "p7", stamp()))
        assert link.send_c_store(one).Status == 0x0000
        assert sender.send(oru("1"))[0] == "AA"
        os.kill(kafka.pid, signal.SIGSTOP)
        assert link.send_c_store(one).Status == 0xA700
        code, text = sender.send(oru("2"))
        assert code == "AR" and "ERR|||207^" in text
        os.kill(kafka.pid, signal.SIGCONT)
        eventually(lambda: sender.send(oru("2"))[0] == "AA", "the message is taken", 120)
        eventually(lambda: link.send_c_store(one).Status == 0x0000, "the picture is taken", 120)
        controls = {dict(record.headers)["ce_id"].decode().split("/")[0] for record in site.read("vitals")}
        assert controls == {"1", "2"}
        os.kill(kafka.pid, signal.SIGKILL)
        assert link.send_c_store(one).Status == 0xA700
        assert sender.send(oru("3"))[0] == "AR"
        link.release()
        sender.close()
        for gateway in gateways:
            gateway.stop()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(kafka.pid, signal.SIGCONT)
        for gateway in gateways:
            gateway.process.kill()
            gateway.process.wait()
        site.close()
        local_stack.stop(folder)


def test_a_gateway_without_topics_or_port_ends_in_one_line(site, listen):
    taken = listen("hl7")
    done = site.command("listen", "hl7", "--port", str(taken.port))
    assert done.returncode == 1 and "cannot be had" in done.stderr
    done = site.command("listen", "hl7", "--port", "0", WARDWATCH_TOPIC_PREFIX="none.")
    assert done.returncode == 1 and "wardwatch topics create" in done.stderr
    done = site.command("listen", "dicom", "--port", "0", "--timezone", "Mars/Base")
    assert done.returncode == 1 and "no IANA time zone" in done.stderr
    assert all(orjson.loads(line)["event"] for line in taken.stop().splitlines())
