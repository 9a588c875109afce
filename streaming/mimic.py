"""MIMIC-III as it is published to a sorted event file. Owns tables, itemids, arrival order; leaves sending to `replay.py`.

One pass with DuckDB in bounded memory: a chart or lab row that maps to a signal becomes one vitals event, a note row
one note, each admission one event of static facts. Finished parts are kept, so an interrupted run goes on. Rows marked
as error and rows without a number are left out and counted; implausible values stay in, for the worker to refuse.
Times carry no zone in MIMIC-III and are read as UTC; dates stay what they are (2100 to 2200).
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb
import orjson

from models.signals import SIGNALS, by_name
from streaming.envelope import from_ms
from streaming.errors import ConfigError

Arrival = Literal["charttime", "storetime"]
FORMAT = 4
MEMORY = "1GB"
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event to send. Times in ms; `virtual_ms` counts from the patient's first event and orders the replay."""

    kind: str
    id: str
    source: str
    patient: str
    encounter: str | None
    time_ms: int
    recorded_ms: int
    virtual_ms: int
    value: bytes
    dataref: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sorted event file and what was left out of it, by reason."""

    path: Path
    events: int
    left_out: dict[str, int]


def prepare(root: Path, cache: Path, arrival: Arrival, progress: Callable[[str], None]) -> Prepared:
    """The event file of a MIMIC-III folder (csv or csv.gz, any case), made once per content and table of signals.

    Raises:
        ConfigError: a table that is needed is missing.
    """
    tables = {name: table(root, name) for name in ("CHARTEVENTS", "LABEVENTS", "ADMISSIONS", "PATIENTS", "ICUSTAYS")}
    notes = table(root, "NOTEEVENTS", needed=False)
    folder = cache / _fingerprint([*tables.values(), *([notes] if notes else [])], arrival)
    folder.mkdir(parents=True, exist_ok=True)
    final, tally = folder / "events.parquet", folder / "tally.json"
    if not (final.exists() and tally.exists()):
        with duckdb.connect() as db:
            db.execute(f"SET memory_limit='{MEMORY}'; SET threads=2; SET preserve_insertion_order=false")
            db.execute(f"SET temp_directory='{folder / 'spill'}'")
            _items(db)
            left_out = {}
            for part, sql in _parts(tables, notes, arrival).items():
                progress(f"reading {part}")
                _write(db, sql, folder / f"{part}.parquet")
            for name in ("CHARTEVENTS", "LABEVENTS"):
                left_out |= _left_out(db, tables[name], name)
            progress("sorting by arrival")
            _write(db, _SORTED.format(parts=folder / "part-*.parquet"), final)
            tally.write_bytes(orjson.dumps(left_out))
    with duckdb.connect() as db:
        count = db.execute(f"SELECT count(*) FROM '{final}'").fetchone()
    return Prepared(final, int(count[0]) if count else 0, orjson.loads(tally.read_bytes()))


def read(
    prepared: Prepared, patients: int | None = None, limit: int | None = None, by_patient: bool = False
) -> Iterator[Outgoing]:
    """The events in order of arrival; of the first N patients by number, and the first `limit` events, when given.

    by_patient: one patient after the other instead, each in order of arrival.
    """
    where = ""
    if patients is not None:
        chosen = f"SELECT DISTINCT patient FROM '{prepared.path}' ORDER BY TRY_CAST(patient AS BIGINT) LIMIT {patients}"
        where = f"WHERE patient IN ({chosen})"
    last = f"LIMIT {limit}" if limit is not None else ""
    order = "patient, virtual_ms, id" if by_patient else "virtual_ms, patient, id"
    with duckdb.connect() as db:
        rows = db.execute(
            "SELECT kind, id, patient, encounter, time_ms, recorded_ms, virtual_ms, codes, numbers, units, text "
            f"FROM '{prepared.path}' {where} ORDER BY {order} {last}"
        )
        while batch := rows.fetchmany(_BATCH):
            for (
                kind,
                event_id,
                patient,
                encounter,
                time_ms,
                recorded_ms,
                virtual_ms,
                codes,
                numbers,
                units,
                text,
            ) in batch:
                if kind == "vitals":
                    moment = from_ms(time_ms)
                    measured = [
                        {"code": c, "value": v, "unit": u, "time": moment}
                        for c, v, u in zip(codes, numbers, units, strict=True)
                    ]
                    value = orjson.dumps({"observations": measured})
                else:
                    value = orjson.dumps({"note_id": event_id, "text": text, "category": codes[0]})
                yield Outgoing(kind, event_id, "mimic3", patient, encounter, time_ms, recorded_ms, virtual_ms, value)


def table(root: Path, name: str, needed: bool = True) -> Path | None:
    """The file of a table: csv or csv.gz, any case.

    Raises:
        ConfigError: it is needed and missing.
    """
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.name.lower() in (f"{name.lower()}.csv", f"{name.lower()}.csv.gz"):
            return path
    if needed:
        raise ConfigError(f"no {name}.csv or {name}.csv.gz under --root: is it a MIMIC-III folder?")
    return None


def _fingerprint(paths: list[Path | None], arrival: Arrival) -> str:
    parts = [f"{p.name}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in paths if p is not None]
    signals = [(s.loinc, s.ucum, sorted(s.mimic3.items())) for s in SIGNALS]
    return hashlib.sha256(repr((FORMAT, arrival, parts, signals)).encode()).hexdigest()[:16]


def _items(db: duckdb.DuckDBPyConnection) -> None:
    db.execute("CREATE TABLE items (itemid INTEGER PRIMARY KEY, code VARCHAR, unit VARCHAR)")
    db.executemany(
        "INSERT INTO items VALUES (?, ?, ?)",
        [(item, signal.loinc, unit) for signal in SIGNALS for item, unit in signal.mimic3.items()],
    )


def csv(path: Path | None) -> str:
    """A table as DuckDB reads it: every column as text."""
    return f"read_csv('{path}', header=true, all_varchar=true, quote='\"', escape='\"') AS t"


def _parts(tables: dict[str, Path | None], notes: Path | None, arrival: Arrival) -> dict[str, str]:
    stored = "epoch_ms(CAST(nullif(storetime, '') AS TIMESTAMP))"
    recorded = f"greatest(time_ms, coalesce({stored}, time_ms))" if arrival == "storetime" else "time_ms"
    parts = {}
    for name, has_store in (("CHARTEVENTS", True), ("LABEVENTS", False)):
        valid = "AND coalesce(error, '') <> '1'" if name == "CHARTEVENTS" else ""
        parts[f"part-{name.lower()}"] = f"""
            SELECT 'vitals' AS kind, 'mimic3/{name.lower()}/' || row_id AS id, subject_id AS patient,
                   nullif(hadm_id, '') AS encounter, epoch_ms(CAST(charttime AS TIMESTAMP)) AS time_ms,
                   {recorded if has_store else "time_ms"} AS recorded_ms, [code] AS codes,
                   [CAST(valuenum AS DOUBLE)] AS numbers, [unit] AS units, CAST(NULL AS VARCHAR) AS text
            FROM {csv(tables[name])} JOIN items ON CAST(items.itemid AS VARCHAR) = t.itemid
            WHERE coalesce(valuenum, '') <> '' AND coalesce(charttime, '') <> '' {valid}"""
    age, male = SIGNALS[by_name["age"]].loinc, SIGNALS[by_name["male"]].loinc
    parts["part-static"] = f"""
        SELECT 'vitals' AS kind, 'mimic3/admissions/' || a.row_id AS id, a.subject_id AS patient,
               a.hadm_id AS encounter, epoch_ms(CAST(a.admittime AS TIMESTAMP)) AS time_ms, time_ms AS recorded_ms,
               ['{age}', '{male}'] AS codes,
               [CASE WHEN years > 150 THEN 91.4 ELSE greatest(0.0, years) END, CAST(p.gender = 'M' AS DOUBLE)] AS numbers,
               ['a', '1'] AS units, CAST(NULL AS VARCHAR) AS text
        FROM (FROM {csv(tables["ADMISSIONS"])}) a
        JOIN (FROM {csv(tables["PATIENTS"])}) p ON p.subject_id = a.subject_id,
        LATERAL (SELECT date_diff('day', CAST(p.dob AS TIMESTAMP), CAST(a.admittime AS TIMESTAMP)) / 365.25 AS years)
        """
    if notes is not None:
        charted = "CAST(coalesce(nullif(charttime, ''), chartdate || ' 23:59:59') AS TIMESTAMP)"
        parts["part-notes"] = f"""
            SELECT 'notes' AS kind, 'mimic3/noteevents/' || row_id AS id, subject_id AS patient,
                   nullif(hadm_id, '') AS encounter, epoch_ms({charted}) AS time_ms, {recorded} AS recorded_ms,
                   [category] AS codes, CAST([] AS DOUBLE[]) AS numbers, CAST([] AS VARCHAR[]) AS units, text
            FROM {csv(notes)} WHERE coalesce(iserror, '') <> '1' AND coalesce(text, '') <> ''"""
    return parts


def _left_out(db: duckdb.DuckDBPyConnection, path: Path | None, name: str) -> dict[str, int]:
    error = "coalesce(error, '') = '1'" if name == "CHARTEVENTS" else "false"
    counted = db.execute(
        f"SELECT count(*) FILTER ({error}), count(*) FILTER (NOT {error} AND coalesce(valuenum, '') = '') "
        f"FROM {csv(path)} JOIN items ON CAST(items.itemid AS VARCHAR) = t.itemid"
    ).fetchone()
    assert counted is not None
    return {f"{name.lower()} marked as error": counted[0], f"{name.lower()} without a number": counted[1]}


_SORTED = """
    SELECT *, recorded_ms - min(recorded_ms) OVER (PARTITION BY patient) AS virtual_ms
    FROM read_parquet('{parts}', union_by_name=true) ORDER BY virtual_ms, patient, id"""


def _write(db: duckdb.DuckDBPyConnection, sql: str, path: Path) -> None:
    """A part, whole or not at all."""
    if path.exists():
        return
    partial = path.with_suffix(".partial")
    db.execute(f"COPY ({sql}) TO '{partial}' (FORMAT parquet)")
    partial.replace(path)
