"""One training run from a recipe's name to an artifact on disk, its card filled."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from models.conditions import NAMES
from streaming.errors import ConfigError
from training import imagenet
from training.cohort import split
from training.dataset import build
from training.documents import imagenet_views
from training.export import export
from training.loop import Trained, join_processes, predict, train
from training.metrics import measure
from training.recipes import RECIPES, Recipe
from training.sources import FOLDERS, READERS, data_hash

LICENCES = {
    "physionet2012": "ODC-BY 1.0",
    "physionet2019": "CC BY 4.0",
    "eicu": "ODbL 1.0",
    "covid": "CC BY, CC BY-SA, Apache-2.0 rows only",
    "luna16": "CC BY 3.0 (LIDC-IDRI), CC BY 4.0 (LUNA16)",
}
LIMITS = (
    "Research software, no medical device; not validated prospectively.",
    "Mortality is learned from PhysioNet 2012 set A and the eICU demo, sepsis from PhysioNet 2019 set B; critical course "
    "from the eICU demo and the few radiographs whose licence lets weights be given away.",
    "A lung nodule is asked of a crop of 50 px around a candidate, as LUNA16 gives them: candidates are not looked for.",
    "So few openly licensed radiographs have an outcome that radiographs say nothing yet of a patient: training adds "
    "scans that carry no information, so that a scan's mere presence moves scores little; it still moves mortality's log "
    "odds somewhat.",
    "The metrics are those of one split and one seed; cross-validated figures stand in the report.",
    "Intervals state how well the calibration is known, not how ill a patient might be.",
)


def run(name: str, root: Path, out: Path, seed: int | None, report: Callable[[str], None]) -> None:
    """Trains and exports. An interrupted run goes on from `OUT.run.pt`, which a finished one removes.

    Raises:
        ConfigError: no such recipe, a data set is missing, or the interrupted run was another recipe's.
    """
    if name not in RECIPES:
        raise ConfigError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]()
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    missing = [source for source in recipe.sources if not (root / FOLDERS[source]).is_dir()]
    if missing:
        raise ConfigError(f"data sets not found under --data: {', '.join(missing)}")
    torch.set_num_threads(1)
    first = join_processes() == 0
    tell = report if first else lambda line: None
    tell(f"reading {', '.join(recipe.sources)} through the live reducer")
    examples = build(chain.from_iterable(READERS[s](root / FOLDERS[s]) for s in recipe.sources))
    tell(f"{len(examples.labels)} snapshots of {len(set(examples.group))} patients")
    train_rows, validation_rows, test_rows = split(
        examples.group, examples.stratum, recipe.train_share, recipe.validation_share, recipe.seed
    )
    checkpoint = out.with_name(f"{out.name}.run.pt")
    seen = imagenet_views(examples.pictures)
    trained = train(examples, train_rows, validation_rows, recipe, tell, checkpoint, seen)
    if not first:
        return
    metrics = measure(examples, test_rows, predict(trained, examples, test_rows, seen))
    card = about(recipe, trained, metrics, root)
    export(trained.network, trained.tokenizer, trained.calibration, trained.thresholds, card, out, trained.conformal)
    checkpoint.unlink(missing_ok=True)
    for task, found in metrics.items():
        auroc = found.get("auroc")
        if isinstance(auroc, dict):
            tell(f"{task}: AUROC {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}], n {found['n']}")


def about(recipe: Recipe, trained: Trained, metrics: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """What the artifact's card says of where it comes from."""
    return {
        "name": f"wardwatch-{recipe.name}",
        "recipe": asdict(recipe),
        "epochs": trained.epochs,
        "metrics": metrics,
        "data_sha256": {source: data_hash(root / FOLDERS[source]) for source in recipe.sources},
        "licences": {source: LICENCES[source] for source in recipe.sources}
        | {"imagenet weights of the scan encoder's trunk": imagenet.LICENCE},
        "intended_use": "Replays, latency tests and research on streaming early warning.",
        "limits": LIMITS,
        "thresholds_from": "validation patients' rows, hours of an hourly condition and snapshots of any other, no patients: "
        "by the score alone watch keeps 80 % of those with the event, warning 50 %, critical 20 %; `recall` is the share of "
        "them that alerts are raised on, since an abstaining score raises none",
        "recall": trained.recall,
        "own_share": dict(zip(NAMES, trained.share.tolist(), strict=True)),
        "versions": {name: version(name) for name in ("torch", "onnx", "numpy", "tokenizers")}
        | {"python": platform.python_version()},
    }
