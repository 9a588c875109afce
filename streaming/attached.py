"""Notes and scans of other origin, attached to a cohort's patients for replays. Owns reading them and the pairing.

MIMIC-III's demo has no notes and no pictures; a replay of all modalities needs some. Whose they are is decided by a
seed, and the report says how many were attached.
"""

import csv
import gzip
import heapq
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import orjson

from streaming.clock import HOUR_MS, MINUTE_MS
from streaming.errors import ConfigError
from streaming.mimic import Outgoing

NOTE_COLUMNS = ("note", "notetext", "text", "section_text")
SPREAD_MS = 24 * HOUR_MS
MOST_NOTES = 5_000


def read_notes(folder: Path) -> list[str]:
    """Note texts of a folder: *.txt whole; of *.csv and *.csv.gz the column note, notetext, text or section_text.

    Rows of an eICU note table (with `patientunitstayid`) are joined into one note a stay.

    Raises:
        ConfigError: nothing readable lies there.
    """
    texts: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".txt" and path.name != "SOURCE.txt" and "LICENSE" not in path.name:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
        elif path.name in ("note.csv.gz", "note.csv") or (path.suffix == ".csv" and "metadata" not in path.name):
            texts += _table_notes(path)
        if len(texts) >= MOST_NOTES:
            break
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ConfigError("no notes found under --notes")
    return texts[:MOST_NOTES]


def _table_notes(path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        column = next((name for name in NOTE_COLUMNS if name in (rows.fieldnames or ())), None)
        if column is None:
            return []
        if "patientunitstayid" not in (rows.fieldnames or ()):
            return [row[column] for row in rows if row[column]]
        stays: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            stays[row["patientunitstayid"]].append(row[column])
        return [". ".join(parts) for parts in stays.values()]


def read_scans(folder: Path) -> list[bytes]:
    """The bytes of every DICOM Part 10 file of a folder.

    Raises:
        ConfigError: none lies there.
    """
    found = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and _is_dicom(path)]
    if not found:
        raise ConfigError("no DICOM files found under --scans")
    return found


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as data:
        return data.read(132)[128:] == b"DICM"


def attach(
    events: Iterable[Outgoing],
    patients: Sequence[tuple[str, int]],
    notes: Sequence[str],
    scans: Sequence[bytes],
    seed: int,
) -> Iterator[Outgoing]:
    """The events with each note and scan put at one patient's place within a day of the patient's first event.

    `patients`: (patient, time in ms of the first event). Each note and scan is used once.
    """
    rng = random.Random(seed)
    added: list[tuple[int, str, Outgoing]] = []
    for kind, items in (("notes", notes), ("scans", scans)):
        for number, item in enumerate(items):
            patient, first_ms = patients[number % len(patients)]
            at = rng.randrange(MINUTE_MS, SPREAD_MS)
            name = f"attached/{kind}/{number}"
            value = item if isinstance(item, bytes) else orjson.dumps({"note_id": name, "text": item})
            event = Outgoing(kind, name, "attached", patient, None, first_ms + at, first_ms + at, at, value)
            added.append((at, name, event))
    added.sort(key=lambda item: item[:2])
    yield from heapq.merge(events, (event for *_, event in added), key=lambda event: event.virtual_ms)
