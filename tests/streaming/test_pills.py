"""What would end a worker, and each that follows it: an event that is taken, and that no score or record can be made of.

Each ends as a dead letter, or is scored, and the next event is scored either way.
"""

import base64
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.clock import EARLIEST_MS, LATEST_MS, from_ms
from streaming.envelope import Limits
from streaming.errors import InvalidMessage
from streaming.messages import HISTORY, LARGEST, Risk
from streaming.records import parse_record
from tests.helpers import HEART_RATE, HOUR, MINUTE, NOON, observation
from tests.streaming.test_merge import measured, merged, record
from tests.streaming.ward import Hospital

BEFORE, AFTER = "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"
"""Written as times of the years 1 and 9999; in UTC of the years 0 and 10000."""

every = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _ends(predictor, pill, reason):
    """Dead-lettered for `reason`, or scored when that is None; then the patient's next event, and another's, are scored."""
    hospital = Hospital(predictor).run(pill)
    letters = [dict(one.headers)["ww_reason"].decode() for one in hospital.broker.topics()["dead-letters"]]
    assert letters == ([] if reason is None else [reason])
    before = len(_risks(hospital))
    assert before == (reason is None)
    hospital.run(measured("p", 80), measured("q", 80))
    told = _risks(hospital)
    assert {one.patient for one in told[before:]} == {"p", "q"} and all(one.scores for one in told[before:])
    assert hospital.verdict().violations == []
    return hospital


def _risks(hospital):
    """Every number of every record is one: the class takes no other."""
    return [Risk.model_validate_json(one.value) for one in hospital.broker.topics()["risk"]]


def _timed(place, text):
    """An event with the text as the time of that place; recorded when it was true, so that only that time counts."""
    kind, body = "notes", {"note_id": "n", "text": "t"}
    if place == "observation":
        kind, body = "vitals", {"observations": [{**observation(HEART_RATE, 80, "/min", NOON), "time": text}]}
    if place == "retraction":
        kind, body = "corrections", {"kind": "observation-retracted", "code": HEART_RATE, "time": text}
    pill = record(kind, body, "p", LATEST_MS if place in ("observation", "retraction") else NOON)
    if place == "ce_time":
        pill.headers = [one for one in pill.headers if one[0] != "ce_recordedtime"]
    if place.startswith("ce_"):
        pill.headers = [(name, text.encode() if name == place else raw) for name, raw in pill.headers]
    return pill


@pytest.mark.parametrize("text", [BEFORE, AFTER])
@pytest.mark.parametrize("place", ["ce_time", "ce_recordedtime", "observation", "retraction"])
def test_a_time_whose_offset_leads_out_of_the_years_that_can_be_written_is_refused(predictor, place, text):
    _ends(predictor, _timed(place, text), "bad-attribute" if place.startswith("ce_") else "bad-schema")


def _near_an_end():
    return st.integers(EARLIEST_MS, EARLIEST_MS + 48 * HOUR) | st.integers(LATEST_MS - 48 * HOUR, LATEST_MS)


@every
@given(_near_an_end(), st.integers(-23 * 60, 23 * 60), st.sampled_from(["ce_time", "observation", "retraction"]))
def test_every_time_that_can_be_written_with_an_offset_is_refused_or_scored(predictor, local_ms, minutes, place):
    local = datetime(1970, 1, 1) + timedelta(milliseconds=local_ms)
    text = local.replace(tzinfo=timezone(timedelta(minutes=minutes))).isoformat(timespec="milliseconds")
    inside = EARLIEST_MS <= local_ms - minutes * 60_000 <= LATEST_MS
    reason = None if inside else "bad-attribute" if place == "ce_time" else "bad-schema"
    _ends(predictor, _timed(place, text), reason)


@pytest.mark.parametrize("broker_ms", [EARLIEST_MS - 1, LATEST_MS + 1])
def test_a_brokers_time_that_cannot_be_written_is_refused(broker_ms):
    pill = _timed("ce_time", "2100-01-01T00:00:00Z")
    pill.timestamp = broker_ms
    with pytest.raises(InvalidMessage, match="bad-attribute: the broker's time"):
        parse_record("notes", pill, Limits(live=True))


def test_a_retraction_dated_ahead_takes_no_measurement_out_of_history(predictor):
    hospital = Hospital(predictor).run(*(measured("p", 80 + n, NOON + n * MINUTE, id=f"v{n}") for n in range(5)))
    body = {"kind": "observation-retracted", "code": HEART_RATE, "time": from_ms(NOON + 9_000 * HOUR)}
    hospital.run(record("corrections", body, "p", NOON + HOUR, id="ahead"))
    (letter,) = hospital.broker.topics()["dead-letters"]
    assert dict(letter.headers)["ww_reason"] == b"future-time"
    hospital.run(measured("p", 180, NOON + HOUR, id="next"))
    assert hospital.store.states()["p"].observations.standing == 6
    assert _risks(hospital)[-1].may_page


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_encounter", "traceparent"])
def test_an_attribute_that_no_record_of_the_patient_could_carry_is_refused(predictor, name):
    pill = measured("p", 80)
    pill.headers = [*(one for one in pill.headers if one[0] != name), (name, b"x" * 1_001)]
    _ends(predictor, pill, "bad-attribute")


def _scan(predictor, embedding, encoder=None):
    body = {
        "study_uid": "1", "series_uid": "2", "instance_uid": "3", "modality": "CT", "content_sha256": "0" * 64,
        "encoder": encoder or predictor.card.encoder_hashes["scans"], "embedding": embedding, "scan_topic": "scans",
        "scan_partition": 0, "scan_offset": 0,
    }  # fmt: skip
    return record("encoded-scans", body, "p")


def _text(vector):
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def _with(number, width=64):
    return _text([0.5] * (width - 1) + [number])


NO_EMBEDDINGS = {
    "not a number": _with(np.nan), "infinite": _with(np.inf), "minus infinite": _with(-np.inf),
    "would overflow": _with(3e38), "just too large": _with(-np.nextafter(np.float32(LARGEST), np.float32(np.inf))),
    "not base64": "A", "not base64 either": "é" * 344, "broken in lines": _with(1.0)[:76] + "\n" + _with(1.0)[76:],
    "padded twice": _text([0.5] * 63) + "====", "no whole numbers": base64.b64encode(b"12345").decode(), "empty": "",
}  # fmt: skip


@pytest.mark.parametrize("encoder", [None, "another"])
@pytest.mark.parametrize("what", NO_EMBEDDINGS)
def test_what_is_no_embedding_is_refused_whichever_encoder_is_named(predictor, what, encoder):
    _ends(predictor, _scan(predictor, NO_EMBEDDINGS[what], encoder), "bad-schema")


@every
@given(
    st.binary(max_size=300)
    | st.lists(st.floats(width=32), max_size=70).map(lambda many: np.array(many, "<f4").tobytes())
)
def test_any_bytes_as_an_embedding_are_refused_or_scored(predictor, data):
    sound = bool(data) and len(data) % 4 == 0 and bool((np.abs(np.frombuffer(data, "<f4")) <= LARGEST).all())
    _ends(predictor, _scan(predictor, base64.b64encode(data).decode()), None if sound else "bad-schema")


@pytest.mark.parametrize("width", [1, 63, 65, 128])
def test_an_embedding_of_another_width_is_as_if_the_scan_were_not_there(predictor, width):
    hospital = _ends(predictor, _scan(predictor, _with(0.5, width)), None)
    told = [one for one in _risks(hospital) if one.patient == "p"]
    assert not any(one.modalities["scans"].present for one in told)
    assert not any("nodule" in score.condition for one in told for score in one.scores)
    seen = _risks(_ends(predictor, _scan(predictor, _with(0.5)), None))[0]
    assert seen.modalities["scans"].present and any("nodule" in score.condition for score in seen.scores)


def test_a_merged_patients_history_with_no_embedding_in_it_is_refused(predictor):
    hospital = Hospital(predictor).run(_scan(predictor, _with(0.5)), merged("p", "q", NOON + 1))
    (sent,) = hospital.broker.topics()["forwarded"]
    body = orjson.loads(sent.value)
    body["scans"]["3"][-1] = _with(np.nan)
    sent.value = orjson.dumps(body)
    hospital = Hospital(predictor).run(sent)
    (letter,) = hospital.broker.topics()["dead-letters"]
    assert dict(letter.headers)["ww_reason"] == b"bad-schema"
    body["scans"]["3"][-1] = _with(0.5)
    HISTORY.validate_python(body)


@pytest.mark.parametrize("where", ["history", "path"])
def test_what_no_state_can_hold_is_refused_of_a_merged_patient_too(predictor, where):
    """Numbers of more than 64 bits, which only a worker gone wrong would write."""
    hospital = Hospital(predictor).run(_scan(predictor, _with(0.5)), merged("p", "q", NOON + 1))
    (sent,) = hospital.broker.topics()["forwarded"]
    if where == "history":
        body = orjson.loads(sent.value)
        body["encounter_version"] = ["HUGE", 0, 0]
        sent.value = orjson.dumps(body).replace(b'"HUGE"', b"9" * 30)
    else:
        (_, path) = next(one for one in sent.headers if one[0] == "ce_mergedfrom")
        hops = orjson.loads(path)
        hops[0][1] = "HUGE"
        huge = orjson.dumps(hops).replace(b'"HUGE"', b'"' + b"9" * 30 + b'"')
        sent.headers = [(name, huge if name == "ce_mergedfrom" else value) for name, value in sent.headers]
    hospital = Hospital(predictor).run(sent)
    (letter,) = hospital.broker.topics()["dead-letters"]
    assert dict(letter.headers)["ww_reason"] in (b"bad-schema", b"bad-attribute")


def test_the_ends_are_those_of_the_years_1_to_9999():
    assert datetime.min.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC) == timedelta(milliseconds=EARLIEST_MS)
    assert datetime.max.replace(tzinfo=UTC, microsecond=999_000) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        milliseconds=LATEST_MS
    )
