"""The alarm that a monitored patient's data fell silent, through the whole sequence in memory."""

import asyncio

import pytest

from streaming.session import Batch
from tests.helpers import HOUR, MINUTE, NOON
from tests.streaming.test_merge import measured, merged, record, unmerged
from tests.streaming.test_merge_pipeline import alerts
from tests.streaming.ward import SILENCE_MS, At, Hospital


@pytest.fixture
def hospital(predictor):
    return Hospital(predictor)


@pytest.fixture
def live(predictor):
    """By a clock that runs on while nothing comes."""
    return Hospital(predictor, clock=At(NOON))


def silences(hospital, patient=None):
    told = [one for one in alerts(hospital) if one.condition == "data-silence"]
    return [one for one in told if patient in (None, one.patient)]


def pass_time(hospital, to_ms):
    """Judged every ten minutes."""
    while hospital.clock.now_ms < to_ms:
        hospital.clock.now_ms += 10 * MINUTE
        hospital.listen(hospital.clock.now_ms)


def note(patient, at_ms, name):
    return record("notes", {"note_id": name, "text": "stable"}, patient, at_ms, id=name)


def test_the_next_silence_is_another_alarm_although_no_vitals_came_between(hospital):
    hospital.run(measured("A", 80, NOON, id="v"))
    for number in range(3):
        hospital.listen(NOON + (2 * number + 1) * HOUR)
        hospital.run(note("A", NOON + (2 * number + 2) * HOUR, f"n{number}"))
    told = silences(hospital)
    assert [one.action for one in told] == ["raised", "cleared"] * 3
    assert len({one.id for one in told}) == 6
    assert hospital.verdict().violations == []


def test_a_standing_silence_is_raised_once(hospital):
    hospital.run(measured("A", 80, NOON, id="v"))
    for hours in range(1, 5):
        hospital.listen(NOON + hours * HOUR)
    hospital.start()  # a new worker judges everybody once more
    hospital.listen(NOON + 5 * HOUR)
    assert [one.action for one in silences(hospital)] == ["raised"]


def test_only_what_is_newer_of_the_patient_ends_a_silence(hospital):
    """Who would judge it silent again would not find it: nothing was recorded since."""
    hospital.run(measured("A", 80, NOON, id="v"))
    hospital.listen(NOON + HOUR)
    hospital.run(note("A", NOON - HOUR, "late"))
    assert [one.action for one in silences(hospital)] == ["raised"]


def test_what_waits_to_be_read_is_no_silence(hospital):
    """The worker was away longer than the limit; the monitors were not."""
    patients = [f"P{number}" for number in range(20)]
    for name in patients:
        hospital.run(measured(name, 80, NOON, id=f"{name}a"))
    for minute in range(1, 41):
        hospital.send(*(measured(name, 80, NOON + minute * MINUTE, id=f"{name}-{minute}") for name in patients[1:]))
    hospital.start()
    hospital.listen(NOON + 40 * MINUTE)
    assert silences(hospital) == []
    hospital.run()
    hospital.listen(NOON + 41 * MINUTE)
    assert [one.patient for one in silences(hospital)] == ["P0"]


def test_a_stream_that_never_ends_holds_no_alarm_back(hospital):
    """New events lie on the broker at every look; those of the first are taken by the second."""
    hospital.run(measured("A", 80, NOON, id="v"))
    for minute in range(31, 34):
        hospital.send(measured("A2", 80, NOON + minute * MINUTE, id=f"o{minute}"))
        hospital.listen(NOON + minute * MINUTE)
        hospital.step()
    assert [one.patient for one in silences(hospital)] == ["A"]


def test_whoever_falls_silent_is_found_however_many_did_before(hospital, monkeypatch):
    monkeypatch.setattr("streaming.silence.LOADED_AT_ONCE", 5)
    for number in range(40):
        hospital.run(measured(f"P{number}", 80, NOON + number, id=f"a{number}"))
    hospital.start()
    hospital.listen(NOON + HOUR)
    assert len(silences(hospital)) == 40
    hospital.run(measured("late", 80, NOON + HOUR, id="late"))
    hospital.listen(NOON + 2 * HOUR)
    assert [one.patient for one in silences(hospital)][40:] == ["late"]


def test_newer_data_that_are_as_old_as_the_silence_do_not_end_it(live):
    live.run(measured("A", 80, NOON, id="v"))
    pass_time(live, NOON + HOUR)
    live.run(measured("A", 81, NOON + 20 * MINUTE, id="delayed"))
    pass_time(live, NOON + 9 * HOUR)
    assert [one.action for one in silences(live)] == ["raised"]
    live.run(measured("A", 82, live.clock.now_ms, id="back"))
    pass_time(live, NOON + 10 * HOUR)
    assert [one.action for one in silences(live)] == ["raised", "cleared", "raised"]
    assert len({one.id for one in silences(live)}) == 3


def test_whose_first_data_came_late_is_silent_all_the_same(live):
    live.run(measured("B", 80, NOON, id="b"))
    pass_time(live, NOON + HOUR)
    live.run(measured("A", 80, NOON + 10 * MINUTE, id="a"))
    pass_time(live, NOON + 2 * HOUR)
    assert [one.patient for one in silences(live)] == ["B", "A"]


def test_who_is_taken_late_in_a_write_that_is_on_its_way_is_judged_too(live):
    """The judgement finds nobody in Redis yet."""
    live.clock.now_ms = NOON + HOUR
    live.send(measured("A", 80, NOON, id="a"))
    ((place, log),) = live.broker.logs.items()

    async def judged_meanwhile():
        taken = await live.pipeline.process([Batch(*place, log, 0.0)])
        judged = await live.pipeline.silence(live.clock.now_ms, {place[1]: {place[0]: 1}})
        for outcome in (taken, judged):
            await live.pipeline.store(outcome)
            await live.pipeline.publish(outcome)

    asyncio.run(judged_meanwhile())
    assert [(one.patient, one.action) for one in silences(live)] == [("A", "raised")]


def test_a_merge_ends_a_silence_and_its_undo_begins_the_others(live):
    live.run(measured("A", 80, NOON, id="a"), measured("B", 80, NOON, id="b"))
    pass_time(live, NOON + 20 * MINUTE)
    live.run(measured("B", 80, NOON + 20 * MINUTE, id="b2"))
    pass_time(live, NOON + 40 * MINUTE)
    live.run(merged("B", "A", NOON + 40 * MINUTE))
    for minute in range(41, 120, 10):
        live.clock.now_ms = NOON + minute * MINUTE
        live.run(measured("B", 80, live.clock.now_ms, id=f"b{minute}"))
        live.listen(live.clock.now_ms)
    assert [(one.patient, one.action) for one in silences(live)] == [("A", "raised"), ("A", "cleared")]
    live.run(unmerged("B", "A", live.clock.now_ms))
    live.listen(live.clock.now_ms + MINUTE)
    assert [(one.patient, one.action) for one in silences(live)[2:]] == [("A", "raised")]
    live.run(merged("A", "B", live.clock.now_ms + MINUTE))
    assert [(one.patient, one.action) for one in silences(live)[3:]] == [("A", "cleared")]
    assert "merged" in silences(live)[-1].reason and len({one.id for one in silences(live)}) == 4
    assert live.verdict().violations == []


@pytest.mark.parametrize("restarted", [False, True])
def test_who_is_silent_for_a_day_more_is_taken_to_have_left(live, restarted):
    live.run(measured("A", 80, NOON, id="a"))
    pass_time(live, NOON + 12 * HOUR)
    if restarted:
        live.start()
    pass_time(live, NOON + 40 * HOUR)
    assert [one.action for one in silences(live)] == ["raised", "cleared"]
    assert "left" in silences(live)[-1].reason
    live.run(note("A", live.clock.now_ms, "n"))
    pass_time(live, NOON + 42 * HOUR)
    assert [one.action for one in silences(live)] == ["raised", "cleared", "raised"]
    assert len({one.id for one in silences(live)}) == 3


def test_a_limit_of_more_than_a_day_is_kept(live, monkeypatch):
    monkeypatch.setattr("tests.streaming.ward.SILENCE_MS", 30 * HOUR)
    live.start()
    live.run(measured("A", 80, NOON, id="a"))
    pass_time(live, NOON + 29 * HOUR)
    assert silences(live) == []
    pass_time(live, NOON + 31 * HOUR)
    assert [one.action for one in silences(live)] == ["raised"]


def test_a_partition_assigned_since_the_broker_was_asked_is_not_judged(live):
    live.run(measured("A", 80, NOON, id="a"))
    live.start()
    outcome = asyncio.run(live.pipeline.silence(NOON + 2 * SILENCE_MS, {}))
    assert outcome.writes == []
