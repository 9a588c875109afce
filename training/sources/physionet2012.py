"""PhysioNet/CinC Challenge 2012: 48 h of 37 series, in-hospital death. Units as the challenge's page gives them."""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from models.signals import SIGNALS, ImplausibleValue, by_name, to_canonical
from streaming.clock import HOUR_MS, MINUTE_MS
from training.stays import EPOCH_MS, Stay, vitals_event

HOURS = (6, 12, 18, 24, 30, 36, 42, 48)
CONDITION = "in-hospital-mortality"
SOON_DAYS, SOON = 90, 1 / 3
"""Who left hospital alive and died within so many days of admission to the ICU is taught as this much of a death in
hospital: such patients were ill, and there are two of them for five who died in it."""
_UNITS = {"FiO2": "1"}
_BY_NAME = {signal.physionet2012: signal for signal in SIGNALS if signal.physionet2012}
_UNIT = {
    "1": ("coronary", 1028.0),
    "2": ("cardiac surgery recovery", 1032.0),
    "3": ("medical", 1027.0),
    "4": ("surgical", 1030.0),
}
"""ICUType in words and as HSLOC."""
_CUFF = {"NISysABP": "SysABP", "NIDiasABP": "DiasABP", "NIMAP": "MAP"}


def read(root: Path) -> Iterator[Stay]:
    """Every stay with a known outcome, of whichever sets lie there."""
    ends: dict[str, tuple[float, float]] = {}
    for path in sorted(root.glob("Outcomes-*")):
        with path.open(encoding="utf-8") as lines:
            ends |= {row["RecordID"]: _end(row) for row in csv.DictReader(lines)}
    for path in sorted(root.glob("set-*.long.csv.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows: list[tuple[str, str, str]] = []
            current = ""
            for record, time, name, value in list(csv.reader(lines))[1:]:
                if record != current:
                    if current in ends:
                        yield _stay(current, rows, *ends[current])
                    current, rows = record, []
                rows.append((time, name, value))
            if current in ends:
                yield _stay(current, rows, *ends[current])


def _end(row: Mapping[str, str]) -> tuple[float, float]:
    """Whether the patient died in hospital, and what training is told of it; `Survival` is in days, -1 if unknown."""
    died = float(row["In-hospital_death"])
    return died, SOON if not died and 0 <= float(row["Survival"]) <= SOON_DAYS else died


def _stay(record: str, rows: list[tuple[str, str, str]], died: float, taught: float) -> Stay:
    by_time: dict[int, list[tuple[str, float, str]]] = defaultdict(list)
    site = ""
    for time, name, text in rows:
        if name == "ICUType" and text in _UNIT:
            site, code = _UNIT[text]
            by_time[0].append((SIGNALS[by_name["unit"]].loinc, code, "{hsloc}"))
        signal = _BY_NAME.get(_CUFF.get(name, name))
        if signal is None or float(text) < 0:  # -1 is unknown
            continue
        unit = _UNITS.get(name, signal.ucum)
        try:
            to_canonical(signal.loinc, float(text), unit)
        except ImplausibleValue:
            continue
        hours, minutes = time.split(":")
        by_time[int(hours) * HOUR_MS + int(minutes) * MINUTE_MS].append((signal.loinc, float(text), unit))
    events = [
        vitals_event(record, number, EPOCH_MS + at, measured)
        for number, (at, measured) in enumerate(sorted(by_time.items()))
    ]
    snapshots = [EPOCH_MS + hour * HOUR_MS for hour in HOURS]
    labels = {CONDITION: died}
    return Stay(record, record, "physionet2012", events, labels, snapshots, site=site, taught={CONDITION: taught})
