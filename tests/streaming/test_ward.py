"""The ward board's rows: newest score, standing alerts, repeats, what each viewer is sent."""

import orjson
import pytest

from streaming.board import ward as board
from streaming.board.ward import NEWEST_ALERTS, Ward


def _risk(patient="p1", probability=0.2):
    return orjson.dumps({
        "patient": patient, "encounter": None, "as_of": "2150-01-01T12:00:00Z", "news2": 3, "model": "m",
        "scores": [{"condition": "mortality", "probability": probability, "low": 0.1, "high": 0.3}],
        "modalities": {"vitals": {"present": True, "items": 4, "age_s": 60.0}},
        "times": {"decision": "2026-01-01T00:00:00Z"},
    })  # fmt: skip


def _alert(patient="p1", level="watch", revision=1, episode=0, name=None, condition="mortality"):
    return orjson.dumps({
        "id": name or f"{patient}{condition}{episode}{revision}", "patient": patient, "condition": condition,
        "level": level, "revision": revision, "action": "cleared" if level == "none" else "raised", "reason": "why",
        "probability": 0.2, "low": 0.1, "high": 0.3, "missing": ["notes"], "as_of": "2150-01-01T12:00:00Z",
        "episode": {"topic": "vitals", "partition": 0, "offset": episode}, "times": {"decision": "2026-01-01T00:00:00Z"},
    })  # fmt: skip


@pytest.fixture
def ward():
    return Ward()


def test_the_newest_score_counts_and_a_viewer_is_sent_only_what_changed(ward):
    ward.take_risk(b"p1", _risk(probability=0.2), 1)
    ward.take_risk(b"p2", _risk("p2"), 2)
    seen = ward.since(-1)
    assert {row["patient"] for row in seen["rows"]} == {"p1", "p2"}
    ward.take_risk(b"p1", _risk(probability=0.4), 3)
    (row,) = ward.since(seen["version"])["rows"]
    assert row["patient"] == "p1"
    assert row["risk"]["scores"][0]["probability"] == 0.4
    assert ward.since(ward.version) == {"version": ward.version, "rows": [], "gone": [], "alerts": []}


def test_levels_follow_the_episode_and_repeats_change_nothing(ward):
    ward.take_risk(b"p1", _risk(), 1)
    ward.take_alert(_alert(level="watch", revision=1), 2)
    ward.take_alert(_alert(level="critical", revision=2), 3)
    version = ward.version
    ward.take_alert(_alert(level="watch", revision=1), 4)
    assert ward.version == version
    (row,) = ward.since(-1)["rows"]
    assert row["level"] == "critical"
    ward.take_alert(_alert(level="none", revision=3), 5)
    (row,) = ward.since(-1)["rows"]
    assert row["level"] == "none"
    ward.take_alert(_alert(level="warning", revision=1, episode=9), 6)
    assert ward.since(-1)["rows"][0]["level"] == "warning"


def test_silence_is_shown_beside_the_level_not_as_one(ward):
    ward.take_risk(b"p1", _risk(), 1)
    ward.take_alert(_alert(condition="data-silence", level="watch"), 2)
    (row,) = ward.since(-1)["rows"]
    assert row["silent"]
    assert row["level"] == "none"


def test_a_quiet_patient_leaves_unless_an_alert_stands(ward):
    ward.take_risk(b"p1", _risk(), 1)
    ward.take_risk(b"p2", _risk("p2"), 1)
    ward.take_alert(_alert("p2"), 1)
    seen = ward.version
    ward.expire(before_ms=100)
    changes = ward.since(seen)
    assert changes["gone"] == ["p1"]
    assert [row["patient"] for row in ward.since(-1)["rows"]] == ["p2"]


def test_an_alert_of_the_past_beside_a_recent_score_makes_nobody_quiet(ward):
    ward.take_risk(b"p1", _risk(), 1_000)
    ward.take_alert(_alert(level="watch"), 10)
    ward.take_alert(_alert(level="none", revision=2), 20)
    ward.expire(before_ms=500)
    assert [row["patient"] for row in ward.since(-1)["rows"]] == ["p1"]


def test_silence_alone_keeps_nobody_on_the_board(ward):
    for patient in ("left", "ill"):
        ward.take_risk(patient.encode(), _risk(patient), 1)
        ward.take_alert(_alert(patient, condition="data-silence", level="warning"), 2)
    ward.take_alert(_alert("ill"), 2)
    ward.expire(before_ms=100)
    assert [row["patient"] for row in ward.since(-1)["rows"]] == ["ill"]


def test_a_full_board_loses_who_has_no_alert_then_who_is_silent_then_the_least_ill(ward, monkeypatch):
    for at_ms, patient in enumerate(("critical", "watch", "silent", "calm", "heard last")):
        ward.take_risk(patient.encode(), _risk(patient), at_ms)
    ward.take_alert(_alert("critical", level="critical"), 0)
    ward.take_alert(_alert("watch", level="watch"), 0)
    ward.take_alert(_alert("silent", condition="data-silence", level="warning"), 0)
    for left, leaving in enumerate(("calm", "heard last", "silent", "watch")):
        monkeypatch.setattr(board, "MAX_PATIENTS", 4 - left)
        seen = ward.version
        ward.expire(before_ms=0)
        assert ward.since(seen)["gone"] == [leaving]
    assert [row["level"] for row in ward.since(-1)["rows"]] == ["critical"]


def test_the_newest_alerts_are_the_newest_by_time_however_partitions_interleave(ward):
    for at_ms in (*range(1_000, 1_030), *range(100, 180), *range(1_030, 1_040)):
        ward.take_alert(_alert(f"p{at_ms}"), at_ms)
    shown = [alert["at"] for alert in ward.since(-1)["alerts"]]
    assert shown == [*range(180 - NEWEST_ALERTS + 40, 180), *range(1_000, 1_040)]
    seen = ward.version
    ward.take_alert(_alert("late"), 50)
    assert ward.since(seen)["alerts"] == []


def test_a_merged_patient_says_where_to_and_the_other_whose_events_it_has(ward):
    old, kept = orjson.loads(_risk("p1")), orjson.loads(_risk("p2"))
    ward.take_alert(_alert("p1"), 1)
    ward.take_alert(_alert("p1", level="none", revision=2), 2)
    ward.take_risk(b"p1", orjson.dumps(old | {"scores": [], "merged_into": "p2"}), 2)
    ward.take_risk(b"p2", orjson.dumps(kept | {"merged_from": ["p1"]}), 3)
    rows = {row["patient"]: row for row in ward.since(-1)["rows"]}
    assert (rows["p1"]["risk"]["merged_into"], rows["p1"]["risk"]["scores"], rows["p1"]["level"]) == ("p2", [], "none")
    assert (rows["p2"]["risk"]["merged_from"], rows["p2"]["risk"]["merged_into"]) == (["p1"], None)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'{"id":1}', None])
def test_what_cannot_be_read_is_counted_and_nothing_more(ward, value):
    ward.take_alert(value, 1)
    ward.take_risk(b"p1", value, 2)
    assert ward.since(-1)["rows"] == []
    assert ward.unreadable >= 1
