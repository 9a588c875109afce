"""MIMIC-III (csv or csv.gz, any case of names): 48 h mortality, hourly decompensation, 25 phenotypes at the stay's end.

Tasks and cohort after Harutyunyan et al. 2019: adults whose hospital admission has one ICU stay, spent in one unit.
Events are the replay's own (`streaming/mimic.py`: chart, laboratory, static facts, NOTEEVENTS), in order of storing, so
that a score at an hour knows what the record held then. What the live parser refuses is left out here as there.
Every ICU stay gives one `Stay` a task, since the tasks look at different hours; their sources are `SOURCES`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import duckdb

from streaming import mimic
from streaming.clock import HOUR_MS
from streaming.envelope import Event, headers_for, parse
from streaming.errors import InvalidMessage
from streaming.settings import Settings
from training.sources.phenotypes import PHENOTYPES, phenotypes
from training.stays import Stay

MORTALITY = "in-hospital-mortality"
DECOMPENSATION = "decompensation-24h"
CONDITIONS = (MORTALITY, DECOMPENSATION, *(f"phenotype-{name}" for name in PHENOTYPES))
SOURCES = ("mimic3", "mimic3-decompensation", "mimic3-phenotypes")
MORTALITY_HOURS = (6, 12, 24, 36, 48)
FIRST_HOUR, HORIZON_H = 4, 24
_ADULT = 18


@dataclass(frozen=True, slots=True)
class IcuStay:
    """One ICU stay of the cohort. Times in ms; `death_ms` None when the patient left the hospital alive."""

    icustay: str
    subject: str
    admission: str
    unit: str
    admitted_ms: int
    in_ms: int
    out_ms: int
    death_ms: int | None
    phenotypes: frozenset[str]


def read(root: Path) -> Iterator[Stay]:
    """Every task of every stay of the cohort.

    Raises:
        ConfigError: a table is missing.
    """
    by_subject: dict[str, list[IcuStay]] = defaultdict(list)
    for stay in cohort(root):
        by_subject[stay.subject].append(stay)
    prepared = mimic.prepare(root, Settings().data_dir / "mimic3", "storetime", lambda line: None)
    for subject, outgoing in groupby(mimic.read(prepared, by_patient=True), key=lambda event: event.patient):
        if subject in by_subject:
            events = _parsed(outgoing)
            for stay in by_subject[subject]:
                yield from tasks(stay, events)


def cohort(root: Path) -> list[IcuStay]:
    """Adults, one ICU stay an admission and one unit a stay.

    Raises:
        ConfigError: a table is missing.
    """
    names = ("ICUSTAYS", "ADMISSIONS", "PATIENTS", "DIAGNOSES_ICD")
    stays, admissions, patients, diagnoses = (mimic.table(root, name) for name in names)
    with duckdb.connect() as db:
        codes: dict[str, list[str]] = defaultdict(list)
        for admission, code in db.execute(f"SELECT hadm_id, icd9_code FROM {mimic.csv(diagnoses)}").fetchall():
            codes[admission].append(code or "")
        rows = db.execute(
            f"""
            SELECT i.icustay_id, i.subject_id, i.hadm_id, i.first_careunit, a.admittime, i.intime, i.outtime,
                   nullif(a.deathtime, '')
            FROM (FROM {mimic.csv(stays)}) i
            JOIN (FROM {mimic.csv(admissions)}) a ON a.hadm_id = i.hadm_id
            JOIN (FROM {mimic.csv(patients)}) p ON p.subject_id = i.subject_id
            WHERE i.first_careunit = i.last_careunit AND i.first_wardid = i.last_wardid
              AND coalesce(i.intime, '') <> '' AND coalesce(i.outtime, '') <> ''
              AND date_diff('day', CAST(p.dob AS TIMESTAMP), CAST(i.intime AS TIMESTAMP)) / 365.25 >= {_ADULT}
              AND i.hadm_id IN (SELECT hadm_id FROM {mimic.csv(stays)} GROUP BY hadm_id HAVING count(*) = 1)
            ORDER BY i.icustay_id
            """
        ).fetchall()
    return [
        IcuStay(stay, subject, admission, unit, _ms(admitted), _ms(began), _ms(ended), died and _ms(died),
                phenotypes(codes[admission]))
        for stay, subject, admission, unit, admitted, began, ended, died in rows
    ]  # fmt: skip


def tasks(stay: IcuStay, events: Sequence[Event]) -> Iterator[Stay]:
    """The stay's tasks over the patient's events: only those of its admission, and none stored after its end."""
    end = stay.out_ms if stay.death_ms is None else min(stay.out_ms, stay.death_ms)
    own = [e for e in events if _of_admission(e, stay) and e.recorded_ms <= end]
    hours = (end - stay.in_ms) // HOUR_MS

    def made(
        source: str,
        snapshots: Sequence[int],
        labels: Mapping[str, float],
        hourly: Mapping[str, Sequence[float]] | None = None,
    ) -> Stay:
        return Stay(stay.subject, stay.subject, source, own, labels, snapshots, hourly=hourly or {}, site=stay.unit)

    if hours >= MORTALITY_HOURS[-1]:
        at = [stay.in_ms + hour * HOUR_MS for hour in MORTALITY_HOURS]
        yield made(SOURCES[0], at, {MORTALITY: float(stay.death_ms is not None)})
    if hours >= FIRST_HOUR:
        at = [stay.in_ms + hour * HOUR_MS for hour in range(FIRST_HOUR, hours + 1)]
        soon = [float(stay.death_ms is not None and stay.death_ms - now <= HORIZON_H * HOUR_MS) for now in at]
        yield made(SOURCES[1], at, {}, {DECOMPENSATION: soon})
    labels = {f"phenotype-{name}": float(name in stay.phenotypes) for name in PHENOTYPES}
    yield made(SOURCES[2], [end], labels)


def _of_admission(event: Event, stay: IcuStay) -> bool:
    if event.encounter is not None:
        return event.encounter == stay.admission
    return event.time_ms >= stay.admitted_ms


def _parsed(outgoing: Iterator[mimic.Outgoing]) -> list[Event]:
    found = []
    for one in outgoing:
        headers = headers_for(
            one.kind,
            id=one.id,
            source=one.source,
            patient=one.patient,
            time_ms=one.time_ms,
            recorded_ms=one.recorded_ms,
            encounter=one.encounter,
        )
        try:
            found.append(parse(one.kind, one.patient.encode(), one.value, headers))
        except InvalidMessage:
            continue
    return found


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
