"""What every predictor backend must hold."""

import numpy as np
import pytest

from models import artifact, backends, golden
from models.window import MODALITIES, SLOTS, WINDOW_FIELDS, WindowBatch


@pytest.fixture(scope="module", params=backends.BACKENDS)
def backend(request):
    return backends.load(artifact.locate("reference"), request.param)


@pytest.fixture(scope="module")
def given(backend):
    return golden.inputs(backend.card.width)


def test_rows_do_not_depend_on_their_batch(backend, given):
    whole = backend.fuse(given["tokens"], given["present"], given["age_h"])
    alone = backend.fuse(given["tokens"][2:3], given["present"][2:3], given["age_h"][2:3])
    np.testing.assert_allclose(whole.probability[2:3], alone.probability, atol=1e-6)
    many = backend.encode_vitals(WindowBatch(*(given[name] for name in WINDOW_FIELDS)))
    one = backend.encode_vitals(WindowBatch(*(given[name][3:4] for name in WINDOW_FIELDS)))
    np.testing.assert_allclose(many[3:4], one, atol=1e-5)


def test_an_absent_slot_changes_nothing_whatever_it_holds(backend, given):
    present = given["present"]
    noise = given["tokens"] + 100 * (1 - present[..., None])
    one = backend.fuse(given["tokens"], present, given["age_h"])
    other = backend.fuse(noise.astype(np.float32), present, given["age_h"] + 50 * (1 - present))
    np.testing.assert_allclose(one.probability, other.probability, atol=1e-6)


def test_with_nothing_present_the_score_is_finite_and_contributes_nothing(backend, given):
    fused = backend.fuse(given["tokens"], np.zeros_like(given["present"]), given["age_h"])
    assert np.isfinite(fused.probability).all()
    assert not fused.contribution.any()


@pytest.mark.parametrize("gone", MODALITIES)
def test_taking_a_modality_away_still_gives_a_score_and_is_its_contribution(backend, given, gone):
    present = np.ones_like(given["present"])
    whole = backend.fuse(given["tokens"], present, given["age_h"])
    present[:, [slot == gone for slot in SLOTS]] = 0
    without = backend.fuse(given["tokens"], present, given["age_h"])
    assert np.isfinite(without.probability).all()
    difference = whole.probability - without.probability
    np.testing.assert_allclose(whole.contribution[:, :, MODALITIES.index(gone)], difference, atol=1e-6)


def test_the_interval_holds_the_probability(backend, given):
    fused = backend.fuse(given["tokens"], given["present"], given["age_h"])
    assert (fused.low <= fused.probability).all()
    assert (fused.probability <= fused.high).all()
    assert ((fused.probability > 0) & (fused.probability < 1)).all()


def test_any_text_can_be_encoded(backend):
    assert np.isfinite(backend.encode_notes(["", "\x00", "ü" * 9999, "word"])).all()
