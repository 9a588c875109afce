"""What the board knows: per patient the newest score and the standing alerts, and the newest alerts of the ward.

Pure and cheap: a risk record is kept as bytes and read only when somebody looks, since most are overtaken before
that. Every change has a version, so that each viewer asks for what changed since the version it has. Owns the rows
that the page shows; leaves Kafka to `feed.py` and HTTP to `server.py`.
"""

from bisect import insort
from collections import OrderedDict
from dataclasses import dataclass, field
from heapq import nsmallest
from operator import itemgetter
from typing import Any

import orjson

from streaming.alerting import RANK, SILENCE

NEWEST_ALERTS = 50
MAX_PATIENTS = 5_000
REMEMBERED_IDS = 100_000


@dataclass(slots=True)
class _Patient:
    """`standing`: condition to (episode, revision, level) of its newest alert; level none once cleared."""

    risk: bytes | None = None
    standing: dict[str, tuple[tuple[Any, ...], int, str]] = field(default_factory=dict)
    heard_ms: int = 0
    version: int = 0

    @property
    def levels(self) -> dict[str, str]:
        """Of the standing alerts, by condition."""
        return {condition: level for condition, (_, _, level) in self.standing.items() if level != "none"}

    @property
    def level(self) -> str:
        """The highest of a clinical alert: silence is shown beside it."""
        clinical = (level for condition, level in self.levels.items() if condition != SILENCE)
        return max(clinical, key=RANK.__getitem__, default="none")

    @property
    def urgency(self) -> tuple[int, bool, int]:
        """Whoever has the least leaves a full board first."""
        return RANK[self.level], SILENCE in self.levels, self.heard_ms


class Ward:
    """Takes records in the order of their partition, partitions in any; gives rows. `at_ms` is when the broker took one."""

    def __init__(self) -> None:
        self.version = 0
        self.unreadable = 0
        self._patients: OrderedDict[str, _Patient] = OrderedDict()  # the least lately changed first
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._alerts: list[tuple[int, int, dict[str, Any]]] = []  # (at_ms, version, shown), the newest last
        self._seen: OrderedDict[str, None] = OrderedDict()

    def take_risk(self, key: bytes | None, value: bytes | None, at_ms: int) -> None:
        """A record of `risk`: only the patient's newest counts."""
        patient = _name(key)
        if patient is None or value is None:
            self.unreadable += 1
            return
        self._touch(patient, at_ms).risk = value

    def take_alert(self, value: bytes | None, at_ms: int) -> None:
        """A record of `alerts`; a repeat changes nothing."""
        try:
            alert = orjson.loads(value or b"")
            shown = {name: alert[name] for name in _SHOWN_OF_ALERT} | {"at": at_ms}
            patient, condition, level = str(alert["patient"]), str(alert["condition"]), str(alert["level"])
            episode, revision = tuple(alert["episode"].values()), int(alert["revision"])
            shown["decision"] = str(alert["times"]["decision"])
            alert_id = str(alert["id"])
            RANK[level]
        except (ValueError, KeyError, TypeError, AttributeError):
            self.unreadable += 1
            return
        if alert_id in self._seen:
            return
        self._seen[alert_id] = None
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
        found = self._touch(patient, at_ms)
        held = found.standing.get(condition)
        if held is None or held[0] != episode or held[1] < revision:
            found.standing[condition] = (episode, revision, level)
        insort(self._alerts, (at_ms, self.version, shown), key=itemgetter(0))
        del self._alerts[:-NEWEST_ALERTS]

    def expire(self, before_ms: int) -> None:
        """Forgets patients of whom nothing came since then, unless a clinical alert of theirs stands: their silence alone
        keeps nobody, everyone who leaves the ward falls silent. Over the limit, the least urgent go too.
        """
        for patient, found in list(self._patients.items()):
            if found.heard_ms < before_ms and found.level == "none":
                self._forget(patient)
        surplus = len(self._patients) - MAX_PATIENTS
        for patient in nsmallest(surplus, self._patients, key=lambda name: self._patients[name].urgency):
            self._forget(patient)

    def since(self, version: int) -> dict[str, Any]:
        """What changed after `version`; everything after -1."""
        rows = []
        for patient in reversed(self._patients):
            found = self._patients[patient]
            if found.version <= version:
                break
            row = self._row(patient, found)
            if row is not None:
                rows.append(row)
        gone = []
        for patient in reversed(self._gone):
            if self._gone[patient] <= version:
                break
            gone.append(patient)
        alerts = [shown for _, made, shown in self._alerts if made > version]
        return {"version": self.version, "rows": rows, "gone": gone, "alerts": alerts}

    def _touch(self, patient: str, at_ms: int) -> _Patient:
        self.version += 1
        found = self._patients.get(patient)
        if found is None:
            found = self._patients[patient] = _Patient()
            self._gone.pop(patient, None)
        self._patients.move_to_end(patient)
        found.version, found.heard_ms = self.version, max(found.heard_ms, at_ms)
        return found

    def _forget(self, patient: str) -> None:
        del self._patients[patient]
        self.version += 1
        self._gone[patient] = self.version
        if len(self._gone) > MAX_PATIENTS:
            self._gone.popitem(last=False)

    def _row(self, patient: str, found: _Patient) -> dict[str, Any] | None:
        levels = found.levels
        row: dict[str, Any] = {
            "patient": patient,
            "level": found.level,
            "levels": levels,
            "silent": SILENCE in levels,
            "risk": None,
        }
        if found.risk is not None:
            try:
                risk = orjson.loads(found.risk)
                row["risk"] = {name: risk[name] for name in _SHOWN_OF_RISK}
                row["risk"]["decision"] = risk["times"]["decision"]
                row["risk"] |= {name: risk.get(name) for name in _MERGES}  # absent in records of older workers
            except (ValueError, KeyError, TypeError):
                self.unreadable += 1
                found.risk = None
        return row if row["risk"] is not None or levels else None


_SHOWN_OF_RISK = ("encounter", "as_of", "scores", "news2", "modalities", "model")
_MERGES = ("merged_from", "merged_into")
_SHOWN_OF_ALERT = (
    "id", "patient", "condition", "level", "action", "reason", "probability", "low", "high", "missing", "as_of",
)  # fmt: skip


def _name(key: bytes | None) -> str | None:
    try:
        return key.decode() if key else None
    except UnicodeDecodeError:
        return None
