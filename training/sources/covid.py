"""COVID image data collection: chest radiograph, clinical note, the few charted values; critical course.

Only pictures taken before the critical course, and of a note only what stands before the first sentence with a word that
gives the outcome away: case reports tell in order, so that all after it is of later, too. Words that the list does not know
(a treatment, what came "after" it) still tell, and so does a note of which nothing is left. What enters weights that are
given away are only pictures whose own licence allows that (`open_only`); the others may be measured on. Age and sex head
the note, as they head a request for a radiograph, because the vitals' window begins with a measurement, and most patients
here have none.
"""

import csv
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import numpy as np

from models.picture import to_square
from models.signals import SIGNALS, ImplausibleValue, by_name, to_canonical
from streaming.clock import HOUR_MS
from training.stays import EPOCH_MS, Picture, Stay, note_event, vitals_event

CONDITION = "critical-course"
OPEN = "cc-by/by-sa/apache"
_LEAKS = re.compile(
    r"\b(icu|itu|hdu|intensive care|high dependency|\w*intubat\w*|extubat\w*|endotracheal|tracheo\w*|ett?|ventilat\w*|"
    r"ecmo|life support|resuscitat\w*|died|death|dead|deceased|expired|fatal\w*|succumb\w*|passed away|post-?mortem|"
    r"autopsy|lethal|mortality|critical\w*|arrest|surviv\w*|outcome|discharg\w*|recover\w*|cured|favou?rable|"
    r"stepped down|step(?:ping)? down|transferred|ards)\b",
    re.IGNORECASE,
)
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_CHARTED = {
    "temperature": ("temperature", "Cel"),
    "n_temp": ("temperature", "Cel"),
    "n_spo2": ("spo2", "%"),
    "n_rr": ("respiratory_rate", "/min"),
    "n_hr": ("heart_rate", "/min"),
    "n_sbp": ("systolic", "mm[Hg]"),
    "leukocyte_count": ("wbc", "10*9/L"),
    "n_wbc": ("wbc", "10*9/L"),
}


def before_outcome(text: str) -> str:
    """The note's sentences up to the first that holds a word which gives the outcome away."""
    return " ".join(takewhile(lambda sentence: not _LEAKS.search(sentence), _BETWEEN_SENTENCES.split(text)))


def read(root: Path, open_only: bool = True, masked: bool = True) -> Iterator[Stay]:
    """One stay a picture; pictures of one patient share a group. `masked` False leaves the note whole."""
    from PIL import Image

    with (root / "index.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for number, row in enumerate(rows):
        if row["critical_course"] == "" or row["already_critical_at_image"] == "1":
            continue
        if (open_only and row["licence_class"] != OPEN) or not row["image_512"]:
            continue
        patient = f"covid-{number}"
        measured = _measured(row)
        events = [vitals_event(patient, 0, EPOCH_MS, measured)] if measured else []
        note = before_outcome(row["clinical_notes"]) if masked else row["clinical_notes"]
        text = f"{_header(row)} {note}".strip()
        if text:
            events.append(note_event(patient, 0, EPOCH_MS, text))
        grey = np.asarray(Image.open(root / row["image_512"]).convert("L"), np.float32) / 255.0
        kind = "CT" if row["modality"] == "CT" else "DX"
        pictures = [Picture(EPOCH_MS, to_square(grey), kind)]
        snapshot = [EPOCH_MS + HOUR_MS]
        label = {CONDITION: float(row["critical_course"])}
        yield Stay(patient, f"covid-{row['patient_group']}", "covid", events, label, snapshot, pictures)


def _header(row: dict[str, str]) -> str:
    """Age by decade and sex: a word each, which so few patients can still be learned from."""
    decade = f"Aged {int(float(row['age'])) // 10 * 10}s." if row["age"] else ""
    return f"{decade} {({'M': 'Male.', 'F': 'Female.'}).get(row['sex'], '')}".strip()


def _measured(row: dict[str, str]) -> list[tuple[str, float, str]]:
    """What is charted beside the picture or found in its note; the saturation of Hannover's rows is a pressure."""
    found: dict[str, tuple[str, float, str]] = {}
    saturation = ("pao2", "mm[Hg]") if row["hannover"] == "True" else ("spo2", "%")
    texts = [("pO2_saturation", *saturation), *((column, *named) for column, named in _CHARTED.items())]
    for column, name, unit in texts:
        loinc = SIGNALS[by_name[name]].loinc
        try:
            to_canonical(loinc, float(row[column]), unit)
        except (ValueError, ImplausibleValue):
            continue
        found.setdefault(name, (loinc, float(row[column]), unit))
    if row["age"]:
        found["age"] = (SIGNALS[by_name["age"]].loinc, float(row["age"]), "a")
    if row["sex"] in ("M", "F"):
        found["male"] = (SIGNALS[by_name["male"]].loinc, float(row["sex"] == "M"), "1")
    return list(found.values())
