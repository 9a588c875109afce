"""The alert episodes that a partition's patients were told of, from `risk` and `alerts`. Pure.

A state that Redis lost is made again from the events, but its episodes are not: which waiting updates share a score differs
from run to run, and what pages by it. They are what subscribers were told. Every risk record carries its patient's episodes
after that score; the technical alarm is raised without a score, so it has a word of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from streaming.alerting import SILENCE, Episode, PolicyState
from streaming.clock import parse_time


@dataclass(frozen=True, slots=True)
class Told:
    """What a patient's newest records say. offsets: by topic up to which events its risk record knows; None where there is none,
    and only the alerts' episodes are told."""

    offsets: Mapping[str, int] | None
    policy: PolicyState

    def over(self, policy: PolicyState) -> PolicyState:
        """The policy's state with this told."""
        if self.offsets is not None:
            return self.policy
        return PolicyState({**policy.episodes, **self.policy.episodes})


@dataclass(frozen=True, slots=True)
class _Record:
    """The part of a record that matters, and when the broker took it."""

    at_ms: int
    body: Mapping[str, Any]


class Published:
    """Takes a partition's records of both topics, each in order; gives the episodes as they were once all events below
    these offsets, by topic, had been taken: what was told of later ones will be told again."""

    def __init__(self, below: Mapping[str, int]) -> None:
        self._below = below
        self._risk: dict[str, _Record] = {}
        self._alerts: dict[str, dict[str, _Record]] = {}  # by patient and condition

    def take(self, kind: str, key: bytes, value: bytes, at_ms: int) -> None:
        """A record of `risk` or `alerts`, and the broker's time of it."""
        record = _Record(at_ms, orjson.loads(value))
        if kind == "risk":
            self._take_risk(key.decode(), record)
        else:
            self._take_alert(key.decode(), record)

    def _take_risk(self, patient: str, record: _Record) -> None:
        offsets, held = record.body["offsets"], self._risk.get(patient)
        if "episodes" not in record.body:
            return
        if any(offset >= self._below.get(topic, 0) for topic, offset in offsets.items()):
            return
        before = {} if held is None else held.body["offsets"]
        # An outbox that came back is published again, and then is not the newest. A state made again without what Kafka
        # keeps no longer has fewer topics.
        if held is None or (
            all(offset >= before.get(topic, -1) for topic, offset in offsets.items())
            and any(offset > before.get(topic, -1) for topic, offset in offsets.items())
        ):
            self._risk[patient] = record

    def _take_alert(self, patient: str, record: _Record) -> None:
        trigger, condition = record.body["trigger"], record.body["condition"]
        if condition != SILENCE and trigger["offset"] >= self._below.get(trigger["topic"], 0):
            return
        of_patient = self._alerts.setdefault(patient, {})
        held = of_patient.get(condition)
        if held is None or _order(record.body) >= _order(held.body):
            of_patient[condition] = record

    def told(self) -> dict[str, Told]:
        """By patient. Of one without a risk record that says, from the alerts: when a score fell below is not known then."""
        found = {}
        for patient in self._risk.keys() | self._alerts.keys():
            risk = self._risk.get(patient)
            episodes = dict(PolicyState.from_json(risk.body["episodes"]).episodes) if risk is not None else {}
            for condition, alert in self._alerts.get(patient, {}).items():
                if risk is None or (condition == SILENCE and risk.at_ms <= alert.at_ms):
                    episodes[condition] = _of(alert.body, episodes.get(condition))
            found[patient] = Told(None if risk is None else risk.body["offsets"], PolicyState(episodes))
        return found


def _order(alert: Mapping[str, Any]) -> tuple[str, int]:
    """Of one condition's alerts, whichever way they came."""
    return alert["as_of"], alert["revision"]


def _of(alert: Mapping[str, Any], told: Episode | None) -> Episode:
    """The episode as its newest alert leaves it; `told`: as an earlier risk record says."""
    origin = alert["episode"]["topic"], alert["episode"]["partition"], alert["episode"]["offset"]
    if alert["action"] != "cleared":
        return Episode(alert["level"], origin, alert["revision"])
    if told is not None and told.origin != origin:
        return told  # of the event that ended it
    at_ms = parse_time(alert["as_of"] if alert["condition"] == SILENCE else alert["times"]["event"], "time")
    return Episode("none", origin, alert["revision"], None, at_ms)
