"""eICU Collaborative Research Database Demo 2.0: measurements and documents of the first 24 h; hospital death, and a
critical course: death in the hospital, or a ventilator started after those 24 h.

A stay is scored only at hours that it reached: one that ended before 24 h has no score at 24 h.
"""

from collections.abc import Iterator
from pathlib import Path

from models.signals import SIGNALS, by_name
from streaming.clock import HOUR_MS, MINUTE_MS
from training.sources.eicu_measured import Measured, measured, plausible
from training.sources.eicu_tables import LAST_MINUTE, rows
from training.sources.eicu_written import written
from training.stays import EPOCH_MS, Stay, note_event, vitals_event

HOURS = (6, 24)
DEATH, CRITICAL = "in-hospital-mortality", "critical-course"
_ADULT = 18
_UNIT = {
    "MICU": 1027.0,
    "Cardiac ICU": 1028.0,
    "CCU-CTICU": 1028.0,
    "Med-Surg ICU": 1029.0,
    "SICU": 1030.0,
    "Neuro ICU": 1031.0,
    "CSICU": 1032.0,
    "CTICU": 1032.0,
}
"""Unit types as HSLOC: medical, coronary, mixed, surgical, neurologic, cardiothoracic."""


def read(root: Path) -> Iterator[Stay]:
    """Every adult stay with a known hospital outcome; stays of one patient share a group."""
    vitals, documents, ventilated = measured(root), written(root), _ventilated_later(root)
    for row in rows(root, "patient"):
        age = 91.4 if row["age"].startswith(">") else float(row["age"] or -1)  # "> 89": their mean, after MIMIC-III
        if row["hospitaldischargestatus"] not in ("Alive", "Expired") or age < _ADULT:
            continue
        stay = row["patientunitstayid"]
        events = [vitals_event(stay, 0, EPOCH_MS, _static(row, age))]
        for number, (minute, found) in enumerate(sorted(vitals.get(stay, {}).items()), 1):
            events.append(vitals_event(stay, number, EPOCH_MS + minute * MINUTE_MS, found))
        for number, (minute, document, text) in enumerate(documents.get(stay, [])):
            events.append(note_event(stay, number, EPOCH_MS + minute * MINUTE_MS, text, document))
        events.sort(key=lambda event: event.time_ms)
        died = float(row["hospitaldischargestatus"] == "Expired")
        left = int(row["unitdischargeoffset"])
        snapshots = [EPOCH_MS + hour * HOUR_MS for hour in HOURS if hour * 60 <= left]
        labels = {DEATH: died, CRITICAL: max(died, float(stay in ventilated))}
        if snapshots:
            yield Stay(stay, row["uniquepid"], "eicu", events, labels, snapshots, site=row["unittype"])


def _static(row: dict[str, str], age: float) -> list[Measured]:
    texts = {"age": str(age), "height": row["admissionheight"], "weight": row["admissionweight"]}
    found = [value for name, text in texts.items() if (value := plausible(name, text))]
    if row["gender"] in ("Male", "Female"):
        found.append((SIGNALS[by_name["male"]].loinc, float(row["gender"] == "Male"), "1"))
    if row["unittype"] in _UNIT:
        found.append((SIGNALS[by_name["unit"]].loinc, _UNIT[row["unittype"]], "{hsloc}"))
    before = max(0, -int(row["hospitaladmitoffset"])) / 60
    found.append((SIGNALS[by_name["hours_before_unit"]].loinc, before, "h"))
    return found


def _ventilated_later(root: Path) -> set[str]:
    """Stays with a ventilator started after the first 24 h."""
    starts = ((row["patientunitstayid"], row["ventstartoffset"]) for row in rows(root, "respiratorycare"))
    return {stay for stay, minute in starts if minute and int(minute) > LAST_MINUTE}
