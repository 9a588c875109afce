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
class _Told:
    """A patient's risk record: offsets by topic, time of the score, episodes."""

    offsets: Mapping[str, int]
    as_of: str
    policy: PolicyState


class Published:
    """Takes a partition's records of both topics, each in order; gives the episodes as they were once all events below
    these offsets, by topic, had been taken: what was told of later ones will be told again."""

    def __init__(self, below: Mapping[str, int]) -> None:
        self._below = below
        self._risk: dict[str, _Told] = {}
        self._alerts: dict[str, dict[str, dict[str, Any]]] = {}  # by patient and condition

    def take(self, kind: str, key: bytes, value: bytes) -> None:
        """A record of `risk` or `alerts`."""
        body = orjson.loads(value)
        if kind == "risk":
            self._take_risk(key.decode(), body)
        else:
            self._take_alert(key.decode(), body)

    def _take_risk(self, patient: str, body: Mapping[str, Any]) -> None:
        offsets, held = body["offsets"], self._risk.get(patient)
        if "episodes" not in body or any(offset >= self._below.get(topic, 0) for topic, offset in offsets.items()):
            return
        if held is None or all(offsets.get(topic, -1) >= offset for topic, offset in held.offsets.items()):
            # else it was in an outbox that came back, and published again
            self._risk[patient] = _Told(offsets, body["as_of"], PolicyState.from_json(body["episodes"]))

    def _take_alert(self, patient: str, body: dict[str, Any]) -> None:
        trigger, condition = body["trigger"], body["condition"]
        if condition != SILENCE and trigger["offset"] >= self._below.get(trigger["topic"], 0):
            return
        of_patient = self._alerts.setdefault(patient, {})
        held = of_patient.get(condition)
        if held is None or (body["as_of"], body["revision"]) >= (held["as_of"], held["revision"]):
            of_patient[condition] = body

    def episodes(self) -> dict[str, PolicyState]:
        """By patient. Of one without a risk record that says, from the alerts: when a score fell below is not known then."""
        found = {patient: told.policy for patient, told in self._risk.items()}
        for patient, alerts in self._alerts.items():
            told = self._risk.get(patient)
            episodes = dict(told.policy.episodes) if told is not None else {}
            for condition, alert in alerts.items():
                if told is None or (condition == SILENCE and told.as_of < alert["as_of"]):
                    episodes[condition] = _of(alert, episodes.get(condition))
            found[patient] = PolicyState(episodes)
        return found


def _of(alert: Mapping[str, Any], told: Episode | None) -> Episode:
    """The episode as its newest alert leaves it; `told`: as an earlier risk record says."""
    origin = alert["episode"]["topic"], alert["episode"]["partition"], alert["episode"]["offset"]
    if alert["action"] != "cleared":
        return Episode(alert["level"], origin, alert["revision"])
    if told is not None and told.origin != origin:
        return told  # of the event that ended it
    at_ms = parse_time(alert["as_of"] if alert["condition"] == SILENCE else alert["times"]["event"], "time")
    return Episode("none", origin, alert["revision"], None, at_ms)
