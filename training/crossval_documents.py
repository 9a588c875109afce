"""Cross-validation where documents count: `python -m training.crossval_documents DATASET --root DIR --json OUT`.

eicu, covid: the fused model, the same model with all but one modality taken away, and the peers that read documents
(`document_peers.py`), on five folds of patients. covid-unmasked leaves the notes whole, the
outcome in them.
COVID's pictures are measured on whatever their licence, and enter no weights that are given away. With `--also
physionet2012` the folds of both are learned together, as the reference model learns from all its data.

luna16: the fused model, by two protocols: the data set's own split (trained on train and val; patients may cross it),
and five folds of blocks of LUNA16's candidates' list (whole scans, but for the one on each block's border). No test row
chooses anything; rotated copies of nodules are not read at all. Peers: logistic regression and gradient boosting on the
pooled ImageNet features of the same trunk.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from models.conditions import NAMES
from models.window import MODALITIES, SLOTS
from training.cohort import folds, split
from training.crossval import MODEL, judge, out_of_fold
from training.dataset import Examples, build
from training.document_peers import document_peers
from training.documents import Views, imagenet_views
from training.loop import predict, train
from training.metrics import evaluate
from training.recipes import reference
from training.sources import FOLDERS, READERS, covid, data_hash, eicu, luna16
from training.stays import Stay

Rows = NDArray[np.int64]
Report = Callable[[str], None]
FOLDS, SEED = 5, 1


def told_by_model(examples: Examples, seen: Views, rows: Rows, test: Rows, seed: int, report: Report) -> NDArray[Any]:
    """[test, C] probabilities of the fused model that learned from these rows, some of their groups kept apart to stop
    and to calibrate."""
    recipe = replace(reference(), seed=seed)
    inner = recipe.validation_share / (recipe.train_share + recipe.validation_share)
    learned, judged, _ = split(examples.group[rows], examples.stratum[rows], 1 - inner, inner, seed)
    trained = train(examples, rows[learned], rows[judged], recipe, report, seen=seen)
    return predict(trained, examples, test, seen)


def peers_of(examples: Examples, seen: Views, rows: Rows) -> Mapping[str, Callable[[Rows, int], NDArray[Any]]]:
    """Probabilities by logistic regression and by gradient boosting on the trunk's features, by name."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = seen.features.numpy()[examples.picture_at]

    def fitted(model: Any) -> Callable[[Rows, int], NDArray[Any]]:
        def told(asked: Rows, column: int) -> NDArray[Any]:
            return model.fit(features[rows], examples.labels[rows, column]).predict_proba(features[asked])[:, 1]

        return told

    return {
        "logistic_regression": fitted(make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))),
        "gradient_boosting": fitted(HistGradientBoostingClassifier(max_iter=150, random_state=SEED)),
    }


def cross_validate_stays(examples: Examples, seen: Views, report: Report) -> dict[str, Any]:
    """`crossval.judge` of the fused model, of what it says by one modality alone, and of the peers."""
    present = {name: examples.present * np.array([slot == name for slot in SLOTS], np.float32) for name in MODALITIES}
    alone = {name: replace(examples, present=there) for name, there in present.items() if there.any()}
    found = out_of_fold(
        examples,
        reference(),
        report,
        count=FOLDS,
        seed=SEED,
        peers=document_peers(seen),
        seen=seen,
        further=lambda trained, test: {name: predict(trained, one, test, seen) for name, one in alone.items()},
    )
    probability = dict(found.probability)
    for name in alone:
        told = probability[f"model_{name}_only"] = np.full_like(probability[MODEL], np.nan)
        for number, answers in enumerate(found.further):
            told[found.fold == number] = answers[name]
    return judge(examples, replace(found, probability=probability))


def cross_validate_scans(
    examples: Examples, seen: Views, own_test: NDArray[np.bool_], report: Report
) -> dict[str, Any]:
    """`{protocol: {model or peer: metrics}}`."""
    column = NAMES.index(luna16.CONDITION)
    label = examples.labels[:, column]
    protocols = {
        "own_split": [(np.flatnonzero(~own_test), np.flatnonzero(own_test))],
        "blocks": folds(examples.group, examples.stratum, FOLDS, SEED),
    }
    found: dict[str, Any] = {}
    for protocol, parts in protocols.items():
        told: dict[str, NDArray[Any]] = {}
        for number, (rows, test) in enumerate(parts):
            report(f"{protocol} {number + 1}/{len(parts)}")
            answers = {name: peer(test, column) for name, peer in peers_of(examples, seen, rows).items()}
            answers[MODEL] = told_by_model(examples, seen, rows, test, SEED + number, report)[:, column]
            for name, answer in answers.items():
                told.setdefault(name, np.full(len(label), np.nan))[test] = answer
        tested = np.sort(np.concatenate([test for _, test in parts]))
        found[protocol] = {
            name: evaluate(label[tested], probability[tested], examples.cluster[tested])
            for name, probability in told.items()
        }
        for name, figures in found[protocol].items():
            report(f"{protocol} {name}: {figures['auroc']}")
    return found


def _views(examples: Examples, kept: Path | None) -> Views:
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return Views(torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["small"]))
    seen = imagenet_views(examples.pictures)
    if kept:
        np.savez(kept, features=seen.features.numpy(), small=seen.small.numpy())
    return seen


STAYS: dict[str, Callable[[Path], Iterator[Stay]]] = {
    "eicu": eicu.read,
    "covid": partial(covid.read, open_only=False),
    "covid-unmasked": partial(covid.read, open_only=False, masked=False),
    "luna16": luna16.read,
}


def main() -> None:
    """Reads, trains, measures, writes JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("dataset", choices=STAYS)
    arguments.add_argument("--root", type=Path, required=True, help="the data set's folder")
    arguments.add_argument("--json", type=Path, required=True)
    arguments.add_argument(
        "--also",
        nargs="+",
        choices=READERS,
        default=[],
        help="data sets learned with it, from the folders beside its own",
    )
    arguments.add_argument("--views", type=Path, help="a file that keeps what the trunk makes of pictures between runs")
    given = arguments.parse_args()
    if given.also and given.dataset == "luna16":
        arguments.error("luna16 is measured by itself: its protocols are of its own scans")
    torch.set_num_threads(1)

    def report(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    roots = {given.dataset: given.root} | {source: given.root.parent / FOLDERS[source] for source in given.also}
    stays = [*STAYS[given.dataset](given.root), *chain.from_iterable(READERS[s](roots[s]) for s in given.also)]
    examples = build(stays)
    seen = _views(examples, given.views)
    if given.dataset == "luna16":
        own_test = np.array([luna16.split_of(stay.patient) == "test" for stay in stays])
        told = cross_validate_scans(examples, seen, own_test, report)
    else:
        told = cross_validate_stays(examples, seen, report)
    found = {
        "data": given.dataset,
        "also": given.also,
        "folds": FOLDS,
        "seed": SEED,
        "recipe": asdict(reference()),
        "tasks": told,
        "data_sha256": {name: data_hash(folder) for name, folder in roots.items()},
        "versions": {name: version(name) for name in ("torch", "scikit-learn", "numpy")}
        | {"python": platform.python_version()},
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


if __name__ == "__main__":
    main()
