"""A state that Redis lost, made again from Kafka: nothing that is in the world already happens twice, nothing is left out."""

import asyncio
import base64
import copy
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from models.signals import by_name
from streaming import session
from streaming.clock import WallClock, wall_ms
from streaming.envelope import Limits
from streaming.errors import Unavailable
from streaming.scoring import Scorer
from streaming.session import Batch
from streaming.state import PatientState, apply
from tests.helpers import HOUR, MINUTE, NOON, vitals
from tests.streaming.test_merge import measured, record
from tests.streaming.test_merge_pipeline import alerts, holds, risks
from tests.streaming.ward import At, Hospital, Touchy, partition_of

PLACE = ("vitals", partition_of(b"A"))
NEIGHBOUR = next(name for name in map("p{}".format, range(99)) if partition_of(name.encode()) == PLACE[1])


def test_a_rebuild_that_is_cut_short_pages_nobody_again(predictor):
    hospital = Hospital(predictor, score="coalesce")
    for number in range(4):
        hospital.run(measured("A", 100 + number, NOON + number, id=f"a{number}"))
    hospital.run(*(measured("A", 110 + n, NOON + 9 + n, id=f"b{n}") for n in range(4)))
    hospital.run(*(measured(NEIGHBOUR, 120 + n, NOON + 20 + n, id=f"o{n}") for n in range(3)))
    before = hospital.broker.topics()
    before = len(before["risk"]), len(before["alerts"])
    hospital.lose_redis()
    log = hospital.broker.logs[PLACE]
    hospital.broker.logs[PLACE] = log[:5]
    hospital.step()  # a part of the rebuild; then the next rebalance comes
    hospital.broker.logs[PLACE] = log
    hospital.start()
    hospital.run()
    after = hospital.broker.topics()
    assert (len(after["risk"]), len(after["alerts"])) == before
    assert hospital.store.offsets[PLACE[1]]["vitals"] == len(log) - 1
    hospital.run(measured("A", 119, NOON + 60, id="c"))
    assert len(hospital.broker.topics()["risk"]) == before[0] + 1


def test_late_data_that_paged_nobody_raises_no_episode_in_a_rebuild(predictor):
    """By the wall clock it was late, so the next score pages; by its own recorded time it would not have been."""

    def told(lost):
        hospital, now = Hospital(predictor), wall_ms()
        hospital.broker.now_ms = now
        hospital.clock = WallClock()
        hospital.start()
        hospital.run(measured("A", 140, now - 3 * HOUR, id="late"))
        assert alerts(hospital) == []
        if lost:
            hospital.lose_redis()
            hospital.run()
        hospital.run(measured("A", 141, now - 1000, id="now"))
        return [(one.condition, one.action, one.trigger_id) for one in alerts(hospital)]

    assert told(lost=True) == told(lost=False) != []


@pytest.mark.parametrize("next_kind", ["note", "silence"])
def test_a_write_that_redis_lost_is_noticed_by_the_next_whatever_it_is_of(predictor, next_kind):
    hospital = Hospital(predictor)
    hospital.run(measured("A", 80, NOON, id="v0"))
    synced = copy.deepcopy(vars(hospital.store))
    hospital.run(measured("A", 150, NOON + MINUTE, id="v1"))
    vars(hospital.store).update(synced)  # Redis comes back without its last second; the worker goes on
    with pytest.raises(AssertionError):
        if next_kind == "note":
            hospital.run(record("notes", {"note_id": "n", "text": "stable"}, "A", NOON + 2 * MINUTE, id="n"))
        else:
            hospital.listen(NOON + 2 * HOUR)
    hospital.start()
    hospital.run()
    assert hospital.store.states()["A"].observations.entries["value"].tolist() == [80.0, 150.0]
    holds(hospital)


def test_refused_events_of_a_rebuild_stop_no_worker(predictor):
    """They stopped none when they came: the source is not broken now."""
    hospital = Hospital(predictor)
    for number in range(3):
        hospital.run(*(record("vitals", {"no": "observations"}, "A", NOON, id=f"{number}-{n}") for n in range(99)))
        hospital.run(measured("A", 80 + number, NOON + number * MINUTE, id=f"good{number}"))
    log = hospital.broker.logs[PLACE]
    bad = [one for one in log if b"no" in one.value]
    hospital.broker.logs[PLACE] = [*bad, *(one for one in log if one not in bad)]
    for offset, one in enumerate(hospital.broker.logs[PLACE]):
        one.offset = offset
    letters = len(hospital.broker.topics()["dead-letters"])
    hospital.lose_redis()
    hospital.run()
    assert hospital.store.states()["A"].observations.entries["value"].tolist() == [80.0, 81.0, 82.0]
    assert len(hospital.broker.topics()["dead-letters"]) == letters == 297


def test_a_state_whose_write_is_in_flight_stays_in_the_cache(predictor, monkeypatch):
    """The next batch is computed meanwhile: from Redis it would read, and write over, a state without this one's."""
    monkeypatch.setattr(session, "CACHED_MEASUREMENTS", 0)
    hospital = Hospital(predictor)
    names = [name for name in map(str, range(40)) if partition_of(name.encode()) == 0][:6]

    async def two_in_flight():
        log, outcomes = hospital.broker.logs["vitals", 0], []
        for minute in range(3):
            at = len(log)
            hospital.send(
                *(measured(name, 80 + minute, NOON + minute * MINUTE, id=f"{name} {minute}") for name in names)
            )
            outcomes.append(await hospital.pipeline.process([Batch("vitals", 0, log[at:], 0.0)]))
        for outcome in outcomes:
            await hospital.pipeline.store(outcome)

    asyncio.run(two_in_flight())
    values = {name: state.observations.entries["value"].tolist() for name, state in hospital.store.states().items()}
    assert values == {key: [80.0, 81.0, 82.0] for key in names}


def test_of_stored_states_the_longest_unused_leave_the_cache(monkeypatch):
    monkeypatch.setattr(session, "CACHED_MEASUREMENTS", 6)
    held = session.Session(0, 1, {}, writes=0)
    for write, name in enumerate("ABCAD", start=1):
        held.keep(
            apply(
                held.cache.get(name, PatientState(name)), vitals(patient=name, id=f"{write}", at_ms=NOON + write * HOUR)
            ),
            write,
        )
    held.stored = 3  # B and C; A and D are in flight
    held.forget_unused(partitions=2)
    assert (list(held.cache), held.measurements, held.last_write) == (["A", "D"], 3, {"A": 4, "D": 5})
    held.forget_unused(partitions=6)
    assert list(held.cache) == ["A", "D"]
    held.stored = 5
    held.forget_unused(partitions=6)
    assert (list(held.cache), held.measurements, held.last_write) == (["D"], 1, {"D": 5})


class Graded(Touchy):
    """Says as probability of everything what the newest heart rate is, in percent."""

    def fuse(self, tokens, present, age_h):
        told = self._predictor.fuse(tokens, present, age_h)
        return replace(told, probability=np.broadcast_to(self.percent[:, None] / 100, told.probability.shape))


def _graded(predictor, monkeypatch, score):
    """A hospital whose scores are chosen by heart rates: below 50 % calm, above 90 % wild; half an hour clears."""
    hospital = Hospital(predictor, score)
    levels = {"watch": 0.9, "warning": 1.0, "critical": 1.0}
    card = replace(predictor.card, thresholds=dict.fromkeys(predictor.card.conditions, levels), conformal=None)
    hospital.predictor = Graded.__new__(Graded)
    vars(hospital.predictor).update(_predictor=predictor, card=card)
    fill = Scorer.score

    def score_all(self, states, as_of_ms):
        newest = [state.observations.latest()[by_name["heart_rate"]][1] for state in states]
        self.predictor.percent = np.array(newest, np.float32)
        return fill(self, states, as_of_ms)

    monkeypatch.setattr(Scorer, "score", score_all)
    hospital.start()
    return hospital


def _told(hospital):
    return [(one.patient, one.condition, one.action) for one in alerts(hospital)]


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_episodes_are_what_was_told_of_however_scores_fall_together_in_a_rebuild(predictor, monkeypatch, lost, at_once):
    """A rebuild finds all events at once: it scores the last of them only, or each where two had shared a score."""
    wild = [measured("A", 95, NOON, id="wild"), measured("A", 40, NOON + MINUTE, id="calm")]
    hospital = _graded(predictor, monkeypatch, "coalesce")
    if at_once:
        hospital.run(*wild)
    else:
        hospital.run(wild[0]).run(wild[1])
    raised = len(alerts(hospital))
    assert bool(raised) is not at_once
    hospital.score = "each" if at_once else "coalesce"
    if lost:
        hospital.lose_redis()
    else:
        hospital.start()
    hospital.run()
    assert len(alerts(hospital)) == raised
    hospital.run(measured("A", 41, NOON + 40 * MINUTE, id="still calm"))
    assert {action for *_, action in _told(hospital)[raised:]} == (set() if at_once else {"cleared"})
    hospital.run(measured("A", 96, NOON + 120 * MINUTE, id="wild again"))
    assert {action for *_, action in _told(hospital)[-2:]} == {"raised"}
    holds(hospital)


def test_a_silence_that_was_told_of_stands_after_a_rebuild_until_data_come(predictor):
    def told(lost):
        hospital = Hospital(predictor, clock=At(NOON + HOUR))
        hospital.run(measured("A", 80, NOON, id="v"), measured("gone", 80, NOON, id="g"))
        hospital.listen(NOON + HOUR)
        hospital.clock.now_ms = NOON + 2 * HOUR
        hospital.run(record("notes", {"note_id": "n", "text": "stable"}, "A", NOON + 2 * HOUR, id="n"))
        hospital.listen(NOON + 3 * HOUR)
        hospital.listen(NOON + 30 * HOUR)
        if lost:
            hospital.lose_redis()
            hospital.send(measured("A", 81, NOON + 30 * HOUR, id="v2"))
            hospital.run()
        else:
            hospital.run(measured("A", 81, NOON + 30 * HOUR, id="v2"))
        hospital.clock.now_ms = NOON + 30 * HOUR
        hospital.run(measured("gone", 81, NOON + 30 * HOUR, id="g2"))
        hospital.listen(NOON + 31 * HOUR)
        return [(one.patient, one.action, one.id) for one in alerts(hospital) if one.condition == "data-silence"]

    assert told(lost=True) == told(lost=False)
    assert len({name for *_, name in told(lost=True)}) == len(told(lost=True)) == 8


def test_what_lay_on_another_partition_is_not_sent_on_again(predictor):
    hospital = Hospital(predictor)
    stray = measured("A", 80, NOON, id="stray")
    hospital.broker.append("vitals", stray.key, stray.value, stray.headers, partition=(PLACE[1] + 1) % 4)
    hospital.run()
    copies = len(hospital.broker.topics()["vitals"])
    hospital.lose_redis()
    hospital.run()
    assert len(hospital.broker.topics()["vitals"]) == copies == 2
    holds(hospital)


def test_what_is_new_waits_until_all_topics_are_made_again(predictor):
    """A vital that is new, scored without the CT that stands in another topic, would end the CT's alert."""
    hospital = Hospital(predictor)
    body = {
        "study_uid": "1", "series_uid": "2", "instance_uid": "3", "modality": "CT", "content_sha256": "0" * 64,
        "encoder": predictor.card.encoder_hashes["scans"], "scan_topic": "scans", "scan_partition": 0, "scan_offset": 0,
        "embedding": base64.b64encode(np.full(predictor.card.width, 0.5, "<f4").tobytes()).decode(),
    }  # fmt: skip
    hospital.run(measured("A", 80, NOON, id="v0")).run(record("encoded-scans", body, "A", NOON + MINUTE, id="ct"))
    told = _told(hospital)
    assert ("A", "lung-nodule", "raised") in told
    hospital.send(measured("A", 81, NOON + 2 * MINUTE, id="new"))
    hospital.lose_redis()
    hospital.run()
    assert _told(hospital) == told
    assert risks(hospital, "A")[-1].modalities["scans"].present
    holds(hospital)


def test_a_failover_that_lost_others_writes_leaves_an_idle_patients_alarm_right(predictor):
    other = next(name for name in map("q{}".format, range(99)) if partition_of(name.encode()) == PLACE[1])
    hospital = Hospital(predictor, clock=At(NOON))
    hospital.run(measured("A", 80, NOON, id="a"))
    synced = copy.deepcopy(vars(hospital.store))
    hospital.run(measured(other, 80, NOON, id="o"))
    vars(hospital.store).update(synced)
    hospital.start()
    hospital.run()
    hospital.listen(NOON + HOUR)
    hospital.clock.now_ms = NOON + HOUR
    hospital.run(measured("A", 81, NOON + HOUR, id="back"))
    hospital.listen(NOON + 2 * HOUR)
    of_a = [one for one in alerts(hospital) if (one.patient, one.condition) == ("A", "data-silence")]
    assert [one.action for one in of_a] == ["raised", "cleared", "raised"]


def test_an_alert_that_was_not_published_with_its_score_is_raised_when_the_event_is_taken_again(predictor, monkeypatch):
    """Worker and Redis died together, when the broker of `risk` had answered and that of `alerts` had not."""
    hospital = _graded(predictor, monkeypatch, "each")
    hospital.run(measured("A", 50, NOON, id="calm"))
    hospital.send(measured("A", 95, NOON + MINUTE, id="wild"))
    whole = hospital.broker.publish
    hospital.broker.publish = lambda records: whole([one for one in records if one.kind == "risk"])
    hospital.step(dies="published")
    hospital.broker.publish = whole
    hospital.lose_redis()
    hospital.run()
    assert {action for *_, action in _told(hospital)} == {"raised"}


@pytest.mark.parametrize("later", ["vitals", "notes"])
def test_what_an_outbox_gave_back_late_is_not_taken_for_the_newest(predictor, monkeypatch, later):
    hospital = _graded(predictor, monkeypatch, "each")
    hospital.run(measured("A", 50, NOON, id="calm"))
    if later == "notes":
        hospital.run(measured("A", 95, NOON + MINUTE, id="wild"))
    calm = hospital.broker.logs["risk", PLACE[1]][-1]
    if later == "notes":  # the patient's first: of the same vitals, with one topic more
        hospital.run(record("notes", {"note_id": "n", "text": "stable"}, "A", NOON + MINUTE, id="n"))
    else:
        hospital.run(measured("A", 95, NOON + MINUTE, id="wild"))
    told = _told(hospital)
    hospital.broker.append("risk", calm.key, calm.value, calm.headers, PLACE[1])
    hospital.lose_redis()
    hospital.run(measured("A", 96, NOON + 2 * MINUTE, id="wild still"))
    assert _told(hospital) == told


def test_what_was_told_but_not_committed_is_decided_again_from_where_it_was(predictor, monkeypatch):
    """Raised, low, cleared, raised again, within one commit of a replay: told twice, it ends alike."""
    hospital = _graded(predictor, monkeypatch, "each")
    hospital.run(measured("A", 50, NOON - HOUR, id="calm"))
    hospital.run(measured("A", 95, NOON, id="wild"))
    later = ((40, 5), (40, 36), (95, 100))
    hospital.send(*(measured("A", value, NOON + minute * MINUTE, id=f"{minute}") for value, minute in later))
    while hospital.step(dies="published"):
        pass
    ids = [one.id for one in alerts(hospital)]
    hospital.lose_redis()
    hospital.run()
    again = [one.id for one in alerts(hospital)][len(ids) :]
    assert again == ids[-len(again) :] and len(again) == 2 * len(ids) // 3
    assert {episode.level for episode in hospital.store.states()["A"].policy.episodes.values()} == {"watch"}


def test_without_a_risk_record_that_says_episodes_are_what_the_alerts_say(predictor, monkeypatch):
    """Of an older worker, or gone by retention."""
    hospital = _graded(predictor, monkeypatch, "each")
    hospital.run(measured("A", 95, NOON, id="wild"), measured("A", 40, NOON + MINUTE, id="low"))
    told = _told(hospital)
    del hospital.broker.logs["risk", PLACE[1]][:]
    hospital.lose_redis()
    hospital.run(measured("A", 96, NOON + 2 * MINUTE, id="wild still"))
    assert _told(hospital) == told
    hospital.run(measured("A", 40, NOON + 3 * MINUTE, id="calm"), measured("A", 40, NOON + 40 * MINUTE, id="still"))
    assert [action for *_, action in _told(hospital)[len(told) :]] == ["cleared"] * len(told)


def test_what_was_refused_as_ahead_is_ahead_in_a_rebuild_too(predictor):
    hospital = Hospital(predictor, limits=Limits(live=True))
    hospital.run(measured("A", 80, NOON, id="now"))
    hospital.run(measured("A", 190, NOON + 2 * HOUR, id="by a fast clock"))
    assert len(hospital.broker.topics()["dead-letters"]) == 1
    hospital.lose_redis()
    assert hospital.store.states()["A"].observations.entries["value"].tolist() == [80.0]
    holds(hospital)


def test_an_alarm_lost_in_a_failover_by_itself_ends_when_data_come_again(predictor):
    """It was raised without an event; of another patient an event was lost."""
    hospital = Hospital(predictor, clock=At(NOON))
    hospital.run(measured("A", 80, NOON, id="a"))
    synced = copy.deepcopy(vars(hospital.store))
    hospital.listen(NOON + HOUR)
    hospital.clock.now_ms = NOON + HOUR
    hospital.run(measured(NEIGHBOUR, 80, NOON + HOUR, id="o"))
    vars(hospital.store).update(synced)
    hospital.start()
    hospital.run(measured("A", 81, NOON + HOUR, id="back"))
    told = [one.action for one in alerts(hospital) if (one.patient, one.condition) == ("A", "data-silence")]
    assert told == ["raised", "cleared"]


def test_an_alarm_judged_as_of_before_the_patients_last_score_is_known_after_a_rebuild(predictor):
    """The worker was away: what had come until the judgement's time had to be taken first."""
    hospital = Hospital(predictor, clock=At(NOON + HOUR))
    hospital.send(measured("A", 80, NOON, id="waited"))
    hospital.listen(NOON + HOUR)
    hospital.clock.now_ms = NOON + HOUR + MINUTE
    hospital.run()
    hospital.listen(NOON + HOUR + 2 * MINUTE)
    hospital.lose_redis()
    hospital.run(measured("A", 81, NOON + HOUR, id="back"))
    told = [one.action for one in alerts(hospital) if one.condition == "data-silence"]
    assert told == ["raised", "cleared"]


def test_a_topic_whose_records_are_gone_makes_no_newer_score_older(predictor, monkeypatch):
    """Redis lost twice, a month apart: the note is gone by the second time, and offsets name vitals alone."""
    hospital = _graded(predictor, monkeypatch, "each")
    hospital.run(measured("A", 50, NOON, id="v"))
    hospital.run(record("notes", {"note_id": "n", "text": "stable"}, "A", NOON, id="n"))
    for log in [log for (kind, _), log in hospital.broker.logs.items() if kind == "notes"]:
        del log[:]
    hospital.lose_redis()
    hospital.run(measured("A", 95, NOON + MINUTE, id="wild"))
    told = _told(hospital)
    assert told
    hospital.lose_redis()
    hospital.run(measured("A", 96, NOON + 2 * MINUTE, id="wild still"))
    assert _told(hospital) == told


def test_what_was_stored_but_never_committed_is_committed_by_the_next_worker(predictor):
    hospital = Hospital(predictor)
    hospital.send(record("notes", {"note_id": "n", "text": "stable"}, "A", NOON, id="n"))
    hospital.step(dies="published")
    hospital.start()
    hospital.run()
    assert hospital.committed["notes", PLACE[1]] == 1
    assert len({one.id for one in risks(hospital, "A")}) == 1


def test_an_alarm_that_alone_was_lost_ends_when_data_come_again(predictor):
    hospital = Hospital(predictor, clock=At(NOON))
    hospital.run(measured("A", 80, NOON, id="a"))
    synced = copy.deepcopy(vars(hospital.store))
    hospital.listen(NOON + HOUR)
    vars(hospital.store).update(synced)
    hospital.start()
    hospital.clock.now_ms = NOON + HOUR
    hospital.run(measured("A", 81, NOON + HOUR, id="back"))
    assert [one.action for one in alerts(hospital) if one.condition == "data-silence"] == ["raised", "cleared"]


@pytest.mark.parametrize("writes", range(1, 8))
def test_a_rebuild_goes_on_where_it_was_cut_short_with_every_episode(predictor, monkeypatch, writes):
    hospital = _graded(predictor, monkeypatch, "each")
    hospital.run(measured("A", 95, NOON, id="wild"))
    for number in range(6):
        hospital.broker.now_ms += HOUR
        hospital.run(measured(NEIGHBOUR, 40, NOON + number * HOUR, id=f"o{number}"))
        hospital.run(
            record(
                "notes", {"note_id": f"{number}", "text": "stable"}, NEIGHBOUR, NOON + number * HOUR, id=f"n{number}"
            )
        )
    told = _told(hospital)
    hospital.store = type(hospital.store)()
    write, done = hospital.store.write, 0

    async def cut_short(some):
        nonlocal done
        done += 1
        if done > writes:
            raise Unavailable("Redis is away")
        await write(some)

    hospital.store.write = cut_short
    with suppress(Unavailable):
        hospital.start()
    hospital.store.write = write
    hospital.start()
    hospital.run(measured("A", 96, NOON + 6 * HOUR, id="wild still"))
    assert _told(hospital) == told
    holds(hospital)
