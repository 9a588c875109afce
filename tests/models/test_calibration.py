import numpy as np

from models.calibration import Calibration


def _spread(calibration, logits):
    return logits[None] * calibration.scale[1:, None] + calibration.shift[1:, None]


def _calibration(rng, count):
    scale = rng.normal(1, 0.1, (count, 2))
    shift = rng.normal(0, 0.3, (count, 2)) - 0.5 * (scale - 1)  # steeper ones lie lower
    scale[0], shift[0] = 1, 0
    return Calibration(scale, shift)


def test_the_interval_holds_95_percent_of_the_calibrators():
    rng = np.random.default_rng(0)
    calibration = _calibration(rng, 4001)
    logits = rng.normal(0, 2, (7, 2)).astype(np.float32)
    _, low, high = calibration.with_interval(logits[:, None])
    told = 1 / (1 + np.exp(-_spread(calibration, logits)))
    np.testing.assert_allclose(((told >= low) & (told <= high)).mean(0), 0.95, atol=0.015)


def test_the_interval_is_around_the_first_probability_and_none_where_all_calibrators_agree():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 5, (20, 3, 2)).astype(np.float32)
    calibration = _calibration(rng, 51)
    told, low, high = calibration.with_interval(logits)
    np.testing.assert_array_equal(told, calibration.probability(logits))
    assert (low < told[:, 0]).all() and (told[:, 0] < high).all()
    for count in (2, 5):
        told, low, high = Calibration(np.ones((count, 2)), np.zeros((count, 2))).with_interval(logits)
        np.testing.assert_allclose(low, high, atol=1e-6)
