import gzip
import itertools

import pytest

from streaming import attached, mimic
from streaming.errors import ConfigError


def _quiet(line):
    """No progress in tests."""


def test_the_demo_prepares_once_and_reads_in_order(data_root, tmp_path):
    root = data_root / "mimic3_demo"
    prepared = mimic.prepare(root, tmp_path, "charttime", _quiet)
    stamp = prepared.path.stat().st_mtime_ns
    assert mimic.prepare(root, tmp_path, "charttime", _quiet) == prepared
    assert prepared.path.stat().st_mtime_ns == stamp
    assert prepared.left_out["chartevents marked as error"] > 0
    events = list(mimic.read(prepared))
    assert len(events) == prepared.events > 150_000
    assert len({event.id for event in events}) == len(events)
    assert len({event.patient for event in events}) == 100
    assert all(a.virtual_ms <= b.virtual_ms for a, b in itertools.pairwise(events))
    assert all(event.recorded_ms == event.time_ms for event in events[:1000])


def test_arrival_by_storetime_is_never_before_the_measurement(data_root, tmp_path):
    prepared = mimic.prepare(data_root / "mimic3_demo", tmp_path, "storetime", _quiet)
    delays = [event.recorded_ms - event.time_ms for event in mimic.read(prepared)]
    assert min(delays) == 0
    assert sum(delay > 0 for delay in delays) > len(delays) / 2


def test_upper_case_plain_csv_and_notes_are_read(tmp_path):
    root = tmp_path / "mimic"
    root.mkdir()
    tables = {
        "chartevents.csv": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,STORETIME,VALUENUM,ERROR\n"
        "1,7,70,,211,2150-01-01 10:00:00,2150-01-01 10:20:00,80,0\n"
        "2,7,70,,211,2150-01-01 11:00:00,2150-01-01 11:20:00,85,1\n"
        "3,7,70,,223761,2150-01-01 10:30:00,,98.6,\n",
        "LABEVENTS.csv": "ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUENUM\n1,7,,50813,2150-01-01 10:00:00,2.5\n",
        "ADMISSIONS.csv": "ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME\n1,7,70,2150-01-01 09:00:00\n",
        "PATIENTS.csv": "ROW_ID,SUBJECT_ID,GENDER,DOB\n1,7,M,1850-01-01 00:00:00\n",
        "ICUSTAYS.csv": "ROW_ID,SUBJECT_ID,HADM_ID,INTIME\n1,7,70,2150-01-01 09:00:00\n",
    }
    for name, text in tables.items():
        (root / name).write_text(text)
    notes = (
        "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,ISERROR,TEXT\n"
        '1,7,70,2150-01-01,,,Nursing,,"Two lines,\nand ""quotes"""\n'
        "2,7,70,2150-01-01,2150-01-01 10:00:00,,Nursing,1,wrong\n"
    )
    with gzip.open(root / "NOTEEVENTS.csv.gz", "wt") as sink:
        sink.write(notes)
    events = list(mimic.read(mimic.prepare(root, tmp_path / "cache", "charttime", _quiet)))
    assert [event.id.split("/", 1)[1] for event in events] == [
        "admissions/1", "chartevents/1", "labevents/1", "chartevents/3", "noteevents/1",
    ]  # fmt: skip
    assert b'"value":91.4' in events[0].value
    assert b"[degF]" in events[3].value
    assert b'Two lines,\\nand \\"quotes\\"' in events[4].value


def test_a_folder_that_is_no_mimic_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match="CHARTEVENTS"):
        mimic.prepare(tmp_path, tmp_path, "charttime", _quiet)


def test_attached_notes_and_scans_land_within_a_day(data_root):
    notes, scans = attached.read_notes(data_root / "eicu_demo"), attached.read_scans(data_root / "dicom")
    assert len(notes) > 500 and len(scans) == 54
    events = list(attached.attach([], [("a", 1000), ("b", 2000)], notes[:9], scans[:5], seed=3))
    assert len(events) == 14 and {event.patient for event in events} == {"a", "b"}
    assert all(0 < event.virtual_ms < attached.SPREAD_MS for event in events)
    assert events == list(attached.attach([], [("a", 1000), ("b", 2000)], notes[:9], scans[:5], seed=3))
