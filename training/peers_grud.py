"""GRU-D as a peer: a recurrent network whose inputs and hidden state decay with the time since a measurement.

Che et al. 2018, Recurrent Neural Networks for Multivariate Time Series with Missing Values, Scientific Reports 8:6085,
equations 3 to 9. It reads the window that the model reads, one step a bin; static facts join before the head. One network
a condition, of all sources that teach it. Shapes: B rows, T steps, V signals, G static signals, H hidden.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.signals import SIGNALS
from models.window import HOURS
from training.cohort import split
from training.dataset import Examples
from training.peers import each_condition

Rows = NDArray[np.int64]
HIDDEN, BATCH, EPOCHS, PATIENCE = 64, 64, 30, 4
LEARNING_RATE, DROPOUT = 1e-3, 0.3
VALIDATION_SHARE = 0.15
CLIP = 5.0
_STATIC = np.array([signal.kind == "static" for signal in SIGNALS])


class GruD(nn.Module):
    """Logits [B] from standardised values [B, T, V], masks [B, T, V], hours since measured [B, T, V], facts [B, 2G]."""

    def __init__(self, signals: int, facts: int) -> None:
        super().__init__()
        # above 0, where the decay's relu has a gradient
        self.input_decay, self.input_bias = nn.Parameter(torch.ones(signals)), nn.Parameter(torch.zeros(signals))
        self.hidden_decay = nn.Linear(signals, HIDDEN)
        self.inputs, self.states = nn.Linear(2 * signals, 3 * HIDDEN), nn.Linear(HIDDEN, 3 * HIDDEN)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(HIDDEN + facts, 1)

    def forward(self, x: Tensor, m: Tensor, since: Tensor, facts: Tensor) -> Tensor:
        keep_BTV = torch.exp(-torch.relu(since * self.input_decay + self.input_bias))
        fade_BTH = torch.exp(-torch.relu(self.hidden_decay(since)))
        h_BH = x.new_zeros(len(x), HIDDEN)
        last_BV = torch.zeros_like(x[:, 0])
        for step in range(x.shape[1]):
            m_BV = m[:, step]
            # the mean of a standardised signal is 0, so what is missing decays from its last value to 0
            seen_BV = m_BV * x[:, step] + (1 - m_BV) * keep_BTV[:, step] * last_BV
            last_BV = m_BV * x[:, step] + (1 - m_BV) * last_BV
            h_BH = fade_BTH[:, step] * h_BH
            xr, xz, xn = self.inputs(torch.cat([seen_BV, m_BV], -1)).chunk(3, -1)
            hr, hz, hn = self.states(h_BH).chunk(3, -1)
            z = torch.sigmoid(xz + hz)
            h_BH = (1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + z * h_BH
        return self.head(self.dropout(torch.cat([h_BH, facts], -1)))[:, 0]


class _Inputs:
    """Rows of the examples as the network's inputs, standardised by the training rows."""

    def __init__(self, examples: Examples, train: Rows) -> None:
        self.examples = examples
        self.series = np.flatnonzero(~_STATIC)
        self.facts = np.flatnonzero(_STATIC)
        known, last = examples.last_mask[train], examples.last[train]
        count = np.maximum(known.sum(0), 1)
        self.mean = (last * known).sum(0) / count
        deviation = np.sqrt((((last - self.mean) * known) ** 2).sum(0) / count)
        self.deviation = np.where(deviation > 1e-3, deviation, 1.0)

    def __call__(self, rows: Rows) -> tuple[Tensor, ...]:
        e, at, facts = self.examples, self.series, self.facts
        mask = e.mask[rows][:, :, at].astype(np.float32)
        x = np.clip((e.values[rows][:, :, at] - self.mean[at]) / self.deviation[at], -CLIP, CLIP) * mask
        step = HOURS / mask.shape[1]
        since = np.zeros_like(mask)
        for t in range(1, mask.shape[1]):
            since[:, t] = step + (1 - mask[:, t - 1]) * since[:, t - 1]
        known = e.last_mask[rows][:, facts]
        told = np.clip((e.last[rows][:, facts] - self.mean[facts]) / self.deviation[facts], -CLIP, CLIP) * known
        both = np.concatenate([told, known], 1)
        return tuple(torch.from_numpy(a.astype(np.float32)) for a in (x, mask, since / HOURS, both))


def gru_d(examples: Examples, train: Rows, test: Rows) -> NDArray[np.float32]:
    """[test rows, C]; NaN for what the training rows do not teach, or teach without measurements."""

    def fit(rows: Rows, asked: Rows, column: int) -> NDArray[np.float32]:
        return _fit_and_ask(examples, rows, asked, column)

    return each_condition(examples, train, test, fit)


def _fit_and_ask(examples: Examples, rows: Rows, asked: Rows, column: int) -> NDArray[np.float32]:
    """[asked] probabilities. Trains until the inner validation patients' loss has not fallen for a while; asks the best
    epoch."""
    if not examples.mask[rows].any():
        return np.full(len(asked), np.nan, np.float32)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    inner, validation, _ = split(
        examples.group[rows], examples.stratum[rows], 1 - VALIDATION_SHARE, VALIDATION_SHARE, 0
    )
    inner, validation = rows[inner], rows[validation]
    inputs = _Inputs(examples, inner)
    network = GruD(len(inputs.series), 2 * len(inputs.facts))
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)

    def loss(at: Rows) -> Tensor:
        label = torch.from_numpy(examples.labels[at, column])
        return nn.functional.binary_cross_entropy_with_logits(network(*inputs(at)), label)

    best, best_state, bad = np.inf, network.state_dict(), 0
    for _ in range(EPOCHS):
        network.train()
        order = rng.permutation(inner)
        for first in range(0, len(order), BATCH):
            optimiser.zero_grad()
            loss(order[first : first + BATCH]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
        network.eval()
        with torch.inference_mode():
            parts = [(len(at), float(loss(at))) for at in _parts(validation)]
        value = sum(n * one for n, one in parts) / sum(n for n, _ in parts)
        if value < best:
            best, bad = value, 0
            best_state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        else:
            bad += 1
            if bad == PATIENCE:
                break
    network.load_state_dict(best_state)
    network.eval()
    with torch.inference_mode():
        return np.concatenate([torch.sigmoid(network(*inputs(at))).numpy() for at in _parts(asked)])


def _parts(rows: Rows) -> list[Rows]:
    return [rows[first : first + 512] for first in range(0, len(rows), 512)]
