"""eICU Collaborative Research Database Demo 2.0: cuff pressures and notes of the first 24 h; hospital death, and a
critical course: death in the hospital, or a ventilator started after those 24 h."""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from models.signals import SIGNALS, ImplausibleValue, by_name, to_canonical
from streaming.clock import HOUR_MS, MINUTE_MS
from training.stays import EPOCH_MS, Stay, note_event, vitals_event

HOURS = (6, 24)
DEATH, CRITICAL = "in-hospital-mortality", "critical-course"
_PRESSURES = {
    "noninvasivesystolic": "systolic",
    "noninvasivediastolic": "diastolic",
    "noninvasivemean": "mean_pressure",
}
_LAST_MINUTE = 24 * 60


def read(root: Path) -> Iterator[Stay]:
    """Every adult stay with a known hospital outcome; stays of one patient share a group."""
    vitals, notes, ventilated = _vitals(root), _notes(root), _ventilated_later(root)
    for row in _rows(root / "patient.csv.gz"):
        if row["hospitaldischargestatus"] not in ("Alive", "Expired"):
            continue
        stay = row["patientunitstayid"]
        events = []
        static = _static(row)
        if static:
            events.append(vitals_event(stay, 0, EPOCH_MS, static))
        for number, (minute, measured) in enumerate(sorted(vitals.get(stay, {}).items()), 1):
            events.append(vitals_event(stay, number, EPOCH_MS + minute * MINUTE_MS, measured))
        for number, (minute, lines) in enumerate(sorted(notes.get(stay, {}).items())):
            events.append(note_event(stay, number, EPOCH_MS + minute * MINUTE_MS, ". ".join(lines)))
        events.sort(key=lambda event: event.time_ms)
        died = float(row["hospitaldischargestatus"] == "Expired")
        snapshots = [EPOCH_MS + hour * HOUR_MS for hour in HOURS]
        labels = {DEATH: died, CRITICAL: max(died, float(stay in ventilated))}
        yield Stay(stay, row["uniquepid"], "eicu", events, labels, snapshots)


def _static(row: dict[str, str]) -> list[tuple[str, float, str]]:
    found = []
    age = "91.4" if row["age"].startswith(">") else row["age"]
    for name, text in (("age", age), ("height", row["admissionheight"]), ("weight", row["admissionweight"])):
        signal = SIGNALS[by_name[name]]
        try:
            to_canonical(signal.loinc, float(text), signal.ucum)
        except (ValueError, ImplausibleValue):
            continue
        found.append((signal.loinc, float(text), signal.ucum))
    if row["gender"] in ("Male", "Female"):
        found.append((SIGNALS[by_name["male"]].loinc, float(row["gender"] == "Male"), "1"))
    return found


def _vitals(root: Path) -> dict[str, dict[int, list[tuple[str, float, str]]]]:
    found: dict[str, dict[int, list[tuple[str, float, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in _rows(root / "vitalaperiodic.csv.gz"):
        minute = int(row["observationoffset"])
        if not 0 <= minute <= _LAST_MINUTE:
            continue
        for column, name in _PRESSURES.items():
            signal = SIGNALS[by_name[name]]
            try:
                to_canonical(signal.loinc, float(row[column]), signal.ucum)
            except (ValueError, ImplausibleValue):
                continue
            found[row["patientunitstayid"]][minute].append((signal.loinc, float(row[column]), signal.ucum))
    return found


def _ventilated_later(root: Path) -> set[str]:
    """Stays with a ventilator started after the first 24 h."""
    starts = ((row["patientunitstayid"], row["ventstartoffset"]) for row in _rows(root / "respiratorycare.csv.gz"))
    return {stay for stay, minute in starts if minute and int(minute) > _LAST_MINUTE}


def _notes(root: Path) -> dict[str, dict[int, list[str]]]:
    """Per stay and minute the note's lines: the last part of the path, and what was chosen or written there."""
    found: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, minute_column, path_column, text_column in (
        ("note.csv.gz", "noteoffset", "notepath", "notetext"),
        ("physicalexam.csv.gz", "physicalexamoffset", "physicalexampath", "physicalexamtext"),
    ):
        for row in _rows(root / name):
            minute = int(row[minute_column])
            if 0 <= minute <= _LAST_MINUTE and row[text_column]:
                line = f"{row[path_column].split('/')[-2]} {row[text_column]}"
                found[row["patientunitstayid"]][minute].append(line)
    return found


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)
