import csv
import gzip
import itertools
from dataclasses import replace

import numpy as np
import pytest

from models.signals import by_name
from streaming.clock import MINUTE_MS
from streaming.messages import Note
from training.dataset import build
from training.sources import covid, eicu, luna16, physionet2012
from training.sources.eicu_measured import measured
from training.sources.eicu_tables import known_at
from training.sources.eicu_written import DOCUMENTS, written
from training.stays import EPOCH_MS


@pytest.fixture(scope="module")
def stays(data_root):
    return list(eicu.read(data_root / "eicu_demo"))


def test_nothing_entered_after_the_first_day_is_read(data_root):
    root = data_root / "eicu_demo"
    assert max(minute for stay in measured(root).values() for minute in stay) <= 24 * 60
    assert max(minute for stay in written(root).values() for minute, *_ in stay) <= 24 * 60


def test_an_entry_counts_from_when_it_was_entered():
    assert known_at("30", "90") == 90
    assert known_at("90", "30") == 90


def test_the_worksheet_of_the_first_day_is_known_at_its_end_only(stays):
    early = [at_minute(stay, 24 * 60 - 1) for stay in stays[:300]]
    late = [at_minute(stay, 24 * 60) for stay in stays[:300]]
    albumin = by_name["albumin"]  # charted nowhere but on the worksheet
    assert not build(early).last_mask[:, albumin].any()
    assert build(late).last_mask[:, albumin].any()


def at_minute(stay, minute):
    return replace(stay, snapshots=[EPOCH_MS + minute * MINUTE_MS])


def test_documents_grow_under_their_own_id(stays):
    for stay in stays[:50]:
        notes = [event for event in stay.events if isinstance(event.data, Note)]
        assert {event.data.note_id for event in notes} <= set(DOCUMENTS)
        for name in DOCUMENTS:
            texts = [event.data.text for event in notes if event.data.note_id == name]
            assert all(new.endswith(old) for old, new in itertools.pairwise(texts))


def test_a_stay_is_scored_only_at_hours_that_it_reached(stays):
    assert {len(stay.snapshots) for stay in stays} == {1, 2}


def test_how_a_stay_ended_is_in_no_note(stays):
    for stay in stays:
        for event in stay.events:
            if isinstance(event.data, Note):
                assert not {"expired", "morgue", "death"} & set(event.data.text.lower().split())


def test_neighbouring_candidates_stay_together_and_turned_copies_stay_out(data_root):
    stays = list(luna16.read(data_root / "luna16_patches"))
    rows = [int(stay.patient.rsplit("-", 1)[1]) for stay in stays]
    assert max(rows) < 1_000_000
    assert len(set(rows)) == len(rows)
    assert {luna16.split_of(stay.patient) for stay in stays} <= set(luna16.SPLITS)
    blocks = {}
    for row, stay in zip(rows, stays, strict=True):
        blocks.setdefault(stay.group, []).append(row)
    scans = {stay.cluster: stay.group for stay in stays}
    assert all(scans[stay.cluster] == stay.group for stay in stays)  # a scan lies in one block
    assert 800 < len(scans) < 920  # LUNA16 has 888 scans
    spans = sorted((min(held), max(held)) for held in blocks.values())
    assert all(one[1] < other[0] for one, other in itertools.pairwise(spans))


def test_saturation_is_a_percentage_but_for_hannover():
    row = dict.fromkeys(("temperature", "n_temp", "n_spo2", "n_rr", "n_hr", "n_sbp", "leukocyte_count", "n_wbc"), "")
    row |= {"pO2_saturation": "89", "hannover": "False", "age": "", "sex": ""}
    assert covid._measured(row) == [("59408-5", 89.0, "%")]
    assert covid._measured(row | {"hannover": "True"}) == [("2703-7", 89.0, "mm[Hg]")]


def test_only_pictures_that_may_be_given_away_unless_told_otherwise(data_root):
    root = data_root / "covid_chestxray"
    given_away, all_of_them = list(covid.read(root)), list(covid.read(root, open_only=False))
    assert 0 < len(given_away) < len(all_of_them)
    assert np.isfinite(all_of_them[0].pictures[0].pixels).all()


def test_a_note_ends_before_the_first_sentence_that_gives_the_outcome_away():
    told = (
        "Cough for 3 days.  SpO2 89 %! As dyspnoea grew, she was admitted to our intensive care unit. Weaned on day 9."
    )
    assert covid.before_outcome(told) == "Cough for 3 days. SpO2 89 %!"
    assert covid.before_outcome("Just stepped down from HDU. New oxygen requirements.") == ""
    assert covid.before_outcome("Fever. Dry cough") == "Fever. Dry cough"


def test_no_note_says_what_came_after_the_outcome_unless_told_otherwise(data_root):
    def texts(masked):
        stays = covid.read(data_root / "covid_chestxray", open_only=False, masked=masked)
        return [event.data.text for stay in stays for event in stay.events if isinstance(event.data, Note)]

    cut, whole = texts(True), texts(False)
    assert not any(covid._LEAKS.search(text) for text in cut) and any(covid._LEAKS.search(text) for text in whole)
    assert any("admitted to our" in text for text in whole) and not any("admitted to our" in text for text in cut)


def test_who_died_soon_after_hospital_is_taught_as_part_of_a_death_and_counted_as_alive(data_root, tmp_path):
    root = data_root / "physionet2012"
    with (root / "Outcomes-a.csv").open(encoding="utf-8") as lines:
        head, *ends = list(csv.reader(lines))[:400]
    with gzip.open(root / "set-a.long.csv.gz", "rt", encoding="utf-8") as lines:
        rows = list(itertools.islice(lines, 4000))
    with gzip.open(tmp_path / "set-a.long.csv.gz", "wt", encoding="utf-8") as out:
        out.writelines(rows)
    (tmp_path / "Outcomes-a.csv").write_text("\n".join(map(",".join, [head, *ends])))
    mortality = physionet2012.CONDITION
    found = {stay.patient: (stay.labels[mortality], stay.taught[mortality]) for stay in physionet2012.read(tmp_path)}
    survival = {row[0]: int(row[head.index("Survival")]) for row in ends}
    died = {row[0] for row in ends if row[-1] == "1"}
    assert found and set(found.values()) == {(0.0, 0.0), (0.0, physionet2012.SOON), (1.0, 1.0)}
    for patient, (label, taught) in found.items():
        assert label == (patient in died)
        assert (taught == physionet2012.SOON) == (patient not in died and 0 <= survival[patient] <= 90)
