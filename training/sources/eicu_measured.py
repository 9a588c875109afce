"""eICU: what was measured in the first 24 h, as observations with the time at which they were on the record.

Cuff pressures, respiratory charting, urine, the numbers of the physical examination (GCS, vital signs), and the APACHE
worksheet: the worst values of the first day. That worksheet has no times, so it counts as known at 24 h and no sooner.
Of an entry with two times (taken, entered) the later counts. Owns codes and units; leaves text to `eicu_written.py`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from models.signals import SIGNALS, ImplausibleValue, by_name, to_canonical
from training.sources.eicu_tables import LAST_MINUTE, known_at, rows

Measured = tuple[str, float, str]
"""LOINC, value, UCUM unit."""

_CUFF = {
    "noninvasivesystolic": "systolic",
    "noninvasivediastolic": "diastolic",
    "noninvasivemean": "mean_pressure",
}
_RESPIRATORY = {
    "FiO2": "fio2",
    "FIO2 (%)": "fio2",
    "O2 Percentage": "fio2",
    "Total RR": "respiratory_rate",
    "RR (patient)": "respiratory_rate",
    "SaO2": "spo2",  # charted by respiratory therapists off the monitor; blood gases are in the table `lab`
}
_EXAMINED = {
    "Motor Score": "gcs_motor",
    "Eyes Score": "gcs_eye",
    "Verbal Score": "gcs_verbal",
    "GCS": "gcs",
    "HR Current": "heart_rate",
    "Resp Current": "respiratory_rate",
    "O2 Sat% Current": "spo2",
    "BP (systolic) Current": "systolic",
    "BP (diastolic) Current": "diastolic",
    "FiO2%": "fio2",
}
_APACHE = {
    "wbc": "wbc",
    "temperature": "temperature",
    "respiratoryrate": "respiratory_rate",
    "sodium": "sodium",
    "heartrate": "heart_rate",
    "meanbp": "mean_pressure",
    "ph": "ph",
    "hematocrit": "hematocrit",
    "creatinine": "creatinine",
    "albumin": "albumin",
    "pao2": "pao2",
    "pco2": "paco2",
    "bun": "urea_nitrogen",
    "glucose": "glucose",
    "bilirubin": "bilirubin_total",
    "fio2": "fio2",
    "eyes": "gcs_eye",
    "motor": "gcs_motor",
    "verbal": "gcs_verbal",
    "vent": "ventilated",
}
_URINE = ("urine", "urinary catheter output: indwelling", "foley", "indwelling catheter output")


def measured(root: Path) -> Mapping[str, Mapping[int, list[Measured]]]:
    """Per stay and minute since unit admission, up to 24 h, what became known then."""
    found: dict[str, dict[int, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for source in (_cuff, _respiratory, _urine, _examined, _apache):
        for stay, minute, name, text in source(root):
            value = plausible(name, text)
            if value is not None and minute <= LAST_MINUTE:
                found[stay][minute].append(value)
    return found


def plausible(name: str, text: str) -> Measured | None:
    """The text as a measurement in the signal's own unit; None when it is no number or cannot be true."""
    signal = SIGNALS[by_name[name]]
    try:
        to_canonical(signal.loinc, float(text), signal.ucum)
    except (ValueError, ImplausibleValue):
        return None
    return signal.loinc, float(text), signal.ucum


_Row = tuple[str, int, str, str]  # stay, minute, signal, value


def _cuff(root: Path) -> Iterator[_Row]:
    for row in rows(root, "vitalaperiodic"):
        for column, name in _CUFF.items():
            yield row["patientunitstayid"], int(row["observationoffset"]), name, row[column]


def _respiratory(root: Path) -> Iterator[_Row]:
    for row in rows(root, "respiratorycharting"):
        name = _RESPIRATORY.get(row["respchartvaluelabel"])
        if name:
            minute = known_at(row["respchartoffset"], row["respchartentryoffset"])
            yield row["patientunitstayid"], minute, name, row["respchartvalue"].removesuffix("%")


def _urine(root: Path) -> Iterator[_Row]:
    for row in rows(root, "intakeoutput"):
        label = row["celllabel"].lower()
        if "|Output (ml)|" in row["cellpath"] and label.startswith(_URINE) and "count" not in label:
            minute = known_at(row["intakeoutputoffset"], row["intakeoutputentryoffset"])
            yield row["patientunitstayid"], minute, "urine", row["cellvaluenumeric"]


def _examined(root: Path) -> Iterator[_Row]:
    for row in rows(root, "physicalexam"):
        parts = row["physicalexampath"].split("/")
        name = _EXAMINED.get(parts[-2])
        if name and ("Constitutional" in parts or "GCS" in parts):
            yield row["patientunitstayid"], int(row["physicalexamoffset"]), name, row["physicalexamtext"]


def _apache(root: Path) -> Iterator[_Row]:
    for row in rows(root, "apacheapsvar"):
        for column, name in _APACHE.items():
            if float(row[column] or -1) != -1:
                yield row["patientunitstayid"], LAST_MINUTE, name, row[column]
        if float(row["urine"] or -1) >= 0:  # the day's total, as what an hour brought on the mean
            yield row["patientunitstayid"], LAST_MINUTE, "urine", str(float(row["urine"]) / 24)
