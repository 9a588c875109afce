import numpy as np

from models.calibration import Calibration


def test_the_interval_is_the_quantile_of_the_calibrators():
    rng = np.random.default_rng(0)
    calibration = Calibration(rng.normal(1, 0.1, (51, 2)), rng.normal(0, 0.3, (51, 2)))
    logits = rng.normal(0, 2, (7, 2))
    spread = 1 / (1 + np.exp(-(logits[None] * calibration.scale[1:, None] + calibration.shift[1:, None])))
    middle = calibration.probability(logits)
    low, high = calibration.interval(logits, middle)
    expected = np.quantile(spread, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(low, np.minimum(expected[0], middle), atol=1e-6)
    np.testing.assert_allclose(high, np.maximum(expected[1], middle), atol=1e-6)
