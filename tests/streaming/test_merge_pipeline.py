"""Merges through the whole sequence: who is scored, what pages, deaths in the middle, a lost store, the offline check."""

from collections import defaultdict

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.envelope import Limits
from streaming.messages import Alert, Risk
from streaming.records import parse_record
from tests.helpers import HOUR, MINUTE, NOON, SPO2
from tests.streaming.test_merge import any_records, check, measured, merged, record, unmerged
from tests.streaming.ward import Hospital

STORY = (
    measured("A", 100, id="a1"),
    measured("B", 97, NOON + 1 * MINUTE, SPO2, id="b1"),
    merged("A", "B", NOON + 2 * MINUTE, id="merge"),
    measured("A", 140, NOON + 3 * MINUTE, id="a2"),
    unmerged("A", "B", NOON + 4 * MINUTE, id="undo"),
    measured("A", 101, NOON + 5 * MINUTE, id="a3"),
    measured("B", 96, NOON + 6 * MINUTE, SPO2, id="b2"),
)


def risks(hospital, patient):
    return [one for one in map(_risk, hospital.broker.topics()["risk"]) if one.patient == patient]


def _risk(one):
    return Risk.model_validate_json(one.value)


def alerts(hospital):
    return [Alert.model_validate_json(one.value) for one in hospital.broker.topics()["alerts"]]


def holds(hospital):
    verdict = hospital.verdict()
    assert verdict.violations == []
    return verdict


@pytest.fixture
def hospital(predictor):
    return Hospital(predictor)


def _told(hospital, patient):
    return [(one.trigger_id, bool(one.scores), one.merged_into, one.merged_from) for one in risks(hospital, patient)]


def test_while_merged_only_the_one_who_goes_on_is_scored_with_both_histories(hospital):
    for one in STORY:
        hospital.run(one)
    assert _told(hospital, "A") == [
        ("a1", True, None, ()), ("merge", False, "B", ()), ("a2", False, "B", ()), ("undo", True, None, ()),
        ("a3", True, None, ()),
    ]  # fmt: skip
    b = risks(hospital, "B")
    assert [one.merged_from for one in b] == [(), ("A",), ("A",), (), ()]
    assert [one.modalities["vitals"].items for one in b] == [1, 2, 3, 1, 2]
    assert b[2].trigger_id == "a2" and b[2].trigger.topic == "forwarded"
    assert b[2].scores != b[1].scores
    assert holds(hospital).counts["merged"] == 2


def test_no_page_is_lost_and_the_silenced_ones_episode_ends_with_the_reason(hospital):
    hospital.run(*STORY[:1])
    hospital.run(*STORY[2:3])
    a, b = ([one for one in alerts(hospital) if one.patient == name] for name in "AB")
    assert [one.action for one in a[::2]] == ["raised"] * (len(a) // 2) or {one.action for one in a} == {
        "raised",
        "cleared",
    }
    cleared = [one for one in a if one.action == "cleared"]
    assert cleared and all("merged" in one.reason and one.probability is None for one in cleared)
    assert {one.condition for one in cleared} == {one.condition for one in b if one.action == "raised"}
    assert all(one.merged_from == ("A",) and one.episode.topic == "corrections" for one in b)
    hospital.run(*STORY[4:5])
    again = [one for one in alerts(hospital) if one.patient == "A"][len(a) :]
    assert {one.action for one in again} == {"raised"}
    holds(hospital)


@pytest.mark.parametrize("dies", ["before", "stored", "published"])
@pytest.mark.parametrize("place", range(len(STORY)))
@pytest.mark.parametrize("depth", [0, 1])
def test_a_death_anywhere_gives_the_same_states_and_alerts(predictor, dies, place, depth):
    """At the event itself (depth 0), and at what it made others take (depth 1)."""
    calm, disturbed = Hospital(predictor), Hospital(predictor)
    for number, one in enumerate(STORY):
        calm.run(one)
        disturbed.send(one)
        if number == place:
            for _ in range(depth):
                disturbed.step()
            disturbed.step(dies)
            disturbed.start()
        disturbed.run()
    assert [one.history() for one in _states(disturbed)] == [one.history() for one in _states(calm)]
    assert {one.id for one in alerts(disturbed)} == {one.id for one in alerts(calm)}
    assert [one.policy for one in _states(disturbed)] == [one.policy for one in _states(calm)]
    holds(disturbed)


def _states(hospital):
    return [state for _, state in sorted(hospital.store.states().items())]


@pytest.mark.parametrize("kept", range(len(STORY) + 1))
def test_a_lost_store_is_rebuilt_silently_merges_included(hospital, kept):
    for one in STORY[:kept]:
        hospital.run(one)
    before = [one.history() for one in _states(hospital)]
    said = {kind: len(log) for kind, log in hospital.broker.logs.items()}
    hospital.lose_redis()
    hospital.run()
    assert [one.history() for one in _states(hospital)] == before
    assert {kind: len(log) for kind, log in hospital.broker.logs.items()} == said
    for one in STORY[kept:]:
        hospital.run(one)
    holds(hospital)


def test_a_merge_that_is_new_while_older_events_are_rebuilt_loses_none_of_them(hospital):
    """Redis lost, and the merge was never taken: it is read before the rebuilt measurements this time."""
    hospital.run(measured("A", 100, id="a1"), measured("A", 97, NOON + 1, SPO2, id="a2"))
    hospital.lose_redis()
    hospital.send(merged("A", "B", NOON + 2))
    at = dict(hospital.at)
    hospital.at = {
        place: len(hospital.broker.logs[place]) if place[0] == "vitals" else start for place, start in at.items()
    }
    hospital.step()
    hospital.at |= {place: start for place, start in at.items() if place[0] == "vitals"}
    hospital.run()
    assert hospital.store.states()["B"].observations.count == 2
    assert not any("history" in line for line in hospital.verdict().violations)


def test_forwarding_twice_pages_nothing_and_changes_nothing(hospital):
    for one in STORY[:4]:
        hospital.run(one)
    said, state = alerts(hospital), hospital.store.states()["B"]
    for log in [log for (kind, _), log in hospital.broker.logs.items() if kind == "forwarded"]:
        for one in list(log):
            hospital.run(one)
    assert alerts(hospital) == said
    assert hospital.store.states()["B"].history() == state.history()
    assert not any(one.may_page for one in risks(hospital, "B")[3:])
    holds(hospital)


def test_a_part_of_a_merged_patients_history_pages_nobody(hospital, monkeypatch):
    """What A was alerted for, and is well again, is told first: without the rest it would look like news."""
    monkeypatch.setattr("streaming.forwarding.PIECE_MEASUREMENTS", 15)
    for hours in range(5):
        hospital.run(
            *(measured("A", 60 + hours, NOON + hours * HOUR + n * MINUTE, id=f"{hours}/{n}") for n in range(15))
        )
    hospital.run(merged("A", "B", NOON + 5 * HOUR))
    b = risks(hospital, "B")
    assert [one.modalities["vitals"].items for one in b] == [15, 30, 45, 60, 75]
    assert [one.may_page for one in b] == [False] * 4 + [True]
    assert {one.trigger.offset for one in alerts(hospital) if one.patient == "B"} == {b[-1].trigger.offset}
    holds(hospital)


@pytest.mark.parametrize("number", range(8))
def test_an_undo_of_the_same_millisecond_counts_whatever_its_id(hospital, number):
    hospital.run(measured("A", 100), measured("B", 60), merged("A", "B", NOON + 1, id=f"m{number}"))
    hospital.run(unmerged("A", "B", NOON + 1, id=f"u{number}"))
    assert [risks(hospital, name)[-1].merged_from for name in "AB"] == [(), ()]
    assert risks(hospital, "A")[-1].merged_into is None
    holds(hospital)


def test_the_undo_of_a_merge_with_a_patient_of_another_century_holds_no_page_back(hospital):
    """MIMIC-III shifts each patient to other years: B was scored, and cleared, in A's time."""
    century = 100 * 365 * 24 * HOUR
    hospital.run(measured("B", 60, NOON), measured("A", 100, NOON + century), merged("A", "B", NOON + century))
    hospital.run(unmerged("A", "B", NOON + century + 1))
    hospital.run(measured("B", 61, NOON + 60_000, id="b2"))
    last = risks(hospital, "B")[-1]
    assert last.trigger_id == "b2" and last.may_page and last.modalities["vitals"].age_s == 0.0
    holds(hospital)


def test_a_merged_patients_silence_is_no_alarm(hospital):
    hospital.run(measured("A", 100), measured("B", 60), merged("A", "B"))
    hospital.listen(NOON + 2 * HOUR)
    assert [one.patient for one in alerts(hospital) if one.condition == "data-silence"] == ["B"]


@pytest.mark.parametrize("score", ["each", "coalesce"])
def test_chains_and_cycles_hold_before_the_offline_check(predictor, score):
    hospital = Hospital(predictor, score)
    hospital.run(
        *(measured(name, 60 + place, NOON + place * MINUTE) for place, name in enumerate("ABC")),
        record("notes", {"note_id": "n", "text": "of A"}, "A", NOON + MINUTE),
        merged("A", "B", NOON + 2 * MINUTE), merged("B", "C", NOON + 3 * MINUTE), measured("A", 90, NOON + 4 * MINUTE),
    )  # fmt: skip
    assert (risks(hospital, "C")[-1].merged_from, risks(hospital, "C")[-1].modalities["vitals"].items) == (
        ("A", "B"),
        4,
    )
    holds(hospital)
    hospital.run(merged("C", "A", NOON + 5 * MINUTE), measured("B", 91, NOON + 6 * MINUTE))
    assert [risks(hospital, name)[-1].merged_into for name in "ABC"] == ["B", "C", None]
    holds(hospital)
    hospital.run(unmerged("B", "C", NOON + 7 * MINUTE), measured("C", 92, NOON + 8 * MINUTE))
    assert [risks(hospital, name)[-1].merged_into for name in "ABC"] == ["B", None, "A"]
    holds(hospital)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(any_records(), st.sampled_from([None, None, "step", "before", "stored", "published"])), max_size=14
    ),
    st.sampled_from(["each", "coalesce"]),
)
def test_any_merges_and_deaths_come_to_what_is_specified_and_hold_before_the_offline_check(predictor, story, score):
    hospital = Hospital(predictor, score)
    for one, dies in story:
        hospital.send(one)
        if dies is not None:
            hospital.step(dies)
        if dies not in (None, "step"):
            hospital.start()
    hospital.run()
    own = defaultdict(list)
    for kind, records in hospital.broker.topics().items():
        for one in records if kind in ("vitals", "notes", "corrections", "encoded-scans") else ():
            own[one.key.decode()].append(parse_record(kind, one, Limits()))
    check(hospital.store.states(), own)
    holds(hospital)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda log: log.pop(), "not whole"),
        (lambda log: setattr(log[-1], "value", log[-1].value.replace(b"140", b"141")), "other bytes"),
    ],
)
def test_the_offline_check_finds_what_was_not_sent_on_or_otherwise(hospital, damage, words):
    for one in STORY[:3]:
        hospital.run(one)
    hospital.send(STORY[3])
    hospital.step()
    (log,) = [log for (kind, _), log in hospital.broker.logs.items() if kind == "forwarded" and log]
    damage(log)
    hospital.run()
    assert any(words in line for line in hospital.verdict().violations)


def test_the_offline_check_finds_a_score_of_a_merged_patient(hospital):
    hospital.run(*STORY[:1])
    hospital.run(*STORY[2:3])
    log = next(log for (kind, _), log in hospital.broker.logs.items() if kind == "risk" and log and log[0].key == b"A")
    first, last = orjson.loads(log[0].value), orjson.loads(log[1].value)
    log[1].value = orjson.dumps(last | {"scores": first["scores"], "merged_into": None})
    violations = hospital.verdict().violations
    assert any("scored though merged" in line for line in violations)
    assert any("other merges" in line for line in violations)
