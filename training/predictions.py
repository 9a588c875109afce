"""Out-of-fold predictions by task: what the report measures. Owns rows and their file form; leaves figures to `figures.py`.

Saved as npz beside the work, never in the repository: the rows are patients'. Shapes: N rows of a task, each stay's
together and in order of time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.signals import by_name
from models.window import OF_MODALITY
from training.dataset import Examples
from training.kept import under
from training.metrics import tasks

_PROBABILITY = "probability:"
_ROWS = ("label", "fold", "cluster", "stay", "hour", "first_event", "site", "age", "male", "present")


@dataclass(frozen=True, slots=True)
class Task:
    """One `source.condition`. probability: f32 [N] of the model (`"model"`) and of each peer or variant."""

    name: str
    label: NDArray[np.float32]
    fold: NDArray[np.int64]
    cluster: NDArray[np.str_]  # patients (`Stay.cluster`)
    stay: NDArray[np.str_]
    hour: NDArray[np.int64]  # ordinal of the snapshot within its stay (`Examples.snapshot`)
    first_event: NDArray[np.float32]  # the same of the stay's first hour with an hourly condition, else NaN
    site: NDArray[np.str_]
    age: NDArray[np.float32]  # years, NaN where unknown
    male: NDArray[np.float32]
    present: NDArray[np.bool_]  # [N, M] modalities at hand
    probability: Mapping[str, NDArray[np.float32]]

    @property
    def condition(self) -> str:
        """What is asked, without the source."""
        return self.name.split(".", 1)[1]

    def scored(self, probability: Mapping[str, NDArray[np.float32]]) -> "Task":
        """The same rows with other scores."""
        return replace(self, probability=probability)


def collect(
    examples: Examples, probability: Mapping[str, NDArray[np.floating]], fold: NDArray[np.int64]
) -> Iterator[Task]:
    """Tasks of predictions [N, C] by name; a score that is NaN anywhere in a task does not speak of it.

    A stay's rows lie together in the examples, so they do in a task.
    """
    age, male = by_name["age"], by_name["male"]
    for name, column, take in tasks(examples, np.arange(len(examples.labels))):
        speaks = {who: told[take, column] for who, told in probability.items()}
        known = examples.last_mask[take] > 0
        yield Task(
            name=name,
            label=examples.labels[take, column],
            fold=fold[take],
            cluster=examples.cluster[take],
            stay=examples.stay[take],
            hour=examples.snapshot[take],
            first_event=examples.first_event[take, column],
            site=examples.site[take],
            age=np.where(known[:, age], examples.last[take, age], np.nan).astype(np.float32),
            male=np.where(known[:, male], examples.last[take, male], np.nan).astype(np.float32),
            present=examples.present[take] @ OF_MODALITY > 0,
            probability={who: told.astype(np.float32) for who, told in speaks.items() if not np.isnan(told).any()},
        )


def save(found: Sequence[Task], folder: Path) -> None:
    """One npz a task."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in found:
        told = {f"{_PROBABILITY}{who}": values for who, values in task.probability.items()}
        np.savez_compressed(folder / f"{task.name}.npz", **{name: getattr(task, name) for name in _ROWS}, **told)


def load(folder: Path) -> list[Task]:
    """Every task that was saved, by name."""
    found = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as held:
            rows = {name: held[name] for name in _ROWS}
            found.append(Task(path.stem, **rows, probability=under(_PROBABILITY, held)))
    return found
