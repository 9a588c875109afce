"""Full MIMIC-III's loaders on the demo's tables and on tables made by hand. The demo's patients all die: no score."""

import gzip
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from streaming.clock import HOUR_MS
from training.dataset import build
from training.sources import mimic3
from training.sources.phenotypes import PHENOTYPES, phenotypes


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("WARDWATCH_DATA_DIR", str(tmp_path / "cache"))


def _write(root, name, text):
    with gzip.open(root / f"{name}.csv.gz", "wt") as sink:
        sink.write(text)


@pytest.fixture
def by_hand(tmp_path, cache):
    """Patient 7: one stay of 60 h, dies at its end. Patient 8: two ICU stays in one admission. Patient 9: a child."""
    root = tmp_path / "mimic"
    root.mkdir()
    _write(root, "CHARTEVENTS",
           "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,STORETIME,VALUENUM,ERROR\n"
           "1,7,70,,211,2150-01-01 10:00:00,2150-01-01 10:20:00,80,0\n"
           "2,7,70,,211,2150-01-02 09:30:00,2150-01-03 12:00:00,150,0\n"
           "3,7,71,,211,2149-01-01 10:00:00,2149-01-01 10:00:00,99,0\n")  # fmt: skip
    _write(
        root, "LABEVENTS", "ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUENUM\n1,7,,50813,2150-01-01 10:00:00,2.5\n"
    )
    _write(root, "ADMISSIONS",
           "ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME,DEATHTIME\n"
           "1,7,70,2150-01-01 08:00:00,2150-01-03 21:00:00\n2,8,80,2150-01-01 08:00:00,\n"
           "3,9,90,2150-01-01 08:00:00,\n")  # fmt: skip
    _write(root, "PATIENTS",
           "ROW_ID,SUBJECT_ID,GENDER,DOB\n1,7,M,2080-01-01 00:00:00\n2,8,F,2080-01-01 00:00:00\n"
           "3,9,F,2140-01-01 00:00:00\n")  # fmt: skip
    stays = (
        "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,FIRST_CAREUNIT,LAST_CAREUNIT,FIRST_WARDID,LAST_WARDID,INTIME,OUTTIME\n"
    )
    for row, (subject, admission) in enumerate([(7, 70), (8, 80), (8, 80), (9, 90)]):
        stays += f"{row},{subject},{admission},{row},MICU,MICU,1,1,2150-01-01 09:00:00,2150-01-03 21:00:00\n"
    _write(root, "ICUSTAYS", stays)
    _write(root, "DIAGNOSES_ICD", "ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE\n1,7,70,1,99592\n2,7,70,2,5849\n")
    _write(root, "NOTEEVENTS",
           "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,ISERROR,TEXT\n"
           "1,7,70,2150-01-01,2150-01-01 11:00:00,,Nursing,,stable\n"
           "2,7,70,2150-01-05,,,Discharge summary,,died\n")  # fmt: skip
    return root


def test_each_task_of_a_stay_has_its_hours_and_labels(by_hand):
    mortality, decompensation, phenotype = mimic3.read(by_hand)
    assert mortality.labels == {"in-hospital-mortality": 1.0}
    assert [(at - mortality.snapshots[0]) // HOUR_MS + 6 for at in mortality.snapshots] == [6, 12, 24, 36, 48]
    hourly = decompensation.hourly["decompensation-24h"]
    assert len(hourly) == len(decompensation.snapshots) == 57  # hours 4 to 60
    assert hourly == [0.0] * 32 + [1.0] * 25  # death at hour 60: within 24 h from hour 36 on
    assert {name for name, value in phenotype.labels.items() if value} == {
        "phenotype-septicemia", "phenotype-acute-renal-failure",
    }  # fmt: skip
    assert len(phenotype.labels) == 25


def test_a_measurement_counts_from_when_it_was_stored(by_hand):
    mortality = next(mimic3.read(by_hand))
    examples = build([mortality], mimic3.CONDITIONS)
    heart_rate = examples.last[:, 0]
    assert heart_rate.tolist() == [80, 80, 80, 80, 80]  # 150 was measured at hour 24.5, stored at hour 51
    assert not any("died" in text for text in examples.texts)


def test_events_of_other_admissions_stay_out_and_notes_come_in(by_hand):
    phenotype = list(mimic3.read(by_hand))[-1]
    assert Counter(event.kind for event in phenotype.events) == {"vitals": 4, "notes": 1}
    assert all(a.recorded_ms <= b.recorded_ms for a, b in pairwise(phenotype.events))


def test_the_demo_is_read_whole(data_root, cache):
    root = data_root / "mimic3_demo"
    stays = mimic3.cohort(root)
    assert 60 < len(stays) < 136 and len({stay.icustay for stay in stays}) == len(stays)
    found = list(mimic3.read(root))
    sources = Counter(stay.source for stay in found)
    assert sources["mimic3-phenotypes"] == len(stays) >= sources["mimic3"]
    assert all(stay.events for stay in found)
    carried = np.array([[stay.labels[f"phenotype-{n}"] for n in PHENOTYPES] for stay in found if "phen" in stay.source])
    assert (carried.sum(0) > 0).sum() >= 22  # nearly every phenotype is met among a hundred patients


def test_phenotypes_by_hand():
    assert phenotypes(["41071", "4019", "25000"]) == {
        "acute-myocardial-infarction", "essential-hypertension", "diabetes-mellitus-without-complication",
    }  # fmt: skip
    assert phenotypes(["2766"]) == {"fluid-and-electrolyte-disorders"}
    assert phenotypes(["27661"]) == {"complications-of-care"}
    assert phenotypes(["V290", ""]) == frozenset()
    assert len(PHENOTYPES) == 25
