"""A patient merge and its undo on a real Kafka and a real Valkey, undisturbed and with workers killed in the middle."""

import pytest
import redis

from streaming.messages import Alert, Risk
from tests.helpers import HEART_RATE, NOON, observation
from tests.integration.conftest import Site, eventually

pytestmark = pytest.mark.integration

MINUTE = 60_000
ENV = {"WARDWATCH_SCORE": "each", "WARDWATCH_INSTANCE": "one"}
OLD, KEPT = "wrist-band-17", "wrist-band-4"
STORY = [
    ("vitals", OLD, 70.0, 1),
    ("vitals", KEPT, 75.0, 2),
    ("corrections", OLD, {"kind": "patient-merged", "into": KEPT}, 4),
    ("vitals", OLD, 170.0, 6),
    ("vitals", KEPT, 76.0, 7),
    ("corrections", OLD, {"kind": "patient-unmerged", "from": KEPT}, 9),
    ("vitals", OLD, 71.0, 10),
    ("vitals", KEPT, 77.0, 11),
]
"""Topic, patient, what, and how many (patient, triggering event) have a record once it is settled."""


def _risks(site):
    """The first record of every (patient, triggering event): a killed worker's events may be told of twice."""
    found = {}
    for record in site.read("risk"):
        one = Risk.model_validate_json(record.value)
        found.setdefault((one.patient, one.trigger_id), one)
    return found


def _play(site, killed_at=()):
    """Step by step; a worker is killed as soon as the events of `killed_at` lie on Kafka."""
    worker = site.start("fusion", **ENV)
    places = {}
    for step, (kind, patient, what, records) in enumerate(STORY):
        at_ms = NOON + step * MINUTE
        body = what if kind == "corrections" else {"observations": [observation(HEART_RATE, what, "/min", at_ms)]}
        places[patient], _ = site.send(kind, body, patient=patient, at_ms=at_ms, id=f"step-{step}")
        if step in killed_at:
            site.kill(worker)
            worker = site.start("fusion", **ENV)
        eventually(lambda records=records: len(_risks(site)) >= records, f"step {step} is settled")
    assert places[OLD] != places[KEPT], "the two must live on different partitions"
    return worker


def _histories(site):
    return {patient: (measured, newest) for patient, (measured, _, newest) in site.states().items()}


def _alert_ids(site):
    return {Alert.model_validate_json(record.value).id for record in site.read("alerts")}


def test_a_merged_patients_events_count_as_the_others_until_the_undo(site):
    worker = _play(site)
    risks = _risks(site)
    old = {trigger: one for (patient, trigger), one in risks.items() if patient == OLD}
    assert {trigger: (bool(one.scores), one.merged_into) for trigger, one in old.items()} == {
        "step-0": (True, None), "step-2": (False, KEPT), "step-3": (False, KEPT), "step-5": (True, None), "step-6": (True, None),
    }  # fmt: skip
    kept = sorted((one for (patient, _), one in risks.items() if patient == KEPT), key=lambda one: one.times.decision)
    assert [(one.merged_from, one.modalities["vitals"].items) for one in kept] == [
        ((), 1), ((OLD,), 2), ((OLD,), 3), ((OLD,), 4), ((), 2), ((), 3),
    ]  # fmt: skip
    joined, later = kept[1], kept[2]
    assert later.trigger_id == "step-3" and later.trigger.topic == "forwarded"
    assert later.scores != joined.scores
    verdict = site.command("verify")
    assert verdict.returncode == 0, verdict.stdout
    before, said = _histories(site), [len(site.read(kind)) for kind in ("risk", "forwarded", "alerts")]
    worker.terminate()
    assert worker.wait(timeout=30) == 0
    site.workers.remove(worker)
    link = redis.Redis.from_url(site.stack.redis_url)
    for key in link.scan_iter(match=f"{{ww:{site.prefix}:*"):
        link.delete(key)
    site.start("fusion", **ENV)
    eventually(lambda: _histories(site) == before, "the histories are rebuilt after Redis was lost")
    assert [len(site.read(kind)) for kind in ("risk", "forwarded", "alerts")] == said


def test_workers_killed_in_a_merge_give_the_states_and_alerts_of_an_undisturbed_run(site):
    _play(site, killed_at=(2, 3, 5))
    folder = site.folder / "calm"
    folder.mkdir()
    calm = Site(site.stack, f"calm-{site.prefix}", folder)
    try:
        _play(calm)
        assert site.states() == calm.states()
        assert _alert_ids(site) == _alert_ids(calm)
        assert _risks(site).keys() == _risks(calm).keys()
    finally:
        calm.close()
    verdict = site.command("verify")
    assert verdict.returncode == 0, verdict.stdout
