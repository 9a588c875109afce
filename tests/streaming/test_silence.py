"""The alarm that a monitored patient's data fell silent, through the whole sequence in memory."""

import pytest

from streaming.clock import MINUTE_MS
from tests.helpers import HOUR, NOON
from tests.streaming.test_merge import measured, record
from tests.streaming.test_merge_pipeline import alerts
from tests.streaming.ward import Hospital

LIMIT = 30 * MINUTE_MS


@pytest.fixture
def hospital(predictor):
    return Hospital(predictor)


def silences(hospital):
    return [one for one in alerts(hospital) if one.condition == "data-silence"]


def note(patient, at_ms, name):
    return record("notes", {"note_id": name, "text": "stable"}, patient, at_ms, id=name)


def test_the_next_silence_is_another_alarm_although_no_vitals_came_between(hospital):
    hospital.run(measured("A", 80, NOON, id="v"))
    for number in range(3):
        hospital.listen(LIMIT, NOON + (2 * number + 1) * HOUR)
        hospital.run(note("A", NOON + (2 * number + 2) * HOUR, f"n{number}"))
    told = silences(hospital)
    assert [one.action for one in told] == ["raised", "cleared"] * 3
    assert len({one.id for one in told}) == 6
    assert hospital.verdict().violations == []


def test_a_standing_silence_is_raised_once(hospital):
    hospital.run(measured("A", 80, NOON, id="v"))
    for hours in range(1, 5):
        hospital.listen(LIMIT, NOON + hours * HOUR)
    hospital.start()  # a new worker judges everybody once more
    hospital.listen(LIMIT, NOON + 5 * HOUR)
    assert [one.action for one in silences(hospital)] == ["raised"]


def test_only_what_is_newer_of_the_patient_ends_a_silence(hospital):
    """Who would judge it silent again would not find it: nothing was recorded since."""
    hospital.run(measured("A", 80, NOON, id="v"))
    hospital.listen(LIMIT, NOON + HOUR)
    hospital.run(note("A", NOON - HOUR, "late"))
    assert [one.action for one in silences(hospital)] == ["raised"]


def test_what_waits_to_be_read_is_no_silence(hospital):
    """The worker was away longer than the limit; the monitors were not."""
    patients = [f"P{number}" for number in range(20)]
    for name in patients:
        hospital.run(measured(name, 80, NOON, id=f"{name}a"))
    for minute in range(1, 41):
        hospital.send(*(measured(name, 80, NOON + minute * MINUTE_MS, id=f"{name}-{minute}") for name in patients[1:]))
    hospital.start()
    hospital.listen(LIMIT, NOON + 40 * MINUTE_MS)
    assert silences(hospital) == []
    hospital.run()
    hospital.listen(LIMIT, NOON + 41 * MINUTE_MS)
    assert [one.patient for one in silences(hospital)] == ["P0"]


def test_a_stream_that_never_ends_holds_no_alarm_back(hospital):
    """New events lie on the broker at every look; those of the first are taken by the second."""
    hospital.run(measured("A", 80, NOON, id="v"))
    for minute in range(31, 34):
        hospital.send(measured("A2", 80, NOON + minute * MINUTE_MS, id=f"o{minute}"))
        hospital.listen(LIMIT, NOON + minute * MINUTE_MS)
        hospital.step()
    assert [one.patient for one in silences(hospital)] == ["A"]


def test_whoever_falls_silent_is_found_however_many_did_before(hospital, monkeypatch):
    monkeypatch.setattr("streaming.pipeline.LOADED_AT_ONCE", 5)
    for number in range(40):
        hospital.run(measured(f"P{number}", 80, NOON + number, id=f"a{number}"))
    hospital.start()
    hospital.listen(LIMIT, NOON + HOUR)
    assert len(silences(hospital)) == 40
    hospital.run(measured("late", 80, NOON + HOUR, id="late"))
    hospital.listen(LIMIT, NOON + 2 * HOUR)
    assert [one.patient for one in silences(hospital)][40:] == ["late"]
