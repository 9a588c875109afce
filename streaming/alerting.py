"""The alert policy: scores in, decisions out. Pure: the same scores in the same order give the same decisions.

Per condition an episode begins when a timely score reaches a level's threshold, escalates when one reaches a higher
level's, and ends when scores have stayed below the clearing threshold for `clear_after_ms` of event time. Hysteresis
and refractory times count the patient's event time, never the number of scores or a clock. A score that rests on late
data alone (`may_page` false) changes nothing: late data joins history and never pages by itself, nor clears.
A score that abstains (its prediction set is not one outcome) neither raises nor escalates: a level is reached only by
a score that can tell. A level that already stands stays, and clears, by the probability as ever, so that no episode
hangs on scores that cannot tell; the reason of a clearing then says so.
An episode of a condition that is not asked any more (its scans have left history, say) ends and says so.
Owns levels, ids and reasons; leaves their publication to `reports.py`.
"""

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from models.predictor import LEVELS, Card
from models.signals import SIGNALS
from streaming.clock import HOUR_MS, MINUTE_MS
from streaming.envelope import Event, Measurements
from streaming.messages import Action, HistoryJoined, HistoryParted, Level

RANK: dict[str, int] = {"none": 0, **{level: rank for rank, level in enumerate(LEVELS, 1)}}

SILENCE = "data-silence"
"""The technical condition: a monitored patient's data fell silent."""

LATE_AFTER_MS = {"vital": HOUR_MS, "lab": 6 * HOUR_MS, "static": 24 * HOUR_MS, "document": 24 * HOUR_MS}
"""An item older than this when it is scored is late. Labs and documents are late by nature: they are reported after
they were drawn or written."""

MERGED = "the patient was merged into another, who is scored instead"

Position = tuple[str, int, int]  # topic without prefix, partition, offset


@dataclass(frozen=True, slots=True)
class Policy:
    """Thresholds (probabilities) per condition and level, and times in ms of event time."""

    thresholds: Mapping[str, Mapping[str, float]]
    clear_fraction: float = 0.8
    clear_after_ms: int = 30 * MINUTE_MS
    refractory_ms: int = 60 * MINUTE_MS

    @classmethod
    def from_card(cls, card: Card) -> "Policy":
        return cls(card.thresholds)

    def level(self, condition: str, probability: float) -> Level:
        """The highest level whose threshold the probability reaches."""
        reached: Level = "none"
        for level, threshold in self.thresholds[condition].items():
            if probability >= threshold and RANK[level] > RANK[reached]:
                reached = level  # type: ignore[assignment]
        return reached

    def clear_below(self, condition: str) -> float:
        return min(self.thresholds[condition].values()) * self.clear_fraction


@dataclass(frozen=True, slots=True)
class Episode:
    """One condition's episode, or what is left of the last one (`level` none)."""

    level: Level = "none"
    origin: Position = ("", -1, -1)
    revision: int = 0
    below_since_ms: int | None = None
    cleared_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PolicyState:
    """Episodes by condition."""

    episodes: Mapping[str, Episode] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            name: [e.level, list(e.origin), e.revision, e.below_since_ms, e.cleared_ms]
            for name, e in self.episodes.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "PolicyState":
        return cls(
            {
                name: Episode(level, tuple(origin), revision, below, cleared)
                for name, (level, origin, revision, below, cleared) in data.items()
            }
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """What the policy sees of a score. `event_ms` is the patient's newest event time.

    It goes back only when a merge is undone, to the newest of the patient's own events: then a time that lies ahead of
    it counts as none that could hold a raise back.
    """

    site: str
    patient: str
    position: Position
    event_ms: int
    may_page: bool
    probabilities: Mapping[str, float]
    abstains: frozenset[str] = frozenset()  # conditions whose score cannot tell


@dataclass(frozen=True, slots=True)
class Decision:
    """A change that somebody should know of."""

    condition: str
    action: Action
    level: Level
    revision: int
    alert_id: str
    episode: Position
    threshold: float | None
    probability: float | None
    reason: str


def alert_id(site: str, patient: str, condition: str, episode: Position, level: Level) -> str:
    """A hash of what the alert is about: the same in every run, never of a clock, counter or score.

    `level` is the level after the action, "none" when cleared, so raise, escalation and clearing differ.
    """
    named = "|".join((site, patient, condition, f"{episode[0]}-{episode[1]}-{episode[2]}", level))
    return hashlib.blake2b(named.encode(), digest_size=16).hexdigest()


def is_timely(event: Event, as_of_ms: int) -> bool:
    """Whether an event may page: it is not late for its kind. A correction may: it changes what is true now. A piece of a
    merged patient's history may not, until the last: without the rest it is old."""
    if isinstance(event.data, HistoryJoined | HistoryParted) and event.data.more:
        return False
    if isinstance(event.data, Measurements):
        return any(as_of_ms - item.time_ms <= LATE_AFTER_MS[SIGNALS[item.signal].kind] for item in event.data.items)
    return as_of_ms - event.time_ms <= LATE_AFTER_MS["document"]


def decide(policy: Policy, state: PolicyState, scored: Scored) -> tuple[PolicyState, tuple[Decision, ...]]:
    """One score through the policy.

    Raises:
        ValueError: a probability is not a number in 0..1.
    """
    for probability in scored.probabilities.values():
        if not (math.isfinite(probability) and 0.0 <= probability <= 1.0):
            raise ValueError("a probability is not a number in 0..1")
    if not scored.may_page:
        return state, ()
    episodes = dict(state.episodes)
    decisions = []
    for condition, probability in scored.probabilities.items():
        episode, decision = _step(policy, episodes.get(condition, Episode()), condition, probability, scored)
        if episode != Episode() or condition in episodes:
            episodes[condition] = episode
        if decision is not None:
            decisions.append(decision)
    ended, endings = _end(
        PolicyState(episodes),
        scored.site,
        scored.patient,
        scored.probabilities,
        "it is not asked of this patient any more",
    )
    return ended, (*decisions, *endings)


def _step(
    policy: Policy, episode: Episode, condition: str, probability: float, scored: Scored
) -> tuple[Episode, Decision | None]:
    reached = "none" if condition in scored.abstains else policy.level(condition, probability)
    if RANK[reached] > RANK[episode.level]:
        if episode.level == "none":
            if _refractory(policy, episode, reached, scored.event_ms):
                return episode, None
            begun = Episode(reached, scored.position, 1)
            return begun, _decision(policy, begun, condition, probability, scored, "raised")
        grown = replace(episode, level=reached, revision=episode.revision + 1, below_since_ms=None)
        return grown, _decision(policy, grown, condition, probability, scored, "escalated")
    if episode.level == "none":
        return episode, None
    if probability >= policy.clear_below(condition):
        return (replace(episode, below_since_ms=None) if episode.below_since_ms is not None else episode), None
    since = scored.event_ms if episode.below_since_ms is None else min(episode.below_since_ms, scored.event_ms)
    if scored.event_ms - since < policy.clear_after_ms:
        return replace(episode, below_since_ms=since), None
    cleared = Episode("none", episode.origin, episode.revision + 1, None, scored.event_ms)
    return cleared, _decision(policy, cleared, condition, probability, scored, "cleared")


def _refractory(policy: Policy, episode: Episode, reached: Level, event_ms: int) -> bool:
    """After a clearing only the highest level may raise at once."""
    if episode.cleared_ms is None or reached == LEVELS[-1]:
        return False
    return 0 <= event_ms - episode.cleared_ms < policy.refractory_ms


def _decision(
    policy: Policy, episode: Episode, condition: str, probability: float, scored: Scored, action: Action
) -> Decision:
    if action == "cleared":
        threshold = policy.clear_below(condition)
        minutes = policy.clear_after_ms // MINUTE_MS
        reason = f"{condition} stayed below {threshold:.3f} for {minutes} min of event time"
        if condition in scored.abstains:
            reason += "; the newest score by itself cannot tell"
    else:
        threshold = policy.thresholds[condition][episode.level]
        reason = f"{condition} at {probability:.3f} reached the {episode.level} threshold {threshold:.3f}"
    return Decision(
        condition=condition,
        action=action,
        level=episode.level,
        revision=episode.revision,
        alert_id=alert_id(scored.site, scored.patient, condition, episode.origin, episode.level),
        episode=episode.origin,
        threshold=threshold,
        probability=probability,
        reason=reason,
    )


def merged(state: PolicyState, site: str, patient: str) -> tuple[PolicyState, tuple[Decision, ...]]:
    """Ends every episode of a patient who is not scored any more: the one merged into raises by its own score.

    No refractory time follows, since nothing got better: after the undo of the merge the patient may raise at once.
    """
    return _end(state, site, patient, (), MERGED)


def _end(
    state: PolicyState, site: str, patient: str, scored: Collection[str], why: str
) -> tuple[PolicyState, tuple[Decision, ...]]:
    """Clears the episodes of conditions that have no score, without refractory time: nothing got better."""
    episodes = dict(state.episodes)
    decisions = []
    for condition, held in state.episodes.items():
        if held.level == "none" or condition == SILENCE or condition in scored:
            continue
        ended = Episode("none", held.origin, held.revision + 1)
        episodes[condition] = ended
        decisions.append(_unscored(site, patient, condition, ended, "cleared", f"{condition}: {why}"))
    return (PolicyState(episodes) if decisions else state), tuple(decisions)


def any_standing(state: PolicyState) -> bool:
    """Whether an alert stands, a technical one too."""
    return any(episode.level != "none" for episode in state.episodes.values())


def silence(
    state: PolicyState, site: str, patient: str, last: Position, silent_ms: int, limit_ms: int
) -> tuple[PolicyState, Decision | None]:
    """The technical alarm: raised once when nothing came for `limit_ms`. Its id is of where the last one ended, else of the
    last event's position: no two alarms share one, whatever came between them."""
    held = state.episodes.get(SILENCE, Episode())
    if silent_ms < limit_ms or held.level != "none":
        return state, None
    begun = Episode("warning", held.origin if held.revision else last, 1)
    reason = f"no data for {silent_ms // MINUTE_MS} min (limit {limit_ms // MINUTE_MS})"
    return _technical(state, site, patient, begun, "raised", reason)


def heard(
    state: PolicyState, site: str, patient: str, here: Position, ends: str | None
) -> tuple[PolicyState, Decision | None]:
    """Something newer of the patient came, which lies `here`: it clears the technical alarm for the reason `ends`. None: it
    is as old as the alarm, which stands."""
    held = state.episodes.get(SILENCE, Episode())
    if held.level == "none":
        if held.cleared_ms is None:
            return state, None
        return PolicyState({**state.episodes, SILENCE: Episode("none", here, held.revision)}), None
    if ends is None:
        return state, None
    ended = Episode("none", held.origin, held.revision + 1)
    cleared, decision = _technical(state, site, patient, ended, "cleared", ends)
    return PolicyState({**cleared.episodes, SILENCE: replace(ended, origin=here)}), decision


def left(state: PolicyState, site: str, patient: str, now_ms: int) -> tuple[PolicyState, Decision | None]:
    """Clears the technical alarm of a patient who is not taken for monitored any more. Until something comes again that
    stands as `cleared_ms`, since an alarm's id is of where something came."""
    held = state.episodes.get(SILENCE, Episode())
    if held.level == "none":
        return state, None
    ended = Episode("none", held.origin, held.revision + 1, None, now_ms)
    return _technical(
        state, site, patient, ended, "cleared", "silent for so long that the patient is taken to have left"
    )


def _technical(
    state: PolicyState, site: str, patient: str, episode: Episode, action: Action, reason: str
) -> tuple[PolicyState, Decision]:
    decision = _unscored(site, patient, SILENCE, episode, action, reason)
    return PolicyState({**state.episodes, SILENCE: episode}), decision


def _unscored(site: str, patient: str, condition: str, episode: Episode, action: Action, reason: str) -> Decision:
    return Decision(
        condition=condition,
        action=action,
        level=episode.level,
        revision=episode.revision,
        alert_id=alert_id(site, patient, condition, episode.origin, episode.level),
        episode=episode.origin,
        threshold=None,
        probability=None,
        reason=reason,
    )
