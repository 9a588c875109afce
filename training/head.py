"""Whether the head under which the scan encoder learned speaks for a condition, in place of the linear fit.

Thousands of labelled pictures teach the encoder more than a linear fit finds in its trunk's features; a few hundred do not.
Pictures that neither has seen decide, and say how far the head is to be believed: of the ones it learned from it is too
sure. While the fusion learns, it is still told of those by linear fits that never saw their patient. Shapes: P pictures,
C conditions, D width.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.conditions import NAMES
from models.vision import FEATURES, ScanEncoder
from training.dataset import Examples
from training.documents import Views, scan_descriptions
from training.evidence import Spoken
from training.peers import training_rows

Rows = NDArray[np.int64]
FEWEST = 30
"""Fewer unseen pictures than this with or without the condition decide nothing."""


@torch.no_grad()
def take(
    encoder: ScanEncoder,
    head: nn.Linear,
    conditions: Sequence[str],
    examples: Examples,
    seen: Views,
    spoken: Spoken,
    judged: Rows,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """Puts the head [D] -> [C] in the encoder's evidence and in `spoken`, in place, of every condition that it tells better.

    judged: rows that the encoder did not learn from. Better: the mean loss a picture, both outcomes counting as much, is
    lower by more than a standard error of the difference, after either's scale and shift were fitted.
    """
    assert encoder.evidence is not None
    of_head = head(scan_descriptions(encoder, seen, examples.kinds)).numpy()
    for place, condition in enumerate(conditions):
        column = NAMES.index(condition)
        rows = training_rows(examples, judged, column, seed)
        at, last = np.unique(examples.picture_at[rows][::-1], return_index=True)
        rows, at = rows[::-1][last][at >= 0], at[at >= 0]
        label = examples.labels[rows, column]
        if min((label == 0).sum(), (label == 1).sum()) < FEWEST:
            continue
        linear = spoken.scans[spoken.fold[rows], at, place].numpy()
        (scale, shift), loss = _fitted(of_head[at, column], label)
        better = _fitted(linear, label)[1] - loss
        takes = scale > 0 and better.mean() > better.std() / np.sqrt(len(better))
        report(
            f"scans of {condition}: the encoder's head {'speaks' if takes else 'is silent'}, better by {better.mean():.3f}"
        )
        if not takes:
            continue
        encoder.evidence.weight[:FEATURES, place] = 0
        encoder.evidence.weight[FEATURES:, place] = scale * head.weight[column]
        encoder.evidence.bias[place] = scale * float(head.bias[column]) + shift
        said = encoder.evidence.bounded(torch.from_numpy(scale * of_head[at, column] + shift))
        spoken.scans[:, at, place] = said.float()


def _fitted(
    odds: NDArray[np.floating], label: NDArray[np.floating]
) -> tuple[tuple[float, float], NDArray[np.floating]]:
    """Scale and shift that make log odds of these, had both outcomes been as frequent, and the loss of each."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(class_weight="balanced").fit(odds[:, None], label)
    scale, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    told = scale * odds + shift
    share = np.where(label == 1, label.mean(), 1 - label.mean())
    return (scale, shift), np.logaddexp(0, np.where(label == 1, -told, told)) / (2 * share)
