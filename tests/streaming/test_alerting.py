import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.alerting import (
    LATE_AFTER_MS,
    SILENCE,
    Episode,
    Policy,
    PolicyState,
    Scored,
    decide,
    heard,
    is_timely,
    merged,
    silence,
)
from streaming.clock import MINUTE_MS
from tests.helpers import HOUR, NOON, event, vitals

POLICY = Policy({"c": {"watch": 0.2, "warning": 0.4, "critical": 0.6}})


def _scored(probability, minute=0, offset=0, may_page=True):
    return Scored("site", "p", ("vitals", 0, offset), minute * MINUTE_MS, may_page, {"c": probability})


def _play(*steps):
    state, seen = PolicyState(), []
    for offset, (probability, minute, *page) in enumerate(steps):
        state, decisions = decide(POLICY, state, _scored(probability, minute, offset, *page))
        seen += [(d.action, d.level) for d in decisions]
    return seen


def test_an_episode_rises_escalates_and_clears():
    assert _play((0.25, 0), (0.45, 5), (0.65, 6), (0.1, 10), (0.1, 41)) == [
        ("raised", "watch"),
        ("escalated", "warning"),
        ("escalated", "critical"),
        ("cleared", "none"),
    ]


def test_hysteresis_counts_event_time_not_scores():
    many = [(0.1, 10 + i / 100) for i in range(500)]
    assert _play((0.25, 0), *many) == [("raised", "watch")]
    assert _play((0.25, 0), (0.1, 10), (0.1, 40)) == [("raised", "watch"), ("cleared", "none")]


def test_a_score_between_the_thresholds_keeps_the_episode():
    assert _play((0.25, 0), (0.1, 10), (0.17, 30), (0.1, 41), (0.1, 70)) == [("raised", "watch")]


def test_after_clearing_only_the_critical_level_raises_at_once():
    cleared = ((0.25, 0), (0.1, 1), (0.1, 31))
    assert _play(*cleared, (0.45, 40))[-1] == ("cleared", "none")
    assert _play(*cleared, (0.65, 40))[-1] == ("raised", "critical")
    assert _play(*cleared, (0.45, 92))[-1] == ("raised", "warning")


def test_late_data_never_pages_nor_clears():
    assert _play((0.9, 0, False)) == []
    assert _play((0.25, 0), (0.9, 5, False), (0.1, 10, False), (0.1, 60, False)) == [("raised", "watch")]


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 60), st.booleans()), max_size=40))
def test_decisions_are_a_function_of_the_scores_and_ids_never_repeat(steps):
    minute, played = 0, []
    for probability, gap, page in steps:
        minute += gap
        played.append((probability, minute, page))
    state, ids, level = PolicyState(), [], 0
    for offset, step in enumerate(played):
        before = state
        state, decisions = decide(POLICY, state, _scored(step[0], step[1], offset, step[2]))
        assert decide(POLICY, before, _scored(step[0], step[1], offset, step[2])) == (state, decisions)
        assert PolicyState.from_json(state.to_json()) == state
        for decision in decisions:
            assert step[2]
            rank = ["none", "watch", "warning", "critical"].index(decision.level)
            assert decision.action == ("cleared" if rank == 0 else "raised" if level == 0 else "escalated")
            assert rank == 0 or rank > level
            level = rank
            ids.append(decision.alert_id)
    assert len(ids) == len(set(ids))


def test_the_id_holds_no_clock_counter_or_score():
    _, (one,) = decide(POLICY, PolicyState(), _scored(0.25, 3, offset=9))
    _, (other,) = decide(POLICY, PolicyState(), _scored(0.31, 700, offset=9))
    assert one.alert_id == other.alert_id


@pytest.mark.parametrize("probability", [math.nan, -0.1, 1.1, math.inf])
def test_what_is_no_probability_is_refused(probability):
    with pytest.raises(ValueError, match="not a number"):
        decide(POLICY, PolicyState(), _scored(probability))


def test_silence_is_raised_once_and_cleared_by_data():
    state, decision = silence(PolicyState(), "s", "p", ("vitals", 1, 5), HOUR, HOUR)
    assert (decision.condition, decision.action) == (SILENCE, "raised")
    assert silence(state, "s", "p", ("vitals", 1, 5), 2 * HOUR, HOUR) == (state, None)
    state, cleared = heard(state, "s", "p", ("notes", 1, 8), "data came")
    assert cleared.action == "cleared" and cleared.alert_id != decision.alert_id and cleared.episode == decision.episode
    assert heard(state, "s", "p", ("notes", 1, 9), "data came") == (state, None)


def test_no_two_silences_share_an_alert_whatever_ended_the_first():
    """The newest vitals event is the same before both."""
    state, told = PolicyState(), []
    for ended_by in range(3):
        state, raised = silence(state, "s", "p", ("vitals", 1, 5), HOUR, HOUR)
        state, cleared = heard(state, "s", "p", ("notes", 1, ended_by), "data came")
        told += [raised.alert_id, cleared.alert_id]
    assert len(set(told)) == 6


def test_a_merge_ends_episodes_with_its_reason_and_no_refractory_time_follows():
    state, (raised,) = decide(POLICY, PolicyState(), _scored(0.25, 0))
    state, (ended,) = merged(state, "site", "p")
    assert (ended.action, ended.level, ended.revision, ended.probability) == ("cleared", "none", 2, None)
    assert "merged" in ended.reason and ended.alert_id != raised.alert_id
    assert merged(state, "site", "p") == (state, ())
    _, (again,) = decide(POLICY, state, _scored(0.25, 1, offset=9))
    assert again.action == "raised"


def test_times_ahead_of_the_patients_newest_hold_nothing_back():
    """The undo of a merge takes the newest event time back to the patient's own."""
    cleared = PolicyState({"c": Episode("none", ("vitals", 0, 1), 2, None, NOON)})
    _, (raised,) = decide(POLICY, cleared, _scored(0.25))
    assert raised.action == "raised"
    falling = PolicyState({"c": Episode("watch", ("vitals", 0, 1), 1, NOON, None)})
    falling, none = decide(POLICY, falling, _scored(0.1, 0))
    assert not none
    _, (ended,) = decide(POLICY, falling, _scored(0.1, 30))
    assert ended.action == "cleared"


def test_lateness_depends_on_the_kind_of_data():
    lactate = vitals(code="2524-7", unit="mmol/L", value=3)
    assert is_timely(vitals(), NOON + LATE_AFTER_MS["vital"])
    assert not is_timely(vitals(), NOON + LATE_AFTER_MS["vital"] + 1)
    assert is_timely(lactate, NOON + 5 * HOUR)
    assert not is_timely(lactate, NOON + 7 * HOUR)
    assert is_timely(event("notes", {"note_id": "n", "text": "t"}), NOON + 20 * HOUR)


def _abstaining(probability, minute=0, offset=0):
    return Scored(
        "site", "p", ("vitals", 0, offset), minute * MINUTE_MS, True, {"c": probability}, abstains=frozenset({"c"})
    )


def test_a_score_that_cannot_tell_neither_raises_nor_escalates():
    state, decisions = decide(POLICY, PolicyState(), _abstaining(0.9))
    assert not decisions
    state, raised = decide(POLICY, state, _scored(0.25, 1, 1))
    assert [d.action for d in raised] == ["raised"]
    assert decide(POLICY, state, _abstaining(0.9, 2, 2)) == (state, ())


def test_a_standing_level_stays_and_clears_by_the_probability_also_when_the_score_cannot_tell():
    state, _ = decide(POLICY, PolicyState(), _scored(0.25))
    state, none = decide(POLICY, state, _abstaining(0.25, 100, 1))
    state, also_none = decide(POLICY, state, _abstaining(0.1, 101, 2))
    assert not none and not also_none
    state, (cleared,) = decide(POLICY, state, _abstaining(0.1, 140, 3))
    assert cleared.action == "cleared" and cleared.reason.endswith("cannot tell")


def test_an_episode_ends_when_there_is_nothing_left_to_ask_it_of():
    state, _ = decide(POLICY, PolicyState(), _scored(0.25))
    gone = replace(_scored(0.25, 1, 1), probabilities={})
    state, (cleared,) = decide(POLICY, state, gone)
    assert (cleared.action, cleared.condition, cleared.probability) == ("cleared", "c", None)
    assert "not asked" in cleared.reason
    assert decide(POLICY, state, gone) == (state, ())
    _, (again,) = decide(POLICY, state, _scored(0.25, 2, 2))
    assert again.action == "raised"  # nothing had got better: no refractory time
