"""Cross-validation of the scan encoder on LUNA16: `python -m training.crossval_documents --root DIR --json OUT`.

Two protocols, both with every epoch count and rate fixed beforehand, so that no test row chooses anything: the data
set's own split (trained on train and val; patients may cross it), and five folds of blocks of LUNA16's candidates' list
(whole scans, but for the one on each block's border). Rotated copies of nodules are not read at all. Peers on the same
rows: logistic regression and gradient boosting on the pooled ImageNet features of the same trunk.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import nn

from models.conditions import NAMES
from models.vision import ScanEncoder
from training import imagenet
from training.cohort import folds
from training.dataset import Examples, build
from training.documents import Views, learn_scans, scan_tokens, views
from training.metrics import evaluate
from training.sources import luna16

Rows = NDArray[np.int64]
Report = Callable[[str], None]
FOLDS, SEED = 5, 1


def scan_logits(examples: Examples, seen: Views, train: Rows, column: int, seed: int, report: Report) -> NDArray[Any]:
    """[N] of every row, by an encoder and a linear head that learned from the training rows alone."""
    torch.manual_seed(seed)
    encoder = ScanEncoder()
    targets = np.full(examples.labels.shape, np.nan, np.float32)
    targets[train, column] = examples.labels[train, column]
    head = learn_scans(encoder, examples, seen, train, targets, seed, report)
    assert head is not None
    with torch.inference_mode():
        told = head(scan_tokens(encoder, seen, examples.kinds))[examples.picture_at, column]
    return told.numpy()


def peer_logits(examples: Examples, seen: Views, train: Rows) -> Mapping[str, Callable[[Rows, int], NDArray[Any]]]:
    """Logistic regression and gradient boosting on the trunk's features, by name."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = seen.features.numpy()[examples.picture_at]

    def fitted(model: Any) -> Callable[[Rows, int], NDArray[Any]]:
        def told(asked: Rows, column: int) -> NDArray[Any]:
            return model.fit(features[train], examples.labels[train, column]).decision_function(features[asked])

        return told

    return {
        "logistic_regression": fitted(make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))),
        "gradient_boosting": fitted(HistGradientBoostingClassifier(max_iter=150, random_state=SEED)),
    }


def cross_validate(examples: Examples, seen: Views, own_test: NDArray[np.bool_], report: Report) -> dict[str, Any]:
    """`{protocol: {model or peer: metrics}}`."""
    column = NAMES.index(luna16.CONDITION)
    label = examples.labels[:, column]
    protocols = {
        "own_split": [(np.flatnonzero(~own_test), np.flatnonzero(own_test))],
        "blocks": folds(examples.group, FOLDS, SEED),
    }
    found: dict[str, Any] = {}
    for protocol, parts in protocols.items():
        told: dict[str, NDArray[Any]] = {}
        for number, (train, test) in enumerate(parts):
            report(f"{protocol} {number + 1}/{len(parts)}")
            told.setdefault("model", np.full(len(label), np.nan))[test] = scan_logits(
                examples, seen, train, column, SEED + number, report
            )[test]
            for name, peer in peer_logits(examples, seen, train).items():
                told.setdefault(name, np.full(len(label), np.nan))[test] = peer(test, column)
        tested = np.sort(np.concatenate([test for _, test in parts]))
        found[protocol] = {
            name: evaluate(label[tested], nn.functional.sigmoid(torch.from_numpy(logits[tested])).numpy())
            for name, logits in told.items()
        }
        for name, figures in found[protocol].items():
            report(f"{protocol} {name}: {figures['auroc']}")
    return found


def main() -> None:
    """Reads, trains, measures, writes JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", type=Path, required=True, help="folder of luna16_patches")
    arguments.add_argument("--json", type=Path, required=True)
    arguments.add_argument("--views", type=Path, help="a file that keeps the trunk's features between runs")
    given = arguments.parse_args()
    torch.set_num_threads(1)

    def report(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    stays = list(luna16.read(given.root))
    own_test = np.array([luna16.split_of(stay.patient) == "test" for stay in stays])
    examples = build(stays)
    encoder = ScanEncoder()
    imagenet.load_trunk(encoder.trunk)
    if given.views and given.views.exists():
        with np.load(given.views) as kept:
            seen = Views(torch.from_numpy(kept["features"]), torch.from_numpy(kept["small"]))
    else:
        seen = views(encoder.trunk, examples.pictures)
        if given.views:
            np.savez(given.views, features=seen.features.numpy(), small=seen.small.numpy())
    found = {
        "data": "luna16",
        "condition": luna16.CONDITION,
        "folds": FOLDS,
        "seed": SEED,
        "tasks": cross_validate(examples, seen, own_test, report),
        "versions": {name: version(name) for name in ("torch", "scikit-learn", "numpy")}
        | {"python": platform.python_version()},
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


if __name__ == "__main__":
    main()
