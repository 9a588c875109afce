"""How an alert reads as FHIR."""

import pytest

from streaming.messages import Alert
from streaming.subscriber import to_fhir
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
