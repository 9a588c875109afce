"""The offline check against a run made by hand from the same pure functions, with an artifact that abstains."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from models.conformal import Conformal
from streaming import alerting, bootstrap, messages, reports
from streaming.clock import wall_ms
from streaming.commands.verify import command
from streaming.envelope import Limits
from streaming.scoring import Scorer
from streaming.state import PatientState, apply
from streaming.verify import Verdict, verify
from tests.helpers import HOUR, NOON, vitals
from tests.streaming.test_merge import measured
from tests.streaming.ward import PARTITIONS, Hospital, partition_of

EVENTS = 8


class _Cautious:
    """The shipped model with other cuts in its card."""

    def __init__(self, predictor, sets):
        self._predictor = predictor
        low = dict.fromkeys(("watch", "warning", "critical"), 1e-6)
        self.card = replace(predictor.card, conformal=sets, thresholds=dict.fromkeys(predictor.card.conditions, low))

    def __getattr__(self, name):
        return getattr(self._predictor, name)


def _record(out, offset):
    return SimpleNamespace(
        topic=out.kind, partition=0, offset=offset, timestamp=NOON, key=out.key, value=out.value, headers=out.headers
    )


def _run(predictor):
    """What a worker would have published of one patient's vitals."""
    scorer, policy = Scorer(predictor), alerting.Policy.from_card(predictor.card)
    state, standing = PatientState("p1"), alerting.PolicyState()
    topics = {"vitals": [], "risk": [], "alerts": []}
    for offset in range(EVENTS):
        body = vitals(at_ms=NOON + offset * HOUR, value=80 + 5 * offset, offset=offset)
        state = apply(state, body)
        update = reports.Update(0, NOON)
        update.take(body, state, NOON + offset * HOUR, True)
        (update.state,) = scorer.embed([state])
        (score,) = scorer.score([update.state], [update.as_of_ms])
        standing, decisions = alerting.decide(policy, standing, reports.for_policy(update, score, predictor.card, "s"))
        report = reports.Report(update, score, standing, predictor.card, "s", NOON, {})
        topics["risk"].append(_record(report.risk(), offset))
        topics["alerts"] += [_record(report.alert(d), len(topics["alerts"])) for d in decisions]
        topics["vitals"].append(_vitals_record(offset))
    return topics


def _violations(topics, predictor):
    return verify(topics, predictor, Limits(), lambda key: 0).violations


def _vitals_record(offset):
    from streaming.envelope import headers_for
    from tests.helpers import HEART_RATE, observation

    at = NOON + offset * HOUR
    headers = headers_for("vitals", id=f"v{offset}", source="test", patient="p1", time_ms=at, recorded_ms=at)
    value = orjson.dumps({"observations": [observation(HEART_RATE, 80 + 5 * offset, "/min", at)]})
    return SimpleNamespace(
        topic="vitals", partition=0, offset=offset, timestamp=at, key=b"p1", value=value, headers=headers
    )


@pytest.fixture
def unsure(predictor):
    conditions = len(predictor.card.conditions)
    return _Cautious(predictor, Conformal(0.8, np.ones(conditions), np.zeros(conditions)))


@pytest.fixture
def sure(predictor):
    conditions = len(predictor.card.conditions)
    return _Cautious(predictor, Conformal(0.8, np.zeros(conditions), np.zeros(conditions)))


def test_an_artifact_that_cannot_tell_says_so_and_raises_nothing(unsure):
    topics = _run(unsure)
    risk = messages.Risk.model_validate_json(topics["risk"][0].value)
    assert all(score.abstains and score.set == ("no event", "event") for score in risk.scores)
    assert not topics["alerts"]
    assert _violations(topics, unsure) == []


def test_the_same_scores_raise_when_the_sets_hold_one_outcome(sure):
    topics = _run(sure)
    alert = messages.Alert.model_validate_json(topics["alerts"][0].value)
    assert alert.action == "raised" and not alert.abstains
    assert _violations(topics, sure) == []


def test_a_record_that_abstains_otherwise_than_its_card_says_is_found(unsure):
    topics = _run(unsure)
    body = orjson.loads(topics["risk"][3].value)
    body["scores"][0]["abstains"] = False
    topics["risk"][3].value = orjson.dumps(body)
    violations = _violations(topics, unsure)
    assert any("abstains otherwise" in line for line in violations)
    assert any("not published" in line for line in violations)


def test_an_artifact_without_sets_never_abstains(predictor):
    body = messages.Risk.model_validate_json(_run(_Cautious(predictor, None))["risk"][0].value)
    assert all(score.set is None and not score.abstains for score in body.scores)


def _astray(hospital, away):
    """One event of A between two others, on another partition than A's."""
    hospital.run(measured("A", 80, NOON, id="first"))
    one = measured("A", 120, NOON + 60_000, id="astray")
    partition = (partition_of(one.key) + away) % PARTITIONS
    hospital.broker.append(one.topic, one.key, one.value, one.headers, partition=partition)


@pytest.mark.parametrize("away", range(1, PARTITIONS))
def test_an_event_on_the_wrong_partition_counts_where_the_worker_sent_it(predictor, away):
    hospital = Hospital(predictor)
    _astray(hospital, away)
    hospital.run().run(measured("A", 90, NOON + 120_000, id="last"))
    verdict = hospital.verdict()
    assert verdict.violations == []
    assert (verdict.counts["rerouted:vitals"], verdict.counts["covered"]) == (1, 3)


def test_an_event_that_was_left_on_the_wrong_partition_is_found(predictor):
    hospital = Hospital(predictor)
    _astray(hospital, 1)
    hospital.run()
    copy = hospital.broker.logs["vitals", partition_of(b"A")][-1]
    copy.headers = [(name, b"another" if name == "ce_id" else raw) for name, raw in copy.headers]
    (line,) = hospital.verdict().violations
    assert line == f"vitals {(partition_of(b'A') + 1) % PARTITIONS}/0: not sent on to its patient's partition"


def test_a_live_run_is_judged_by_the_brokers_time_whenever_that_is(predictor):
    hospital, now = Hospital(predictor, limits=Limits(live=True)), wall_ms()
    hospital.broker.now_ms = now
    hospital.run(measured("A", 80, now, id="recorded ahead", recorded_ms=now + HOUR))
    hospital.run(measured("A", 80, now, id="recorded long before", recorded_ms=now - HOUR))
    verdict = hospital.verdict()
    assert verdict.violations == []
    assert (verdict.counts["refused:future-time"], verdict.counts["covered"]) == (1, 1)


@pytest.mark.parametrize(("clock", "by_clock"), [("wall", True), ("events", False)])
def test_the_command_tells_a_live_run_from_a_replay(predictor, monkeypatch, clock, by_clock):
    def run(bootstrap, prefix, predictor, limits, partitioner):
        assert limits.live == by_clock
        return Verdict()

    monkeypatch.setenv("WARDWATCH_CLOCK", clock)
    monkeypatch.setattr(bootstrap, "load_predictor", lambda _: predictor)
    monkeypatch.setattr("streaming.verify.run", run)
    assert CliRunner().invoke(command, []).output.endswith("the run's history holds\n")
