import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.conditions import NAMES
from models.evidence import MOST
from models.layers import ODDS
from models.vision import ScanEncoder
from tests.training.stays import pictured, shrunk_views
from training import head
from training.dataset import build
from training.documents import learn_scans, scan_tokens
from training.evidence import FOLDS, Spoken

CONDITION, COLUMN = "lung-nodule", NAMES.index("lung-nodule")
TRAIN, JUDGED, REST = np.arange(150), np.arange(150, 250), np.arange(250, 300)


@pytest.fixture(scope="module")
def examples():
    return build(pictured(300, tells=0.9))


@pytest.fixture(scope="module")
def learned(examples):
    """The views, an encoder that learned from TRAIN and the head under which it did."""
    seen = shrunk_views(examples.pictures)
    torch.manual_seed(3)
    encoder = ScanEncoder(conditions=1)
    return seen, encoder, learn_scans(encoder, examples, seen, TRAIN, examples.labels, 4, lambda _: None, epochs=4)


def _spoken(by_linear_fit):
    return Spoken(np.arange(300) % FOLDS, [], torch.zeros(0), by_linear_fit.expand(FOLDS, 300, 1).clone())


def _taken(examples, learned, spoken):
    seen, encoder, under = learned
    encoder = copy.deepcopy(encoder)
    head.take(encoder, under, [CONDITION], examples, seen, spoken, JUDGED, 0, lambda _: None)
    return scan_tokens(encoder, seen, examples.kinds)[examples.picture_at, -1].numpy() / ODDS


def test_a_head_that_tells_unseen_pictures_better_speaks_and_the_learned_ones_keep_the_linear_fit(examples, learned):
    spoken = _spoken(torch.full((300, 1), 0.5))
    told, label = _taken(examples, learned, spoken), examples.labels[:, COLUMN]
    assert told[REST][label[REST] == 1].mean() > 1 and told[REST][label[REST] == 0].mean() < -1
    assert np.abs(told).max() <= MOST + 1e-5
    np.testing.assert_allclose(spoken.scans[:, JUDGED, 0], np.tile(told[JUDGED], (FOLDS, 1)), atol=1e-5)
    assert spoken.scans[:, TRAIN].eq(0.5).all() and spoken.scans[:, REST].eq(0.5).all()


def test_both_outcomes_count_as_much_in_what_the_head_says(examples, learned):
    label = examples.labels[:, COLUMN]
    rare = np.concatenate([JUDGED[label[JUDGED] == 0], JUDGED[label[JUDGED] == 1][:30]])
    seen, encoder, under = learned
    encoder, spoken = copy.deepcopy(encoder), _spoken(torch.zeros(300, 1))
    head.take(encoder, under, [CONDITION], examples, seen, spoken, rare, 0, lambda _: None)
    told = scan_tokens(encoder, seen, examples.kinds)[examples.picture_at, -1].numpy() / ODDS
    assert abs(told[JUDGED][label[JUDGED] == 1].mean() + told[JUDGED][label[JUDGED] == 0].mean()) < 1.5


@pytest.mark.parametrize("case", ["a linear fit tells as well", "labels of chance", "few labels"])
def test_otherwise_the_head_is_silent(case, examples, learned):
    label, told_by_fit = examples.labels.copy(), torch.zeros(300, 1)
    if case == "a linear fit tells as well":
        told_by_fit[:, 0] = torch.from_numpy(4 * label[:, COLUMN] - 2)
    elif case == "labels of chance":
        label[:, COLUMN] = np.random.default_rng(1).integers(0, 2, 300)
    else:
        label[JUDGED[head.FEWEST * 2 :], COLUMN] = np.nan
        label[JUDGED[1], COLUMN] = 0
    spoken = _spoken(told_by_fit)
    told = _taken(replace(examples, labels=label), learned, spoken)
    assert not told.any() and torch.equal(spoken.scans, _spoken(told_by_fit).scans)
