from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from models.conditions import NAMES
from models.evidence import MOST, Evidence
from models.layers import ODDS
from models.network import Architecture, Network
from tests.training.stays import documented, views_of
from training import evidence, lsa
from training.batches import Batches
from training.calibrating import choose_shares, fit_calibration
from training.dataset import build
from training.documents import note_tokens, scan_tokens
from training.evidence import FOLDS, fit_evidence, fit_trust, late_fusion, linear, soft_labels, spoken_of
from training.loop import make_tokenizer, predict, train
from training.recipes import Recipe
from training.scales import fit_scales

PATIENTS = 120
CONDITIONS = ("critical-course",)
COLUMN = NAMES.index("critical-course")
TRAIN = np.arange(90)


def _quiet(line):
    pass


@pytest.fixture(scope="module")
def examples():
    return build(documented(PATIENTS))


@pytest.fixture(scope="module")
def seen(examples):
    return views_of(examples.labels[:, COLUMN])


@cache
def _tokenizer(texts):
    return make_tokenizer(texts, 200)


def _fitted(examples, seen, rows=TRAIN):
    torch.manual_seed(0)
    ids = examples.note_ids(_tokenizer(tuple(examples.texts)))
    network = Network(Architecture(vocabulary=200, linear=CONDITIONS)).eval()
    lsa.fill(network.notes.bag, ids)
    fit_scales(network, examples, rows)
    return network, ids, fit_evidence(network, CONDITIONS, examples, ids, seen, rows, 0, _quiet)


def test_evidence_tells_the_condition_and_sits_at_the_end_of_the_token(examples, seen):
    network, ids, _ = _fitted(examples, seen)
    ill = examples.labels[:, COLUMN] == 1
    for token, at in (
        (note_tokens(network.notes, ids), examples.note_at[:, 0]),
        (scan_tokens(network.scans, seen, examples.kinds), examples.picture_at),
    ):
        told = token[at, -1].numpy() / ODDS
        assert token.shape[1] == 64
        assert told[90:][ill[90:]].mean() > told[90:][~ill[90:]].mean() + 0.1
        assert np.abs(told).max() <= MOST + 1e-5


def test_evidence_looks_at_no_row_but_the_training_rows_and_out_of_fold_at_no_patient_of_the_fold(
    examples, seen, monkeypatch
):
    network, _, spoken = _fitted(examples, seen)
    labels = examples.labels.copy()
    labels[90:] = 1 - labels[90:]
    mine = spoken.fold == 0
    assert set(np.unique(spoken.fold[TRAIN])) == set(range(FOLDS)) and (spoken.fold[90:] == -1).all()
    spoilt, _, _ = _fitted(replace(examples, labels=labels), seen)
    for name, one in network.state_dict().items():
        if "evidence" in name:
            assert torch.equal(one, spoilt.state_dict()[name])
    labels = examples.labels.copy()
    labels[mine] = 1 - labels[mine]
    monkeypatch.setattr(evidence, "patient_folds", lambda *_: spoken.fold)  # folds go by labels: these shall stay
    again = _fitted(replace(examples, labels=labels), seen)[2]
    told = [found.scans[0, examples.picture_at[mine], 0] for found in (spoken, again)]
    # the weights of penalties are chosen on all training patients: the same direction, its length may differ
    assert np.corrcoef(told[0], told[1])[0, 1] > 0.9
    told = [found.scans[1, examples.picture_at[mine], 0] for found in (spoken, again)]
    assert np.corrcoef(told[0], told[1])[0, 1] < 0.9


def test_while_it_learns_the_network_is_told_of_a_row_by_fits_that_never_saw_it(examples, seen):
    network, ids, spoken = _fitted(examples, seen)
    batches = Batches(
        examples,
        note_tokens(network.notes, ids),
        scan_tokens(network.scans, seen, examples.kinds),
        spoken=spoken,
    )
    recipe = Recipe("plain", drop_modality=0.0)
    network.eval()
    with torch.no_grad():
        told = batches.logits(network, TRAIN, recipe, np.random.default_rng(0))[:, COLUMN].numpy()
    vitals = batches.vitals_odds(network, TRAIN)[:, COLUMN]
    said = [spoken_of(examples, spoken, name, 0, TRAIN) for name in ("notes", "scans")]
    np.testing.assert_allclose(told, vitals + said[0] + said[1], atol=1e-4)
    assert vitals[examples.present[TRAIN, 0] == 0].max() == 0 and vitals.any()


def test_scans_that_say_nothing_are_of_the_rows_that_are_learned_from(examples, seen):
    network, ids, _ = _fitted(examples, seen)
    shown = []

    class _Shown(Batches):
        def _fused(self, network, vitals, rows, present, age_h, picture_at, spoken=None):
            shown.append(picture_at)
            return super()._fused(network, vitals, rows, present, age_h, picture_at, spoken)

    few = TRAIN[:20]
    own = np.where(np.arange(PATIENTS) % 2, -1, examples.picture_at)
    batches = _Shown(
        replace(examples, picture_at=own),
        note_tokens(network.notes, ids),
        scan_tokens(network.scans, seen, examples.kinds),
        learned=few,
    )
    recipe, rng = Recipe("plain", plain_scans=1.0), np.random.default_rng(0)
    batches.logits(network, np.arange(PATIENTS), recipe, rng)
    added = shown[0][(own < 0) & (shown[0] >= 0)]
    assert len(added) and set(added) <= set(own[few])


def test_trust_goes_to_what_tells_and_the_base_rate_is_the_prior(examples, seen):
    network, _, spoken = _fitted(examples, seen)
    nothing = np.zeros((PATIENTS, len(NAMES)), np.float32)
    fit_trust(network, CONDITIONS, examples, spoken, lambda rows: nothing[rows], TRAIN, 0, _quiet)
    trust = network.fusion.trust[:, COLUMN]
    assert trust[0] == 0 and trust[1] > 0.5 and trust[2] > 0.2
    assert network.fusion.trust[:, 0].eq(1).all()


def test_late_fusion_gives_noise_no_weight_and_few_patients_hardly_move_it():
    rng = np.random.default_rng(0)
    label = (rng.random(2000) < 0.2).astype(float)
    good = rng.normal(0, 1, 2000) + 1.0 * label
    told = np.stack([good, rng.normal(0, 2, 2000), -good], 1)
    group = np.arange(2000).astype(str)
    trust, prior = late_fusion(told, label, group)
    assert trust[0] - trust[2] == pytest.approx(1, abs=0.15) and trust[1] < 0.1 and (trust >= 0).all()
    assert -2.6 < prior < -1.6
    trust, prior = late_fusion(told[:12, :1], label[:12], group[:12])
    assert trust[0] == pytest.approx(1, abs=0.4) and abs(prior) < 1


def test_both_outcomes_weigh_as_much_in_a_linear_fit():
    rng = np.random.default_rng(0)
    label = (rng.random(3000) < 0.05).astype(float)
    features = rng.normal(0, 1, (3000, 3)) + label[:, None] * np.array([1.0, 0, 0])
    weight, bias = linear(features, label, {1.0: 1.0}, "notes")
    told = features @ weight + bias
    assert told[label == 1].mean() > 0 > told[label == 0].mean()
    assert abs((told[label == 1].mean() + told[label == 0].mean()) / 2) < 0.2


def test_before_it_is_fitted_evidence_is_silent():
    assert not Evidence(5, 2)(torch.randn(3, 5)).any()


def test_targets_of_notes_move_towards_what_they_say_of_strangers(examples, seen):
    _, _, spoken = _fitted(examples, seen)
    told = soft_labels(CONDITIONS, examples, spoken, TRAIN)
    assert np.isnan(told[90:]).all()
    ill = examples.labels[TRAIN, COLUMN] == 1
    assert told[TRAIN, COLUMN][ill].min() > 0.3 and told[TRAIN, COLUMN][~ill].max() < 0.7


def test_a_run_with_evidence_tells_strangers_better_than_one_without(examples, seen):
    few = Recipe("few", epochs=2, bootstraps=1, width=32, vocabulary=200)
    ill = examples.labels[100:, COLUMN] == 1
    lines, gaps = [], []
    for recipe in (few, replace(few, linear=CONDITIONS)):
        trained = train(examples, TRAIN, np.arange(90, 100), recipe, lines.append, seen=seen)
        told = predict(trained, examples, np.arange(100, PATIENTS), seen)[:, COLUMN]
        gaps.append(told[ill].mean() - told[~ill].mean())
    assert gaps[1] > gaps[0] and gaps[1] > 0.2
    assert any(line.startswith("trust of critical-course: ") for line in lines)


def test_a_handful_of_patients_turns_no_score_round_and_hundreds_calibrate_it():
    rng = np.random.default_rng(0)
    logit = rng.normal(-1, 1, (600, len(NAMES))).astype(np.float32)
    label = (rng.random(logit.shape) < 1 / (1 + np.exp(-(2 * logit - 0.5)))).astype(np.float32)
    group = np.arange(600).astype(str)
    found = fit_calibration(logit, label, group, 0, 0)
    np.testing.assert_allclose(found.scale[0], 2, atol=0.7)
    np.testing.assert_allclose(found.shift[0], -0.5, atol=0.4)
    against = (logit[:6] < -1).astype(np.float32)
    found = fit_calibration(logit[:6], against, group[:6], 20, 0)
    assert (found.scale[0] >= 0).all() and (found.scale[0] > 0.2).mean() > 0.7
    assert found.scale[1:].std(0).min() > 0.1


def test_the_networks_own_logits_stay_out_where_few_patients_do_not_bear_them_out():
    rng = np.random.default_rng(0)
    label = (rng.random((800, 1)) < 0.5).astype(np.float32)
    own = ((2 * label - 1) + rng.normal(0, 1, label.shape)).astype(np.float32)
    told, group = np.zeros_like(own), np.arange(800).astype(str)
    assert choose_shares(told, own, label, group) == 1
    assert choose_shares(told, -own, label, group) == 0
    noise = rng.normal(0, 1, own.shape).astype(np.float32)
    assert choose_shares(told, noise, label, group) == 0
    assert choose_shares(told[:4], own[:4], label[:4], group[:4]) < 1


def test_a_patient_of_many_rows_does_not_outvote_the_others():
    label = np.tile([0.0, 1.0], 200).astype(np.float32)[:, None]
    group = np.array(["long stay"] * 300 + [f"p{number}" for number in range(100)])
    right = (2 * label - 1) * np.where(group == "long stay", 1, -1).astype(np.float32)[:, None]
    assert choose_shares(np.zeros_like(right), right, label, group) == 0
