from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.conditions import NAMES
from models.window import SLOTS
from tests.training.stays import documented, views_of
from training.dataset import build
from training.document_peers import document_peers

COLUMN = NAMES.index("critical-course")
TRAIN, TEST = np.arange(80), np.arange(80, 120)


@pytest.fixture(scope="module")
def examples():
    return build(documented())


@pytest.fixture(scope="module")
def peers(examples):
    return document_peers(views_of(examples.labels[:, COLUMN]))


@pytest.mark.parametrize("name", ("notes_logistic", "scans_logistic", "late_fusion"))
def test_each_peer_tells_the_ill_from_the_well_and_nothing_else(examples, peers, name):
    told = peers[name](examples, TRAIN, TEST)
    assert roc_auc_score(examples.labels[TEST, COLUMN], told[:, COLUMN]) > 0.75
    assert np.isnan(np.delete(told, COLUMN, axis=1)).all()


@pytest.mark.parametrize("name", ("notes_logistic", "scans_logistic", "late_fusion"))
def test_a_peer_learns_from_every_source_that_teaches_the_condition(examples, peers, name):
    """The source that is asked about taught nothing."""
    other = replace(examples, source=np.where(np.arange(120) < 80, "test", "other"))
    assert roc_auc_score(examples.labels[TEST, COLUMN], peers[name](other, TRAIN, TEST)[:, COLUMN]) > 0.75


def test_late_fusion_hears_every_member(examples, peers):
    whole = peers["late_fusion"](examples, TRAIN, TEST)[:, COLUMN]
    for name in ("vitals", "notes", "scans"):
        slot, kept = SLOTS.index(name), examples.present.copy()
        examples.present[TEST, slot] = 0
        without = peers["late_fusion"](examples, TRAIN, TEST)[:, COLUMN]
        examples.present[:] = kept
        had = kept[TEST, slot] > 0
        assert np.abs(whole - without)[had].max() > 0.01
        np.testing.assert_array_equal(whole[~had], without[~had])


@pytest.mark.parametrize("name", ("notes_logistic", "scans_logistic", "late_fusion"))
def test_no_peer_looks_at_the_labels_of_whom_it_is_asked_about(examples, peers, name):
    first, kept = peers[name](examples, TRAIN, TEST), examples.labels.copy()
    examples.labels[TEST] = 1 - examples.labels[TEST]
    second = peers[name](examples, TRAIN, TEST)
    examples.labels[:] = kept
    np.testing.assert_array_equal(first, second)
