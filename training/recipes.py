"""Recipes: named functions that return frozen configs. `RECIPES` names them for `wardwatch train`."""

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run, whole."""

    name: str
    sources: tuple[str, ...] = ("physionet2012", "eicu", "covid")
    fusion: str = "self"
    width: int = 64
    vocabulary: int = 4000
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    epochs: int = 40
    patience: int = 5
    cosine: bool = False
    drop_modality: float = 0.15
    plain_scans: float = 0.0
    """Share of rows that get a scan which says nothing of the patient, so that a scan's mere presence moves no score."""
    train_share: float = 0.70
    validation_share: float = 0.15
    bootstraps: int = 50
    seed: int = 1


def paper() -> Recipe:
    """The protocol of arXiv 2406.18546: 70/15/15 by patient, Adam 1e-3, batch 32, early stopping."""
    return Recipe("paper")


def reference() -> Recipe:
    """What made `models/reference`: a gentler step, weight decay, cosine schedule, presence-neutral scans."""
    return replace(
        paper(),
        name="reference",
        batch=64,
        learning_rate=3e-4,
        weight_decay=0.05,
        epochs=8,
        patience=3,
        cosine=True,
        plain_scans=0.15,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"paper": paper, "reference": reference}
