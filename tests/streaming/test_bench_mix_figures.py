"""Groups of answered events, and what the mix adds."""

import pytest

from streaming.bench_mix_figures import Sent, compared, groups


def _vitals(*pairs, marked=False):
    return [Sent("vitals", at, marked, at + ms / 1e3) for at, ms in pairs]


def test_an_event_is_near_a_note_that_was_produced_shortly_before_it():
    sent = [Sent("notes", 1.0, False, 1.1), *_vitals((0.99, 5), (1.01, 30), (1.04, 20), (1.06, 6))]
    found = groups(sent)
    assert found["vitals near a note"]["n"] == 2
    assert found["vitals near a note"]["max"] == pytest.approx(30)
    assert found["vitals far from both"]["n"] == 2
    assert found["vitals while a note is under way"]["n"] == 3
    assert found["notes"]["p50"] == pytest.approx(100)
    assert "vitals near a scan" not in found and "scans" not in found


def test_patients_with_a_note_or_a_scan_are_told_apart():
    found = groups(_vitals((1, 4), (2, 6)) + _vitals((3, 8), marked=True))
    assert found["vitals of patients with a note or a scan"]["n"] == 1
    assert found["vitals of other patients"]["p50"] == pytest.approx(5)
    assert "vitals far from both" not in found


def test_the_rise_is_taken_between_medians_of_rounds():
    def run(load, ms, *others):
        return {"system": "wardwatch", "load": load, "groups": groups([*others, *_vitals((1.01, ms[0]), (2, ms[1]))])}

    note = Sent("notes", 1.0, False, 1.1)
    runs = [run("bare", (2, 2)), run("alone", (4, 4)), run("mix", (20, 4), note), run("mix", (24, 4), note)]
    report = compared([*runs, run("alone", (6, 6))])
    assert report["medians"]["wardwatch"]["alone"]["vitals"]["p50"] == pytest.approx(5)
    assert report["rise_ms"]["wardwatch, mix over alone"]["p50"] == pytest.approx(13 - 5)
    assert report["ratios"]["wardwatch, alone over bare"]["p50"] == pytest.approx(2.5)
    assert report["held_up_ms"]["wardwatch"] == {
        "vitals near a note": {key: pytest.approx(18) for key in ("p50", "p99", "max")}
    }
