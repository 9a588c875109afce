"""What the board knows: per patient the newest score and the standing alerts, and the newest alerts of the ward.

Pure and cheap: a risk record is kept as bytes and read only when somebody looks, since most are overtaken before
that. Every change has a version, so that each viewer asks for what changed since the version it has. Owns the rows
that the page shows; leaves Kafka to `feed.py` and HTTP to `server.py`.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
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


class Ward:
    """Takes records in the order of their partition; gives rows. `now_ms` is always wall time, passed in."""

    def __init__(self) -> None:
        self.version = 0
        self.unreadable = 0
        self._patients: OrderedDict[str, _Patient] = OrderedDict()  # the least lately changed first
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._alerts: deque[tuple[int, dict[str, Any]]] = deque(maxlen=NEWEST_ALERTS)
        self._seen: OrderedDict[str, None] = OrderedDict()

    def take_risk(self, key: bytes | None, value: bytes | None, now_ms: int) -> None:
        """A record of `risk`: only the patient's newest counts."""
        patient = _name(key)
        if patient is None or value is None:
            self.unreadable += 1
            return
        self._touch(patient, now_ms).risk = value

    def take_alert(self, value: bytes | None, now_ms: int) -> None:
        """A record of `alerts`; a repeat changes nothing."""
        try:
            alert = orjson.loads(value or b"")
            shown = {name: alert[name] for name in _SHOWN_OF_ALERT}
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
        found = self._touch(patient, now_ms)
        held = found.standing.get(condition)
        if held is None or held[0] != episode or held[1] < revision:
            found.standing[condition] = (episode, revision, level)
        self._alerts.append((self.version, shown))

    def expire(self, before_ms: int) -> None:
        """Forgets patients of whom nothing came since then, unless an alert of theirs stands; and any over the limit."""
        for patient, found in list(self._patients.items()):
            quiet = found.heard_ms < before_ms and all(level == "none" for *_, level in found.standing.values())
            if not quiet and len(self._patients) <= MAX_PATIENTS:
                continue
            del self._patients[patient]
            self.version += 1
            self._gone[patient] = self.version
            if len(self._gone) > MAX_PATIENTS:
                self._gone.popitem(last=False)

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
        alerts = [alert for made, alert in self._alerts if made > version]
        return {"version": self.version, "rows": rows, "gone": gone, "alerts": alerts}

    def _touch(self, patient: str, now_ms: int) -> _Patient:
        self.version += 1
        found = self._patients.get(patient)
        if found is None:
            found = self._patients[patient] = _Patient()
            self._gone.pop(patient, None)
        self._patients.move_to_end(patient)
        found.version, found.heard_ms = self.version, now_ms
        return found

    def _row(self, patient: str, found: _Patient) -> dict[str, Any] | None:
        levels = {condition: level for condition, (_, _, level) in found.standing.items() if level != "none"}
        row: dict[str, Any] = {
            "patient": patient,
            "level": max(
                (level for name, level in levels.items() if name != SILENCE), key=RANK.__getitem__, default="none"
            ),
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
