"""PhysioNet/CinC Challenge 2019: hourly rows of vitals and labs, sepsis within 6 h at every hour.

Units as the challenge's page gives them, but lactate and FiO2, whose numbers are mmol/L and a fraction.
`SepsisLabel` is 1 from 6 h before the onset of sepsis (Sepsis-3) on.
"""

import csv
import gzip
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from models.signals import SIGNALS, ImplausibleValue, by_name, to_canonical
from streaming.clock import HOUR_MS
from training.stays import EPOCH_MS, Stay, vitals_event

CONDITION = "sepsis-6h"
_UNITS = {"FiO2": "1"}
_MEASURED = tuple(signal for signal in SIGNALS if signal.physionet2019 and signal.kind != "static")
_MEDICAL, _SURGICAL, _UNKNOWN = 1027.0, 1030.0, 0.0  # HSLOC


def read(root: Path) -> Iterator[Stay]:
    """Every stay of whichever parts lie there; scored at each of its rows."""
    for path in sorted(root.glob("*.long.psv.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            for patient, rows in groupby(csv.DictReader(lines, delimiter="|"), itemgetter("patient")):
                yield _stay(patient, list(rows))


def _stay(patient: str, rows: list[dict[str, str]]) -> Stay:
    events = [vitals_event(patient, 0, EPOCH_MS, _facts(rows[0]))]
    snapshots = []
    for number, row in enumerate(rows, 1):
        at = EPOCH_MS + int(row["ICULOS"]) * HOUR_MS
        snapshots.append(at)
        measured = []
        for signal in _MEASURED:
            name = signal.physionet2019
            measured += _told(signal.name, row[name], _UNITS.get(name, signal.ucum))
        if measured:
            events.append(vitals_event(patient, number, at, measured))
    labels = {CONDITION: [float(row["SepsisLabel"]) for row in rows]}
    return Stay(patient, patient, "physionet2019", events, {}, snapshots, hourly=labels, site=_site(rows[0]))


def _site(row: dict[str, str]) -> str:
    return "medical" if row["Unit1"] == "1" else "surgical" if row["Unit2"] == "1" else ""


def _facts(row: dict[str, str]) -> list[tuple[str, float, str]]:
    """Age, sex, the unit, and how long the patient was in the hospital before it."""
    unit = {"medical": _MEDICAL, "surgical": _SURGICAL}.get(_site(row), _UNKNOWN)
    before = row["HospAdmTime"]
    return [
        *_told("unit", str(unit), "{hsloc}"),
        *_told("age", row["Age"], "a"),
        *_told("male", row["Gender"], "1"),
        *_told("hours_before_unit", str(max(0.0, -float(before))) if before != "NaN" else before, "h"),
    ]


def _told(name: str, text: str, unit: str) -> list[tuple[str, float, str]]:
    """As an observation, if a number stands there and it is a possible one."""
    signal = SIGNALS[by_name[name]]
    try:
        to_canonical(signal.loinc, float(text), unit)
    except ImplausibleValue:  # not a number, too
        return []
    return [(signal.loinc, float(text), unit)]
