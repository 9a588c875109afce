from dataclasses import replace

import numpy as np
import pytest

from models.conditions import NAMES
from tests.training.stays import HOURS, pictured, stays
from training.crossval import cross_validate
from training.dataset import build
from training.peers import PEERS, features_of, training_rows
from training.recipes import Recipe
from training.stays import EPOCH_MS, Stay, vitals_event

DEATH, SEPSIS, NODULE = (NAMES.index(name) for name in ("in-hospital-mortality", "sepsis-6h", "lung-nodule"))


@pytest.fixture(scope="module")
def examples():
    return build(stays())


def test_a_peer_learns_an_hourly_condition_from_hours_and_any_other_from_last_snapshots(examples):
    rows = np.arange(len(examples.labels))
    assert (examples.snapshot[training_rows(examples, rows, DEATH, 0)] == HOURS - 1).all()
    assert set(examples.snapshot[training_rows(examples, rows, DEATH, 0, late=2)]) == {HOURS - 2, HOURS - 1}
    hours = training_rows(examples, rows, SEPSIS, 0)
    assert (examples.labels[hours, SEPSIS] == 1).sum() == (examples.labels[:, SEPSIS] == 1).sum()
    assert len(hours) < len(rows)


def test_what_was_not_measured_is_no_number_to_a_peer(examples):
    features = features_of(examples, np.array([0]))
    assert np.isnan(features).mean() > 0.8


@pytest.mark.parametrize("name", PEERS)
def test_each_peer_tells_the_ill_from_the_well(examples, name):
    ordinal = np.arange(len(examples.labels)) // HOURS
    train, test = np.flatnonzero(ordinal < 40), np.flatnonzero(ordinal >= 40)
    told = PEERS[name](examples, train, test)[:, DEATH]
    ill = examples.labels[test, DEATH] == 1
    assert told[ill].mean() > told[~ill].mean()


@pytest.mark.parametrize("name", ("gradient-boosting", "logistic-regression"))
def test_a_peer_learns_from_every_source_that_teaches_a_condition(name):
    """Of the second source's patients too few are known to learn anything from."""
    made = list(stays(90))
    examples = build([replace(stay, source="other" if number >= 60 else "test") for number, stay in enumerate(made)])
    ordinal = np.arange(len(examples.labels)) // HOURS
    train, test = np.flatnonzero(ordinal < 61), np.flatnonzero(ordinal > 62)
    told = PEERS[name](examples, train, test)[:, DEATH]
    ill = examples.labels[test, DEATH] == 1
    assert told[ill].min() > told[~ill].max()


def test_qsofa_knows_a_coma_scale_by_its_parts():
    """LOINC of a GCS and of its parts: eye, verbal, motor."""
    given = {
        "total": [("9269-2", 14.0, "{score}")],
        "parts": [("9267-6", 4.0, "{score}"), ("9270-0", 4.0, "{score}"), ("9268-4", 6.0, "{score}")],
        "whole": [("9267-6", 4.0, "{score}"), ("9270-0", 5.0, "{score}"), ("9268-4", 6.0, "{score}")],
        "two parts": [("9267-6", 1.0, "{score}"), ("9270-0", 1.0, "{score}")],
    }
    made = [
        Stay(
            name,
            name,
            "test",
            [vitals_event(name, 0, EPOCH_MS, measured)],
            {"in-hospital-mortality": 0.0},
            [EPOCH_MS + 1],
        )
        for name, measured in given.items()
    ]
    rows = np.arange(len(made))
    assert PEERS["qsofa"](build(made), rows, rows)[:, DEATH].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_says_nothing_of_what_only_pictures_show(name):
    examples = build(pictured(40))
    rows = np.arange(40)
    assert np.isnan(PEERS[name](examples, rows[:30], rows[30:])[:, NODULE]).all()


def test_cross_validation_scores_every_patient_by_a_model_that_never_saw_them(examples):
    recipe = Recipe("test", epochs=1, bootstraps=1, width=16)
    peers = {"qsofa": PEERS["qsofa"]}
    found = cross_validate(examples, recipe, lambda line: None, count=2, peers=peers, rounds=5)
    death = found["tasks"]["test.in-hospital-mortality"]
    assert death["n"] == 60
    assert {"auroc", "auprc", "score1"} <= set(death["peers"]["qsofa"])
    assert "utility" in found["tasks"]["test.sepsis-6h"]
    assert "auroc" in death["peers"]["qsofa"]["difference"]
