"""Patient-level cross-validation: out-of-fold probabilities of the model and of its peers on the same splits.

`python -m training.crossval physionet2012 physionet2019 eicu --data DIR --json OUT` measures the reference recipe on these
data sets, learned together, beside peers that read vitals (`crossval_documents.py` has the peers that read documents).

Every choice inside a fold (early stopping, calibration, trust) sees that fold's training patients only; a fold's
thresholds for score 1 and utility are chosen on the out-of-fold scores of the other folds' patients.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from training.bootstrap import ROUNDS
from training.cohort import folds, split
from training.dataset import Examples, build
from training.documents import Views
from training.figures import of_task
from training.kept import Arrays, Keep, at_once
from training.loop import Trained, predict, train
from training.peers import PEERS
from training.predictions import collect
from training.recipes import Recipe, reference
from training.sources import FOLDERS, READERS, data_hash

Rows = NDArray[np.int64]
Peer = Callable[[Examples, Rows, Rows], NDArray[np.floating]]
"""(examples, training rows, test rows) -> [test rows, C], NaN for a condition it says nothing of."""
Further = Callable[[Trained, Rows], Arrays]
"""(a fold's model, its test rows) -> more of what it says."""
MODEL = "model"


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """`probability[name]` is f32 [N, C] of the model (`MODEL`) or a peer, each row by the fold that did not see it.

    fold: [N] which fold tested the row. share: [folds, C] `Trained.share` of each fold's model. further: by fold, what else
    its model was asked.
    """

    probability: Mapping[str, NDArray[np.float32]]
    fold: NDArray[np.int64]
    share: NDArray[np.float32]
    further: Sequence[Arrays]


def out_of_fold(
    examples: Examples,
    recipe: Recipe,
    report: Callable[[str], None],
    *,
    count: int = 5,
    seed: int = 1,
    peers: Mapping[str, Peer] | None = None,
    seen: Views | None = None,
    further: Further = lambda trained, test: {},
    keep: Keep = at_once,
) -> OutOfFold:
    """The recipe, and each peer, trained `count` times on all but one fold of patients and asked about that fold.

    `seen` are the pictures' views, so that the trunk need not look at every picture again in every fold. `further` asks a
    fold's model for more than its probabilities; the model itself is not kept. `keep` is asked for every answer by name.
    """
    peers = peers or {}
    shape = examples.labels.shape
    probability = {name: np.full(shape, np.nan, np.float32) for name in (MODEL, *peers)}
    fold, share, told = np.full(len(examples.labels), -1), [], []
    inner = recipe.validation_share / (recipe.train_share + recipe.validation_share)
    group, stratum = examples.group, examples.stratum

    def of_peer(peer: Peer, rest: Rows, test: Rows) -> Arrays:
        return {"probability": peer(examples, rest, test)}

    def of_model(number: int, rest: Rows, test: Rows) -> Arrays:
        train_rows, validation_rows, _ = split(group[rest], stratum[rest], 1 - inner, inner, seed)
        seeded = replace(recipe, seed=recipe.seed + number)
        trained = train(examples, rest[train_rows], rest[validation_rows], seeded, report, seen=seen)
        asked = {"probability": predict(trained, examples, test, seen), "share": trained.share}
        return asked | dict(further(trained, test))

    for number, (rest, test) in enumerate(folds(group, stratum, count, seed)):
        fold[test] = number
        for name, peer in peers.items():
            report(f"fold {number + 1}/{count}: {name}")
            probability[name][test] = keep(f"{name} {number}", partial(of_peer, peer, rest, test))["probability"]
        report(f"fold {number + 1}/{count}: {MODEL}")
        answers = dict(keep(f"{MODEL} {number}", partial(of_model, number, rest, test)))
        probability[MODEL][test] = answers.pop("probability")
        share.append(answers.pop("share"))
        told.append(answers)
    return OutOfFold(probability, fold, np.array(share), told)


def judge(examples: Examples, found: OutOfFold, rounds: int = ROUNDS) -> dict[str, Any]:
    """`<source>.<condition>`: `figures.of_task` of the model and every peer that speaks of it."""
    return {task.name: of_task(task, rounds) for task in collect(examples, found.probability, found.fold)}


def cross_validate(
    examples: Examples,
    recipe: Recipe,
    report: Callable[[str], None],
    *,
    count: int = 5,
    seed: int = 1,
    peers: Mapping[str, Peer] | None = None,
    rounds: int = ROUNDS,
    splits: int = 1,
) -> dict[str, Any]:
    """What `judge` says, under `tasks`, with what made it; JSON can be written of it as it is.

    With more `splits`, `again` has what it says when patients fall into other folds: how much hangs on that.
    """
    told = [
        judge(examples, out_of_fold(examples, recipe, report, count=count, seed=seed + more, peers=peers), rounds)
        for more in range(splits)
    ]
    return {"folds": count, "seed": seed, "recipe": asdict(recipe), "tasks": told[0], "again": told[1:]}


def main() -> None:
    """Reads, trains, measures, writes JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("sources", nargs="+", choices=("physionet2012", "physionet2019", "eicu"))
    arguments.add_argument("--data", type=Path, required=True, help="folder of data sets")
    arguments.add_argument("--json", type=Path, required=True)
    arguments.add_argument("--splits", type=int, default=1, help="so many ways to fold the patients")
    given = arguments.parse_args()
    torch.set_num_threads(1)

    def report(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    roots = {source: given.data / FOLDERS[source] for source in given.sources}
    examples = build(chain.from_iterable(READERS[source](root) for source, root in roots.items()))
    found = cross_validate(examples, reference(), report, peers=PEERS, splits=given.splits)
    found["data_sha256"] = {source: data_hash(root) for source, root in roots.items()}
    found["versions"] = {name: version(name) for name in ("torch", "scikit-learn", "numpy")} | {
        "python": platform.python_version()
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


if __name__ == "__main__":
    main()
