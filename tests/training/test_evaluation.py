"""`wardwatch evaluate` on real stays with the shipped artifact."""

import gzip
from dataclasses import replace

import numpy as np
import pytest

from models.conformal import Conformal
from streaming.errors import ConfigError
from training.evaluation import evaluate_dataset


@pytest.fixture
def some_stays(data_root, tmp_path):
    """The first 300 stays of PhysioNet 2012 under the same file names."""
    root = data_root / "physionet2012"
    outcomes = (root / "Outcomes-a.csv").read_text().splitlines()[:301]
    (tmp_path / "Outcomes-a.csv").write_text("\n".join(outcomes) + "\n")
    kept = {line.split(",")[0] for line in outcomes}
    with gzip.open(root / "set-a.long.csv.gz", "rt") as lines, gzip.open(tmp_path / "set-a.long.csv.gz", "wt") as sink:
        sink.writelines(line for line in lines if line.split(",")[0] in kept)
    return tmp_path


class _With:
    """A predictor with another card."""

    def __init__(self, predictor, card):
        self._predictor, self.card = predictor, card

    def __getattr__(self, name):
        return getattr(self._predictor, name)


def test_every_metric_of_a_data_set_has_its_interval(predictor, some_stays):
    never_abstains = _With(predictor, replace(predictor.card, conformal=None))
    found = evaluate_dataset(never_abstains, "physionet2012", some_stays, lambda line: None)
    told = found["tasks"]["physionet2012.in-hospital-mortality"]
    assert told["n"] == 300 and 0 < told["positives"] < 300
    for name in ("auroc", "auprc", "accuracy", "precision", "recall", "f1", "score1", "brier", "ece"):
        assert told[name]["low"] <= told[name]["value"] <= told[name]["high"]
    assert "abstains" not in told


def test_an_artifact_with_sets_says_how_often_it_cannot_tell(predictor, some_stays):
    conditions = len(predictor.card.conditions)
    sets = Conformal(0.8, np.full(conditions, 0.3), np.full(conditions, 0.05))
    cautious = _With(predictor, replace(predictor.card, conformal=sets))
    found = evaluate_dataset(cautious, "physionet2012", some_stays, lambda line: None)
    told = found["tasks"]["physionet2012.in-hospital-mortality"]
    assert 0 < told["abstains"]["value"] < 1
    assert told["accuracy_where_it_tells"]["value"] > 0.5


def test_a_score_that_abstains_calls_nobody(predictor, some_stays):
    """As it raises no alert: with sets that tell nothing there is no recall, whatever the thresholds."""
    conditions = len(predictor.card.conditions)
    found = {}
    for name, sets in (("always", Conformal(0.8, np.ones(conditions), np.zeros(conditions))), ("never", None)):
        asked = _With(predictor, replace(predictor.card, conformal=sets))
        told = evaluate_dataset(asked, "physionet2012", some_stays, lambda line: None)["tasks"]
        found[name] = told["physionet2012.in-hospital-mortality"]["recall"]["value"]
    assert found["always"] == 0 and found["never"] > 0.2


def test_what_cannot_be_measured_is_one_clear_line(predictor, tmp_path):
    with pytest.raises(ConfigError, match="no reader"):
        evaluate_dataset(predictor, "adni", tmp_path, lambda line: None)
    with pytest.raises(ConfigError, match="no labelled stays"):
        evaluate_dataset(predictor, "physionet2012", tmp_path, lambda line: None)
