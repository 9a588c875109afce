"""`make paper`: every measurement of the model, then the report. Owns the order of stages and their files.

    crossval  out-of-fold predictions of the recipe and of every peer, on the same patients' folds; each fold's model on its
              own patients, damaged, through the live reducer and scorer
    studies   the recipe with one part changed, on the data sets of several modalities
    report    paper.json and paper.html from whatever stages have run

What has run, down to a fold of one model, is read from the work folder unless the recipe, the folds, the size, the data or
the code have changed: an interrupted run goes on where it was. The work folder holds predictions of single patients: keep
it out of the repository; the report holds figures only.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from training import figures, predictions, report, robustness, studies
from training.crossval import out_of_fold
from training.dataset import build
from training.documents import imagenet_views
from training.in_memory import as_predictor
from training.kept import Arrays, Kept, under
from training.loop import Trained
from training.peers import PEERS
from training.peers_grud import gru_d
from training.predictions import collect
from training.recipes import RECIPES, Recipe
from training.sources import FOLDERS, READERS, covid, data_hash
from training.stays import Stay

STAGES = ("crossval", "studies", "report")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done. stays: most stays a data set (None: all). damaged: most stays a data set in robustness."""

    folds: int = 5
    study_folds: int = 5
    stays: int | None = None
    damaged: int = 2500
    rounds: int = 500
    quick: bool = False


QUICK = Size(folds=2, study_folds=2, stays=60, damaged=40, rounds=50, quick=True)


@dataclass(frozen=True, slots=True)
class Paper:
    """One run: data, recipe, size, where things lie."""

    data: Path
    work: Path
    out: Path
    recipe: Recipe
    sources: tuple[str, ...]
    size: Size
    seed: int
    say: Say

    def key(self, stage: str) -> str:
        """What a stage's result depends on."""
        about = [stage, asdict(self.recipe), self.sources, asdict(self.size), self.seed, self.hashes(), _code()]
        return hashlib.sha256(orjson.dumps(about, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    def kept(self, stage: str) -> Kept:
        """What a stage has made so far."""
        return Kept(self.work / stage, self.key(stage))

    def hashes(self) -> dict[str, str]:
        return {source: _hash(self.data / FOLDERS[source]) for source in self.sources}

    def stays(self, sources: Iterable[str], most: int | None) -> Iterator[Stay]:
        """Labelled stays, every picture of the COVID set whatever its licence: nothing of these models is given away."""
        for source in sources:
            read = partial(covid.read, open_only=False) if source == "covid" else READERS[source]
            yield from islice(read(self.data / FOLDERS[source]), most)


_hash = cache(data_hash)


@cache
def _code() -> str:
    """Hash of everything that a figure may depend on: models, training, and the reducer and scorer of the live system."""
    root = Path(__file__).parent.parent
    files = sorted(path for part in ("models", "training", "streaming") for path in (root / part).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def run(paper: Paper, stages: Sequence[str]) -> None:
    """The stages asked for that have not run, then what they gave as one JSON and one page."""
    torch.set_num_threads(1)
    paper.work.mkdir(parents=True, exist_ok=True)
    if "crossval" in stages:
        _once(paper, "crossval", partial(_crossval, paper))
    if "studies" in stages:
        _once(paper, "studies", partial(_studies, paper))
    if "report" in stages:
        body = _gather(paper)
        report.write(body, paper.out)
        paper.say(f"report: {paper.out / 'paper.html'}")


def _once(paper: Paper, stage: str, make: Callable[[], Any]) -> None:
    path = paper.work / f"{stage}.json"
    if path.exists() and orjson.loads(path.read_bytes())["key"] == paper.key(stage):
        paper.say(f"{stage}: has run")
        return
    body = {"key": paper.key(stage), "result": make()}
    path.write_bytes(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


def _crossval(paper: Paper) -> dict[str, Any]:
    """Saves the predictions; `{source.condition: curves}` of the folds' models on damaged stays."""
    examples = build(_read(paper, paper.sources))
    paper.say(f"{len(examples.pictures)} pictures through the scan encoder's trunk")
    seen = imagenet_views(examples.pictures)
    most = paper.size.damaged
    held = {source: _modalities(paper, source, most) for source in paper.sources}
    wanted = _few if paper.size.quick else lambda name: True

    def ask_damaged(trained: Trained, test: NDArray[np.int64]) -> Arrays:
        predictor, tested = as_predictor(trained), set(examples.group[test].tolist())
        told: dict[str, NDArray[Any]] = {}
        for source in paper.sources:
            own = [stay for stay in paper.stays([source], most) if stay.group in tested]
            found = robustness.ask(
                predictor, own, held[source], lambda line, s=source: paper.say(f"{s}: {line}"), wanted
            )
            told |= {f"{source}/{name}": values for name, values in found.arrays().items()}
        return told

    found = out_of_fold(
        examples,
        paper.recipe,
        paper.say,
        count=paper.size.folds,
        seed=paper.seed,
        peers=PEERS | {"gru-d": gru_d},
        seen=seen,
        further=ask_damaged,
        keep=paper.kept("crossval"),
    )
    folder = paper.work / "predictions"
    for old in folder.glob("*.npz"):
        old.unlink()
    predictions.save(list(collect(examples, found.probability, found.fold)), folder)
    result: dict[str, Any] = {}
    for source in paper.sources:
        told = robustness.curves([robustness.asked_of(under(f"{source}/", answers)) for answers in found.further])
        result |= {f"{source}.{condition}": curves for condition, curves in told.items()}
    return result


def _read(paper: Paper, sources: Iterable[str]) -> Iterator[Stay]:
    for source in sources:
        paper.say(f"reading {source} through the live reducer")
        yield from paper.stays([source], paper.size.stays)


def _few(name: str) -> bool:
    """The damages of a quick run."""
    return name.startswith("only/") or name.endswith(("/0.5", "/0.9", "/4", "/masked"))


def _studies(paper: Paper) -> dict[str, Any]:
    several = [source for source in paper.sources if len(_modalities(paper, source, 200)) > 1]
    if not several:
        return {}
    stays = list(_read(paper, several))
    examples = build(stays)
    every = (lambda v: v.study != "ablations") if paper.size.quick else (lambda v: True)
    return studies.run(
        examples,
        stays,
        paper.recipe,
        as_predictor,
        paper.say,
        paper.size.study_folds,
        paper.seed,
        paper.kept("studies"),
        every,
    )


def _modalities(paper: Paper, source: str, most: int) -> Sequence[str]:
    """What some of a data set's first stays have."""
    return robustness.modalities_of(paper.stays([source], most))


def _gather(paper: Paper) -> dict[str, Any]:
    """What has run for this recipe, size and data; a stage that has not is left out."""
    body: dict[str, Any] = {
        "about": {
            "recipe": asdict(paper.recipe),
            "folds": paper.size.folds,
            "study_folds": paper.size.study_folds,
            "rounds": paper.size.rounds,
            "slice_rounds": min(paper.size.rounds, figures.SLICE_ROUNDS),
            "damaged": paper.size.damaged,
            "damaged_rounds": robustness.ROUNDS,
            "seed": paper.seed,
            "quick": paper.size.quick,
            "sources": list(paper.sources),
            "data_sha256": paper.hashes(),
            "versions": {name: version(name) for name in ("torch", "numpy", "scikit-learn")},
        },
    }
    for stage in ("crossval", "studies"):
        path = paper.work / f"{stage}.json"
        held = orjson.loads(path.read_bytes()) if path.exists() else {}
        if held.get("key") != paper.key(stage):
            continue
        if stage == "crossval":
            paper.say("figures of every task")
            found = predictions.load(paper.work / "predictions")
            body["tasks"] = {task.name: figures.of_task(task, paper.size.rounds) for task in found}
            body["robustness"] = held["result"]
        else:
            body[stage] = held["result"]
    return body


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of `python -m training.paper`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.paper", description="measure everything, write the report"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--out", type=Path, required=True, help="where paper.json and paper.html go")
    parser.add_argument("--work", type=Path, default=Path(".wardwatch/paper"), help="predictions and stages' results")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="reference")
    parser.add_argument("--sources", nargs="+", choices=[s for s in FOLDERS if s != "mimic3"])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--folds", type=int, help="instead of 5")
    parser.add_argument("--quick", action="store_true", help="a few stays, to see that it runs")
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args(arguments)
    recipe = RECIPES[told.recipe]()
    size = QUICK if told.quick else Size()
    if told.quick:
        recipe = replace(recipe, epochs=1, bootstraps=5)
    if told.folds:
        size = replace(size, folds=told.folds, study_folds=told.folds)
    chosen = told.sources or [s for s in FOLDERS if s != "mimic3"]
    sources = tuple(s for s in chosen if (told.data / FOLDERS[s]).is_dir())
    if not sources:
        sys.exit("no data set lies under --data")
    started = time.monotonic()

    def say(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:7.0f} s  {line}\n")

    run(Paper(told.data, told.work, told.out, recipe, sources, size, told.seed, say), told.stages)


if __name__ == "__main__":
    main()
