import numpy as np
import pytest
import torch

from models.conditions import NAMES
from models.vitals import K
from models.window import V
from streaming.errors import ConfigError
from tests.training.stays import HOURS, stays
from training.batches import pool, without_signals
from training.dataset import build
from training.loop import predict, train
from training.recipes import RECIPES, Recipe

QUICK = Recipe("quick", epochs=3, batch=16, bootstraps=2, width=16, average=0.9, cosine=True, drop_signals=0.3)
SEPSIS = NAMES.index("sepsis-6h")


@pytest.fixture(scope="module")
def examples():
    return build(stays())


@pytest.fixture(scope="module")
def sides(examples):
    patient = np.arange(len(examples.labels)) // HOURS
    return tuple(np.flatnonzero((patient >= low) & (patient < high)) for low, high in ((0, 36), (36, 48), (48, 60)))


def _quiet(line):
    pass


def test_a_run_learns_and_is_the_same_for_a_seed(examples, sides):
    one, again = (train(examples, *sides[:2], QUICK, _quiet) for _ in range(2))
    told = predict(one, examples, sides[2])
    np.testing.assert_array_equal(told, predict(again, examples, sides[2]))
    ill = examples.labels[sides[2], 0] == 1
    assert told[ill, 0].mean() > told[~ill, 0].mean()


def test_an_interrupted_run_goes_on_and_ends_as_it_would_have(examples, sides, tmp_path):
    whole = train(examples, *sides[:2], QUICK, _quiet)

    class PowerCutError(Exception):
        pass

    def cut(line):
        if line.startswith("epoch 2/"):
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train(examples, *sides[:2], QUICK, cut, tmp_path / "run.pt")
    lines = []
    resumed = train(examples, *sides[:2], QUICK, lines.append, tmp_path / "run.pt")
    assert [line.split(":")[0] for line in lines] == ["epoch 2/3", "epoch 3/3"]
    np.testing.assert_array_equal(predict(resumed, examples, sides[2]), predict(whole, examples, sides[2]))


def test_a_checkpoint_of_another_recipe_is_refused(examples, sides, tmp_path):
    path = tmp_path / "run.pt"
    train(examples, *sides[:2], QUICK, _quiet, path)
    with pytest.raises(ConfigError):
        train(examples, *sides[:2], RECIPES["paper"](), _quiet, path)


def test_nothing_of_other_rows_is_looked_at(examples, sides):
    spoilt = build(stays())
    for name in ("values", "summary", "labels"):
        getattr(spoilt, name)[sides[2]] = np.nan
    one, other = (train(found, *sides[:2], QUICK, _quiet) for found in (examples, spoilt))
    for tensor, same in zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True):
        assert torch.equal(tensor, same)


def test_a_run_learns_from_every_hour_with_the_condition_and_a_share_of_the_others(examples, sides):
    rows = pool(examples, sides[0], Recipe("few", other_hours=0.2), np.random.default_rng(0))
    label = examples.labels[rows, SEPSIS]
    assert (label == 1).sum() == (examples.labels[sides[0], SEPSIS] == 1).sum()
    assert 0 < (label == 0).sum() < 0.5 * (examples.labels[sides[0], SEPSIS] == 0).sum()


def test_signals_taken_away_look_as_if_never_measured(examples):
    window = examples.window(np.arange(40))
    left = without_signals(window, 1.0, np.random.default_rng(0))
    gone = (window.last_mask > 0) & (left.last_mask == 0)
    assert gone.any()
    assert not left.figures.transpose(0, 2, 1)[gone].any()
    assert not left.bins[:, :, V:].transpose(0, 2, 1)[gone].any()


def test_scores_of_training_patients_have_mean_nought_and_keep_order(examples, sides):
    trained = train(examples, *sides[:2], Recipe("one", epochs=1, bootstraps=1, width=16), _quiet)
    scores = trained.network.vitals.scores
    figures, known = torch.zeros(5, K, V), torch.zeros(5, K, V)
    figures[:, -2, 0] = torch.tensor([40.0, 78.0, 85.0, 118.0, 200.0])
    known[:, -2, 0] = 1
    figures, known = figures.flatten(1), known.flatten(1)
    found = scores(figures, known).view(5, K, V)[:, -2, 0]
    assert (torch.diff(found) >= 0).all()
    assert found[0] < -1 < 1 < found[-1]
    assert not scores(figures, torch.zeros_like(known)).any()
