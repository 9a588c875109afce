"""What each part of the model is worth: the same recipe again with one part changed, on the data sets that have several
modalities, on the same folds. Owns variants and who is compared with whom; leaves figures to `figures.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from models.conditions import NAMES
from models.fusion import FUSIONS
from models.predictor import Predictor
from models.window import MODALITIES, SLOTS
from training.crossval import Further, OutOfFold, out_of_fold
from training.dataset import Examples
from training.documents import imagenet_views
from training.figures import compared
from training.kept import Arrays, Keep
from training.loop import Trained
from training.predictions import Task, collect
from training.recipes import Recipe, paper
from training.robustness import damaged, fewer, only
from training.scores import score
from training.stays import Stay

MANY_MISSING = 0.9
PROTOCOL = "fusions by the paper's protocol"
"""Of the recipe `paper`, which has no classical fits: there the fusion alone decides."""
PARTS_OFF: Mapping[str, Mapping[str, Any]] = {
    "modalities dropped in training": {"drop_modality": 0.0},
    "signals dropped in training": {"drop_signals": 0.0},
    "scans that say nothing": {"plain_scans": 0.0},
    "log odds of classical fits": {"boosted": (), "trees": 0},
    "linear evidence of documents": {"linear": ()},
    "averaged weights": {"average": 0.0},
    "earlier snapshots": {"snapshots": 0.0},
}
"""What an ablation turns off, as fields of a recipe; a part that the recipe has not is left out."""

Told = dict[str, NDArray[np.float32]]
Change = Callable[[Examples, Recipe], tuple[Examples, Recipe]]


@dataclass(frozen=True, slots=True)
class Variant:
    """One change to the examples or the recipe."""

    study: str
    name: str
    change: Change


def variants(recipe: Recipe, modalities: Sequence[str]) -> list[Variant]:
    """Every variant that differs from the recipe itself."""
    found = [
        Variant("fusions", kind, lambda e, r, kind=kind: (e, replace(r, fusion=kind)))
        for kind in FUSIONS
        if kind != recipe.fusion
    ]
    for kind in FUSIONS:
        found.append(Variant(PROTOCOL, f"{kind}, paper's", lambda e, r, kind=kind: (e, _paper(r, kind))))
    for size in range(1, len(modalities)):
        for kept in combinations(modalities, size):
            study = "single modalities" if size == 1 else "pairs of modalities"
            found.append(Variant(study, named(kept), lambda e, r, kept=kept: (with_only(e, kept), r)))
    found.append(Variant("ablations", "without ages", lambda e, r: (replace(e, age_h=np.zeros_like(e.age_h)), r)))
    held = asdict(recipe)
    for part, off in PARTS_OFF.items():
        if off.keys() <= held.keys() and any(held[name] != value for name, value in off.items()):
            found.append(Variant("ablations", f"without {part}", lambda e, r, off=off: (e, replace(r, **off))))
    return found


def _paper(recipe: Recipe, fusion: str) -> Recipe:
    """The paper's protocol, from the same seed."""
    return replace(paper(), fusion=fusion, bootstraps=recipe.bootstraps, seed=recipe.seed)


def named(modalities: Sequence[str]) -> str:
    """`only vitals+notes`"""
    return f"only {'+'.join(modalities)}"


def with_only(examples: Examples, kept: Sequence[str]) -> Examples:
    """The examples as if nothing of the other modalities had come."""
    there = np.array([slot in kept for slot in SLOTS], np.float32)
    return replace(examples, present=examples.present * there)


def run(
    examples: Examples,
    stays: Sequence[Stay],
    recipe: Recipe,
    as_predictor: Callable[[Trained], Predictor],
    report: Callable[[str], None],
    count: int,
    seed: int,
    keep: Keep,
    wanted: Callable[[Variant], bool] = lambda variant: True,
) -> dict[str, Any]:
    """`{task: {study: compared}}` over stays of several modalities; examples are those stays'."""
    there = (examples.present > 0).any(0)
    modalities = [name for name in MODALITIES if any(there[i] for i, slot in enumerate(SLOTS) if slot == name)]
    chosen = [variant for variant in variants(recipe, modalities) if wanted(variant)]
    seen = imagenet_views(examples.pictures)

    def trained(name: str, other: Examples, changed: Recipe, further: Further = lambda trained, test: {}) -> OutOfFold:
        def under(part: str, make: Callable[[], Arrays]) -> Arrays:
            return keep(f"{name} {part}", make)

        return out_of_fold(other, changed, report, count=count, seed=seed, seen=seen, further=further, keep=under)

    report("studies: the model itself")
    ask_live = partial(_live, examples, stays, modalities, as_predictor, report)
    base = trained("whole", examples, recipe, ask_live)
    told: Told = {"model": base.probability["model"]}
    share = {"model": base.share}
    for number, variant in enumerate(chosen):
        report(f"studies {number + 1}/{len(chosen)}: {variant.study}, {variant.name}")
        other = trained(variant.name, *variant.change(examples, recipe))
        told[variant.name], share[variant.name] = other.probability["model"], other.share
    tasks = [task for task in collect(examples, told, base.fold) if len(np.unique(task.stay)) == len(task.stay)]
    live: dict[str, dict[str, NDArray[np.float32]]] = {}
    for answers in base.further:
        names = answers["stay"].tolist()
        for damage, probability in answers.items():
            if damage != "stay":
                live.setdefault(damage, {}).update(zip(names, probability, strict=True))
    return {task.name: dict(_compared(task, chosen, share, live, modalities, recipe)) for task in tasks}


def _live(
    examples: Examples,
    stays: Sequence[Stay],
    modalities: Sequence[str],
    as_predictor: Callable[[Trained], Predictor],
    report: Callable[[str], None],
    trained: Trained,
    test: NDArray[np.int64],
) -> Arrays:
    """What a fold's model says, through the live scorer, of its own stays damaged: by damage [stays, C], and `stay` [stays]
    their names."""
    tested = set(examples.stay[test].tolist())
    own = [stay for stay in stays if stay.patient in tested]
    chosen = {named(kept): only(*kept) for size in range(1, len(modalities)) for kept in combinations(modalities, size)}
    chosen |= {_missing(name): fewer(name, MANY_MISSING) for name in modalities}
    found: dict[str, NDArray[Any]] = {}
    predictor = as_predictor(trained)
    for name, damage in chosen.items():
        report(f"studies: the model with {name.removeprefix('model, ')}")
        scores = score(predictor, damaged(own, damage))
        last = np.append(scores.stay[1:] != scores.stay[:-1], True)  # of a stay the last score counts
        found |= {"stay": scores.stay[last], name: scores.probability[last]}
    return found


def _missing(modality: str) -> str:
    return f"model, {MANY_MISSING:.0%} of {modality} missing"


def _compared(
    task: Task,
    chosen: Sequence[Variant],
    share: Mapping[str, NDArray[np.float32]],
    live: Mapping[str, Mapping[str, NDArray[np.float32]]],
    modalities: Sequence[str],
    recipe: Recipe,
) -> Iterator[tuple[str, Any]]:
    """Each study's comparison on one task; the difference is the first score's minus the others'. `own_share`: by score
    and fold `Trained.share`."""
    column = NAMES.index(task.condition)
    held = [name for row, name in enumerate(MODALITIES) if task.present[:, row].any()]
    told = task.probability
    for study in dict.fromkeys(variant.study for variant in chosen):
        names = [v.name for v in chosen if v.study == study and _speaks(v.name, held)]
        if study == PROTOCOL:
            names.sort(key=lambda name: not name.startswith(recipe.fusion))
        else:
            names.insert(0, "model")
        shown = {name: name for name in names}
        if study in ("fusions", PROTOCOL):
            shown = {
                name: _fusion(recipe.fusion if name == "model" else name.removesuffix(", paper's")) for name in names
            }
        scores = {shown[name]: told[name] for name in names}
        if study == "single modalities" and len(names) > 2:
            scores["late fusion"] = _late(task, [name.removeprefix("only ") for name in names[1:]])
        if len(names) > 1:
            own_share = {shown[name]: share[name][:, column].tolist() for name in names}
            yield study, compared(task.scored(scores), next(iter(scores))) | {"own_share": own_share}

    subsets: dict[str, Any] = {}
    for size in range(1, len(held)):
        for kept in combinations(held, size):
            fused = np.array([live[named(kept)][stay][column] for stay in task.stay.tolist()])
            singles = {named((one,)): told[named((one,))] for one in kept if named((one,)) in told}
            rows = task.present[:, [MODALITIES.index(one) for one in kept]].any(1)
            if singles:
                subsets[named(kept)] = compared(task.scored({"model": fused, **singles}), "model", rows=rows)
    if subsets:
        yield "subsets", subsets
    missing: dict[str, Any] = {}
    for name in held:
        rest = named([one for one in modalities if one != name])
        if len(held) > 1 and rest in told:
            fused = np.array([live[_missing(name)][stay][column] for stay in task.stay.tolist()])
            missing[name] = compared(task.scored({_missing(name): fused, f"trained without {name}": told[rest]}),
                                     _missing(name))  # fmt: skip
    if missing:
        yield "many missing", missing


def _speaks(variant: str, held: Sequence[str]) -> bool:
    """Whether a variant on some modalities has anything to go on in a task that holds these."""
    return not variant.startswith("only ") or bool(set(variant.removeprefix("only ").split("+")) & set(held))


def _fusion(kind: str) -> str:
    return kind if kind == "splicing" else f"{kind} attention"


def _late(task: Task, modalities: Sequence[str]) -> NDArray[np.float32]:
    """Late fusion: the mean logit of the single-modality models whose modality is at hand."""
    there = np.stack([task.present[:, MODALITIES.index(name)] for name in modalities], 1)
    told = np.clip(np.stack([task.probability[named((name,))] for name in modalities], 1), 1e-6, 1 - 1e-6)
    weight = np.where(there.any(1, keepdims=True), there, True)
    return special.expit((special.logit(told) * weight).sum(1) / weight.sum(1)).astype(np.float32)
