"""COVID image data collection: chest radiograph, clinical note, age and sex; critical course.

Only pictures whose own licence lets weights be given away, only those taken before the critical course, and with the
words that give the outcome away masked in the note (46 % of the critical ones mention the ICU or a ventilator).
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.picture import to_square
from models.signals import SIGNALS, by_name
from streaming.clock import HOUR_MS
from training.stays import EPOCH_MS, Picture, Stay, note_event, vitals_event

CONDITION = "critical-course"
OPEN = "cc-by/by-sa/apache"
_LEAKS = re.compile(
    r"\b(icu|intensive care|intubat\w*|ventilat\w*|ecmo|died|death|dead|deceased|expired|critical\w*|arrest|surviv\w*|"
    r"discharg\w*|recover\w*)\b",
    re.IGNORECASE,
)


def mask_leaks(text: str) -> str:
    """The note without the words that name the outcome."""
    return _LEAKS.sub(" ", text)


def read(root: Path, open_only: bool = True) -> Iterator[Stay]:
    """One stay a picture; pictures of one patient share a group."""
    from PIL import Image

    with (root / "index.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for number, row in enumerate(rows):
        if row["critical_course"] == "" or row["already_critical_at_image"] == "1":
            continue
        if (open_only and row["licence_class"] != OPEN) or not row["image_512"]:
            continue
        patient = f"covid-{number}"
        events = []
        static = []
        if row["age"]:
            static.append((SIGNALS[by_name["age"]].loinc, float(row["age"]), "a"))
        if row["sex"] in ("M", "F"):
            static.append((SIGNALS[by_name["male"]].loinc, float(row["sex"] == "M"), "1"))
        if static:
            events.append(vitals_event(patient, 0, EPOCH_MS, static))
        text = mask_leaks(row["clinical_notes"]).strip()
        if text:
            events.append(note_event(patient, 0, EPOCH_MS, text))
        grey = np.asarray(Image.open(root / row["image_512"]).convert("L"), np.float32) / 255.0
        kind = "CT" if row["modality"] == "CT" else "DX"
        pictures = [Picture(EPOCH_MS, to_square(grey), kind)]
        snapshot = [EPOCH_MS + HOUR_MS]
        label = {CONDITION: float(row["critical_course"])}
        yield Stay(patient, f"covid-{row['patient_group']}", "covid", events, label, snapshot, pictures)
