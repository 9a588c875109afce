"""eICU's tables: rows of a csv.gz, and the minute at which an entry was on the record."""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

LAST_MINUTE = 24 * 60
"""Only what was on the record in the first 24 h of the unit stay is read."""


def rows(root: Path, table: str) -> Iterator[dict[str, str]]:
    """The table's rows by column name."""
    with gzip.open(root / f"{table}.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def known_at(taken: str, entered: str) -> int:
    """Minutes since unit admission at which both had happened: it was taken, and it was entered."""
    return max(int(float(taken)), int(float(entered)))
