"""Which records of `alerts` a subscriber gives, and how an alert reads as FHIR."""

from types import SimpleNamespace

import orjson
import pytest

from streaming import subscriber
from streaming.messages import Alert
from streaming.subscriber import AlertSubscriber, to_fhir
from tests.helpers import NOON, SPO2
from tests.streaming.test_merge import measured, merged, unmerged
from tests.streaming.ward import Hospital


@pytest.fixture
def alerts(predictor):
    """A patient is merged into another and parted again: every episode that stands is cleared, and begins anew."""
    hospital = Hospital(predictor)
    for one in (
        measured("mrn-7", 100, id="own"),
        measured("mrn-8", 97, NOON + 1, SPO2, id="others"),
        merged("mrn-7", "mrn-8", NOON + 2, id="merge"),
        unmerged("mrn-7", "mrn-8", NOON + 3, id="undo"),
    ):
        hospital.run(one)
    return [Alert.model_validate_json(one.value) for one in hospital.broker.topics()["alerts"]]


def _episode(alert):
    (identifier,) = to_fhir(alert)["identifier"]
    assert identifier["system"] == "urn:wardwatch:ward:episode"
    return identifier["value"]


def test_one_episode_has_one_identifier_from_raised_to_cleared_and_no_other_has_it(alerts):
    episodes = {}
    for alert in alerts:
        episodes.setdefault((alert.patient, alert.condition, alert.episode), []).append(alert)
    assert len({_episode(alert) for alert in alerts}) == len(episodes)
    pairs = [[alert.action for alert in some] for some in episodes.values() if len(some) > 1]
    assert pairs and all(pair == ["raised", "cleared"] for pair in pairs)
    for some in episodes.values():
        assert len({_episode(alert) for alert in some}) == 1
        assert len({to_fhir(alert)["id"] for alert in some}) == len(some)


def test_the_identifier_tells_apart_two_patients_whose_episodes_one_event_began_and_names_neither(alerts):
    other = alerts[0].model_copy(update={"patient": "mrn-8"})
    assert _episode(other) != _episode(alerts[0])
    assert "mrn" not in _episode(other)


class Consumer:
    """One partition of `alerts`."""

    def __init__(self, values):
        self._values = values

    def __iter__(self):
        return (SimpleNamespace(partition=3, offset=offset, value=value) for offset, value in enumerate(self._values))

    def partitions_for_topic(self, topic):
        return {3}

    def assign(self, tps):
        pass

    def seek_to_end(self, *tps):
        pass

    def position(self, tp):
        return 0


def _subscribe(monkeypatch, *values):
    monkeypatch.setattr(subscriber, "KafkaConsumer", lambda **_: Consumer(values))
    return AlertSubscriber("127.0.0.1:1")


def test_an_alert_of_a_newer_worker_is_read_without_what_is_not_known_here(alerts, monkeypatch):
    def newer(said):
        """With a field more, at every depth."""
        return {name: newer(one) if isinstance(one, dict) else one for name, one in said.items()} | {"more": 1}

    body = alerts[0].model_dump()
    open_dicts = {"modalities", "contributions"}  # their keys are modalities
    told = newer({name: one for name, one in body.items() if name not in open_dicts})
    told["modalities"] = {name: newer(use) for name, use in body["modalities"].items()}
    found = _subscribe(monkeypatch, orjson.dumps(told | {"contributions": body["contributions"]}))
    assert list(found) == [alerts[0]]
    assert found.unreadable == 0


def test_a_record_that_is_no_alert_is_counted_and_passed_over_and_never_quoted(alerts, monkeypatch, caplog):
    good = alerts[0].model_dump_json().encode()
    lacking = orjson.dumps({"patient": "mrn-7"})
    found = _subscribe(monkeypatch, None, b"", b"{mrn-7", b"\xff", b"[]", lacking, good)
    assert list(found) == [alerts[0]]
    assert found.unreadable == 6
    assert [record.getMessage() for record in caplog.records] == [
        f"no readable alert at 3/{offset}, passed over" for offset in range(6)
    ]
