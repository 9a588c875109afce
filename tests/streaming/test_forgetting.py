"""Who has not been heard of for a month leaves the store; who matters to others, or whose alert stands, does not."""

import asyncio

import pytest

from streaming.clock import wall_ms
from streaming.session import Batch
from tests.helpers import HEART_RATE, HOUR, MINUTE, NOON, observation
from tests.streaming.test_merge import measured, merged, record
from tests.streaming.test_merge_pipeline import holds
from tests.streaming.ward import Hospital

MONTH = 31 * 24 * HOUR + MINUTE


@pytest.fixture
def hospital(predictor):
    """Nobody's alert stands."""
    return Hospital(predictor, threshold=1.0)


def test_who_is_not_heard_of_for_a_month_is_taken_out_whatever_the_events_times(hospital):
    hospital.run(measured("A", 80, NOON, id="a"))
    hospital.forget(wall_ms() + MONTH - 2 * MINUTE)
    assert "A" in hospital.store.states()
    hospital.forget(wall_ms() + MONTH)
    assert hospital.store.states() == {}
    hospital.run(measured("A", 81, NOON + 32 * 24 * HOUR, id="again"))
    assert hospital.store.states()["A"].observations.entries["value"].tolist() == [81.0]
    hospital.start()
    hospital.run(measured("A", 82, NOON + 32 * 24 * HOUR + MINUTE, id="and again"))
    assert hospital.store.states()["A"].observations.entries["value"].tolist() == [81.0, 82.0]
    holds(hospital)


def test_who_comes_again_before_that_is_written_begins_anew(hospital):
    """The next batch is computed meanwhile: what is stored of the patient must not shine through."""
    hospital.run(measured("A", 80, NOON, id="a"))
    ((place, log),) = [item for item in hospital.broker.logs.items() if item[0][0] == "vitals"]
    hospital.send(measured("A", 81, NOON + MINUTE, id="again"))

    async def at_once():
        taken = await hospital.pipeline.forget_patients(wall_ms() + MONTH)
        after = await hospital.pipeline.process([Batch(*place, log[1:], 0.0)])
        for outcome in (taken, after):
            await hospital.pipeline.store(outcome)

    asyncio.run(at_once())
    assert hospital.store.states()["A"].observations.entries["value"].tolist() == [81.0]


def test_what_is_on_its_way_to_the_store_is_not_taken_out(hospital):
    hospital.run(measured("A", 80, NOON, id="a"))
    ((place, log),) = [item for item in hospital.broker.logs.items() if item[0][0] == "vitals"]
    hospital.send(measured("A", 81, NOON + MINUTE, id="again"))

    async def at_once():
        before = await hospital.pipeline.process([Batch(*place, log[1:], 0.0)])
        taken = await hospital.pipeline.forget_patients(wall_ms() + MONTH)
        for outcome in (before, taken):
            await hospital.pipeline.store(outcome)

    asyncio.run(at_once())
    assert hospital.store.states()["A"].observations.entries["value"].tolist() == [80.0, 81.0]


def test_what_never_ages_stays(hospital):
    body = {"observations": [observation("30525-0", 88, "a", NOON), observation(HEART_RATE, 80, "/min", NOON)]}
    hospital.run(record("vitals", body, "A", NOON, id="age"))
    hospital.forget(wall_ms() + MONTH)
    facts = hospital.store.states()["A"].observations
    assert facts.static and not facts.blocks
    hospital.forget(wall_ms() + 2 * MONTH)
    hospital.run(measured("A", 81, NOON + 40 * 24 * HOUR, id="again"))
    hospital.start()
    hospital.run(measured("A", 82, NOON + 40 * 24 * HOUR + MINUTE, id="and again"))
    again = hospital.store.states()["A"].observations
    assert (again.static, again.entries["value"].tolist()) == (facts.static, [81.0, 82.0])
    holds(hospital)


def test_who_was_merged_stays_and_so_does_whose_alert_stands(hospital, predictor):
    hospital.run(measured("A", 80), measured("B", 80), measured("C", 80), merged("A", "B"))
    hospital.forget(wall_ms() + MONTH)
    assert set(hospital.store.states()) == {"A", "B"}
    hospital.run(measured("A", 81, NOON + 40 * 24 * HOUR, id="years later"))
    assert hospital.store.states()["B"].observations.newest_ms == NOON + 40 * 24 * HOUR
    holds(hospital)
    alerted = Hospital(predictor).run(measured("A", 80))
    alerted.forget(wall_ms() + MONTH)
    assert set(alerted.store.states()) == {"A"}
