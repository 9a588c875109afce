"""What the vitals encoder's buffers hold: means, deviations and normal scores at quantiles of the training patients."""

from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from models.knowledge import Knowledge
from models.network import Network
from models.vitals import FIRST, STEPS, K
from models.window import V
from training.dataset import Examples

NEVER = 1e9
"""Where a step begins that no value comes to: a signal of few distinct values has fewer steps."""
FEWEST = 20
"""A figure known in fewer rows than this says nothing: its score stays 0."""
_SHARES = np.linspace(0, 1, STEPS + 1)
_SCORES = np.array([NormalDist().inv_cdf(min(max(share, 0.01), 0.99)) for share in _SHARES])


def fit_scales(network: Network, examples: Examples, rows: NDArray[np.int64]) -> None:
    """Fills the buffers in place from these rows."""
    known, last = examples.last_mask[rows] > 0, examples.last[rows]
    mean, std = np.zeros(V, np.float32), np.ones(V, np.float32)
    for signal in range(V):
        if known[:, signal].any():
            mean[signal] = last[known[:, signal], signal].mean()
            std[signal] = max(last[known[:, signal], signal].std(), 1e-3)
    low, width = np.full((K, V, STEPS), NEVER, np.float32), np.ones((K, V, STEPS), np.float32)
    rise, start = np.zeros((K, V, STEPS), np.float32), np.zeros((K, V), np.float32)
    summary = examples.summary[rows]
    there = Knowledge()(torch.from_numpy(summary)).numpy() > 0
    for kind in range(K):
        for signal in range(V):
            values = summary[there[:, FIRST + kind, signal], FIRST + kind, signal]
            if len(values) < FEWEST:
                continue
            knots = np.quantile(values, _SHARES).astype(np.float32)
            distinct, of_knot = np.unique(knots, return_inverse=True)
            score = np.bincount(of_knot, _SCORES) / np.bincount(of_knot)  # equal values share their mean score
            steps = len(distinct) - 1
            start[kind, signal] = score[0]
            low[kind, signal, :steps] = distinct[:-1]
            width[kind, signal, :steps] = np.maximum(np.diff(distinct), 1e-4)
            rise[kind, signal, :steps] = np.diff(score)
    vitals = network.vitals
    for buffer, array in (
        (vitals.mean, mean),
        (vitals.std, std),
        (vitals.scores.low, low),
        (vitals.scores.width, width),
        (vitals.scores.rise, rise),
        (vitals.scores.start, start),
    ):
        buffer.copy_(torch.from_numpy(array))
