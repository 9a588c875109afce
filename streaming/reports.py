"""What the worker says: risk records and alerts as wire records. Owns the translation from a score to the wire.

Built as plain dicts and orjson, since pydantic on every score would cost more than the score; a test validates
each against `messages.Risk` and `messages.Alert`.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from models.conformal import OUTCOMES
from models.predictor import Card
from models.window import MODALITIES
from streaming import alerting
from streaming.envelope import Event, from_ms, headers_for
from streaming.history import PatientState
from streaming.records import InRecord, OutRecord
from streaming.scoring import Scored

_ABSENT = {"present": False, "items": 0, "age_s": None}


@dataclass(slots=True)
class Update:
    """One or more events of one patient that share a score. Filled by the reducer, then embedded and scored."""

    partition: int
    arrival_ms: float
    state: PatientState = field(default_factory=lambda: PatientState(""))
    as_of_ms: int = 0
    may_page: bool = False
    trigger: Event = field(default=None)  # type: ignore[assignment]  # set by the first take
    events: int = 0
    score: Scored | None = None  # None of a patient who was merged into another: that one is scored

    def take(self, event: Event, state: PatientState, as_of_ms: int, timely: bool) -> None:
        """One more event. The newest timely one is named as the trigger, else the newest."""
        if timely or not self.may_page:
            self.trigger = event
        self.state, self.as_of_ms = state, as_of_ms
        self.may_page = self.may_page or timely
        self.events += 1


def may_page(update: Update, score: Scored) -> bool:
    """Whether a score may page: something timely came, and it rests on something of the patient."""
    return update.may_page and any(use.items for use in score.uses.values())


def for_policy(update: Update, score: Scored, card: Card, site: str) -> alerting.Scored:
    """What the alert policy needs to know of a score."""
    return alerting.Scored(
        site=site,
        patient=update.state.patient,
        position=update.trigger.position,
        event_ms=update.state.newest_event_ms,
        may_page=may_page(update, score),
        probabilities={
            name: probability
            for name, probability, asked in zip(card.conditions, score.probability.tolist(), score.asked, strict=True)
            if asked
        },
        abstains=frozenset(name for name, one in zip(card.conditions, score.abstains.tolist(), strict=True) if one),
    )


@dataclass(frozen=True, slots=True)
class Report:
    """One score, or that there is none (`score` None) since another patient is scored instead, ready to be told."""

    update: Update
    score: Scored | None
    policy: alerting.PolicyState  # after it
    card: Card
    site: str
    decision_ms: float
    stages: dict[str, float]

    def risk(self) -> OutRecord:
        """The `risk` record of this score."""
        update, score, state = self.update, self.score, self.update.state
        conditions = []
        for row, name in enumerate(self.card.conditions if score is not None else ()):
            if not score.asked[row]:
                continue
            conditions.append(
                {
                    "condition": name,
                    "probability": float(score.probability[row]),
                    "low": float(score.low[row]),
                    "high": float(score.high[row]),
                    "contributions": self._contributions(row),
                    "set": self._set(row),
                    "abstains": bool(score.abstains[row]),
                }
            )
        body = {
            "id": self._id("risk"),
            "site": self.site,
            "patient": state.patient,
            "encounter": state.encounter,
            "as_of": from_ms(update.as_of_ms),
            "newest_event": from_ms(state.newest_event_ms),
            "may_page": score is not None and may_page(update, score),
            "scores": conditions,
            "news2": score.news2 if score is not None else None,
            "modalities": self._modalities(),
            "offsets": dict(state.offsets),
            "model": self.card.model_hash,
            "trigger": _position(update.trigger.kind, update.trigger.partition, update.trigger.offset),
            "trigger_id": update.trigger.id,
            "merged_from": state.merged_from,
            "merged_into": state.merged_into,
            "episodes": self.policy.to_json(),
            "times": self._times(),
            "stage_ms": {name: round(max(0.0, ms), 4) for name, ms in self.stages.items()},
            "traceparent": update.trigger.traceparent,
        }
        return self._record("risk", body)

    def alert(self, decision: alerting.Decision) -> OutRecord:
        """The `alerts` record of one policy decision."""
        state, score = self.update.state, self.score
        row = None
        if score is not None and decision.condition in self.card.conditions:
            row = self.card.conditions.index(decision.condition)
            row = row if score.asked[row] else None
        modalities = self._modalities()
        body = {
            **_decided(decision, state, self.site),
            "probability": None if row is None else float(score.probability[row]),
            "low": None if row is None else float(score.low[row]),
            "high": None if row is None else float(score.high[row]),
            "threshold": decision.threshold,
            "abstains": row is not None and bool(score.abstains[row]),
            "modalities": modalities,
            "missing": [name for name, use in modalities.items() if not use["present"]],
            "contributions": {} if row is None else self._contributions(row),
            "news2": score.news2 if score is not None else None,
            "model": self.card.model_hash,
            "episode": _position(*decision.episode),
            "trigger": _position(self.update.trigger.kind, self.update.trigger.partition, self.update.trigger.offset),
            "trigger_id": self.update.trigger.id,
            "merged_from": state.merged_from,
            "as_of": from_ms(self.update.as_of_ms),
            "times": self._times(),
            "traceparent": self.update.trigger.traceparent,
        }
        return self._record("alerts", body)

    def _contributions(self, row: int) -> dict[str, float]:
        return dict(zip(MODALITIES, np.asarray(self.score.contribution[row], float).tolist(), strict=True))

    def _set(self, row: int) -> list[str] | None:
        if self.score.contains is None:
            return None
        return [name for name, held in zip(OUTCOMES, self.score.contains[row].tolist(), strict=True) if held]

    def _modalities(self) -> dict[str, Any]:
        if self.score is None:
            return dict.fromkeys(MODALITIES, _ABSENT)
        return {
            name: {
                "present": use.items > 0,
                "items": use.items,
                "age_s": None if use.age_ms is None else use.age_ms / 1000.0,
            }
            for name, use in self.score.uses.items()
        }

    def _times(self) -> dict[str, str]:
        trigger = self.update.trigger
        return {
            "event": from_ms(trigger.time_ms),
            "recorded": from_ms(trigger.recorded_ms),
            "arrival": from_ms(int(self.update.arrival_ms)),
            "decision": from_ms(int(self.decision_ms)),
        }

    def _id(self, kind: str) -> str:
        trigger = self.update.trigger
        named = f"{self.site}|{kind}|{trigger.kind}|{trigger.partition}|{trigger.offset}"
        return hashlib.blake2b(named.encode(), digest_size=16).hexdigest()

    def _record(self, kind: str, body: dict[str, Any]) -> OutRecord:
        state = self.update.state
        headers = headers_for(
            kind,
            id=body["id"],
            source=f"wardwatch/{self.site}",
            patient=state.patient,
            time_ms=self.update.as_of_ms,
            encounter=state.encounter,
            traceparent=self.update.trigger.traceparent,
        )
        return OutRecord(kind, self.update.partition, state.patient.encode(), orjson.dumps(body), headers)


def _decided(decision: alerting.Decision, state: PatientState, site: str) -> dict[str, Any]:
    return {
        "id": decision.alert_id,
        "revision": decision.revision,
        "site": site,
        "patient": state.patient,
        "encounter": state.encounter,
        "condition": decision.condition,
        "level": decision.level,
        "action": decision.action,
        "reason": decision.reason,
    }


def technical(state: PatientState, decision: alerting.Decision, card: Card, site: str, now_ms: int) -> OutRecord:
    """The `alerts` record of a technical alarm: it rests on the absence of data, so it has no score."""
    now = from_ms(now_ms)
    body = {
        **_decided(decision, state, site),
        "probability": None,
        "low": None,
        "high": None,
        "threshold": None,
        "abstains": False,
        "modalities": dict.fromkeys(MODALITIES, _ABSENT),
        "missing": list(MODALITIES),
        "contributions": {},
        "news2": None,
        "model": card.model_hash,
        "episode": _position(*decision.episode),
        "trigger": _position(*decision.episode),
        "trigger_id": "",
        "merged_from": state.merged_from,
        "as_of": now,
        "times": {
            "event": from_ms(state.newest_event_ms),
            "recorded": from_ms(state.newest_recorded_ms),
            "arrival": now,
            "decision": now,
        },
        "traceparent": None,
    }
    headers = headers_for(
        "alerts",
        id=decision.alert_id,
        source=f"wardwatch/{site}",
        patient=state.patient,
        time_ms=now_ms,
        encounter=state.encounter,
    )
    return OutRecord("alerts", decision.episode[1], state.patient.encode(), orjson.dumps(body), headers)


def rerouted(record: InRecord, kind: str, partition: int) -> OutRecord:
    """The event as it came, sent to the partition where its patient lives (its producer used another partitioner)."""
    return OutRecord(kind, partition, record.key, record.value, list(record.headers))


def _position(topic: str, partition: int, offset: int) -> dict[str, Any]:
    return {"topic": topic, "partition": partition, "offset": offset}
