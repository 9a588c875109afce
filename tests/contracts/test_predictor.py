"""What every predictor backend must hold. Those that need other hardware refuse; CUDA graphs run uncaptured here."""

from dataclasses import fields

import numpy as np
import pytest

from models import artifact, backends, golden
from models.window import MODALITIES, SLOTS, WindowBatch
from tests.conftest import absent

UNCAPTURED = "cuda_graph on a CPU"
OF_SOME_MACHINES = ("cuda_graph", "tensorrt", "tensorrt-bf16", "openvino-bf16")
"""They need a GPU, or a CPU that multiplies in bf16."""


def _uncaptured(found):
    """The CUDA graph backend with everything but the GPU: programs, buckets, fixed buffers, padding."""
    import torch

    from models.backends.cuda_graph import CudaGraphPredictor
    from models.backends.static import called_again

    return CudaGraphPredictor(found, buckets=(2, 16), device=torch.device("cpu"), capture=called_again)


@pytest.fixture(scope="module", params=[*backends.BACKENDS, UNCAPTURED])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def found():
    return artifact.load(artifact.locate("reference"))


@pytest.fixture(scope="module")
def backend(name, found):
    if name == UNCAPTURED:
        return _uncaptured(found)
    try:
        made = backends.make(found, name)
        backends.check(made, name, found)
        return made
    except golden.GoldenMismatch as error:
        if backends.BACKENDS[name].precision != "fp32":
            pytest.skip(f"{name} may not serve this artifact: {error}")
        raise
    except backends.BackendUnavailable as error:
        if name in OF_SOME_MACHINES:
            pytest.skip(str(error))
        return absent(str(error))


@pytest.fixture(scope="module")
def tolerance(name):
    """What outputs of one backend may differ by among themselves: additions in another order, in its precision."""
    precision = "fp32" if name == UNCAPTURED else backends.BACKENDS[name].precision
    return golden.Tolerance(1e-5, 1e-6) if precision == "fp32" else golden.TOLERANCES[precision]


@pytest.fixture(scope="module")
def given(found):
    return found.golden()


def _windows(given, rows=slice(None)):
    return WindowBatch(*(given[field.name][rows] for field in fields(WindowBatch)))


def test_it_answers_as_the_reference_did(backend, name, found):
    backends.check(backend, "cuda_graph" if name == UNCAPTURED else name, found)


def test_rows_do_not_depend_on_their_batch(backend, given, tolerance):
    whole = backend.fuse(given["tokens"], given["present"], given["age_h"])
    alone = backend.fuse(given["tokens"][2:3], given["present"][2:3], given["age_h"][2:3])
    np.testing.assert_allclose(whole.probability[2:3], alone.probability, atol=tolerance.probability)
    many, one = backend.encode_vitals(_windows(given)), backend.encode_vitals(_windows(given, slice(3, 4)))
    np.testing.assert_allclose(many[3:4], one, atol=tolerance.embedding)


def test_the_same_rows_give_the_same_answer_and_it_stays(backend, given):
    first = backend.encode_vitals(_windows(given))
    kept = first.copy()
    backend.encode_vitals(_windows(given, slice(0, 1)))
    np.testing.assert_array_equal(first, kept)  # a later call writes into no earlier answer
    np.testing.assert_array_equal(backend.encode_vitals(_windows(given)), kept)


def test_more_rows_than_the_largest_bucket_are_answered(backend, given, tolerance):
    many = np.arange(70) % golden.ROWS
    answers = backend.encode_vitals(_windows(given, many))
    np.testing.assert_allclose(answers, backend.encode_vitals(_windows(given))[many], atol=tolerance.embedding)


def test_an_absent_slot_changes_nothing_whatever_it_holds(backend, given, tolerance):
    present = given["present"]
    noise = given["tokens"] + 100 * (1 - present[..., None])
    one = backend.fuse(given["tokens"], present, given["age_h"])
    other = backend.fuse(noise.astype(np.float32), present, given["age_h"] + 50 * (1 - present))
    np.testing.assert_allclose(one.probability, other.probability, atol=tolerance.probability)


def test_with_nothing_present_the_score_is_finite_and_contributes_nothing(backend, given):
    fused = backend.fuse(given["tokens"], np.zeros_like(given["present"]), given["age_h"])
    assert np.isfinite(fused.probability).all()
    assert not fused.contribution.any()


@pytest.mark.parametrize("gone", MODALITIES)
def test_taking_a_modality_away_still_gives_a_score_and_is_its_contribution(backend, given, gone, tolerance):
    present = np.ones_like(given["present"])
    whole = backend.fuse(given["tokens"], present, given["age_h"])
    present[:, [slot == gone for slot in SLOTS]] = 0
    without = backend.fuse(given["tokens"], present, given["age_h"])
    assert np.isfinite(without.probability).all()
    difference = whole.probability - without.probability
    found = whole.contribution[:, :, MODALITIES.index(gone)]
    np.testing.assert_allclose(found, difference, atol=tolerance.probability)


def test_the_interval_holds_the_probability(backend, given):
    fused = backend.fuse(given["tokens"], given["present"], given["age_h"])
    assert (fused.low <= fused.probability).all()
    assert (fused.probability <= fused.high).all()
    assert ((fused.probability > 0) & (fused.probability < 1)).all()


def test_any_text_can_be_encoded(backend):
    assert np.isfinite(backend.encode_notes(["", "\x00", "ü" * 9999, "word"])).all()
