"""Recipes: named functions that return frozen configs. `RECIPES` names them for `wardwatch train`."""

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run, whole."""

    name: str
    sources: tuple[str, ...] = ("physionet2012", "physionet2019", "eicu", "covid", "luna16")
    fusion: str = "self"
    width: int = 64
    vitals_layers: int = 2
    vocabulary: int = 4000
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    epochs: int = 40
    patience: int = 5
    cosine: bool = False
    average: float = 0.0
    """Decay a step of the moving average of the weights that is validated and kept; 0: the weights themselves."""
    dropout: float = 0.1
    drop_modality: float = 0.15
    drop_signals: float = 0.0
    """In half of the rows up to this share of the signals is taken away, as if never measured."""
    plain_scans: float = 0.0
    """Share of rows that get a scan which says nothing of the patient, so that a scan's mere presence moves scores little."""
    snapshots: float = 1.0
    """Share of a stay's earlier snapshots that an epoch draws; its last always counts."""
    other_hours: float = 0.1
    """Share of the hours without the hourly condition that a run learns from; those with it all count."""
    boosted: tuple[str, ...] = ()
    """Conditions whose log odds by boosted trees and logistic regression the vitals encoder knows."""
    trees: int = 0
    """Trees of each of them, shared among its fits."""
    bags: int = 1
    """Fits of each of them, whose mean is served."""
    linear: tuple[str, ...] = ()
    """Conditions whose log odds by a linear fit the notes' and scans' encoders know, and the fusion weighs."""
    train_share: float = 0.70
    validation_share: float = 0.15
    bootstraps: int = 50
    seed: int = 1


def paper() -> Recipe:
    """The protocol of arXiv 2406.18546: 70/15/15 by patient, Adam 1e-3, batch 32, early stopping."""
    return Recipe("paper")


def reference() -> Recipe:
    """What made `models/reference`: a gentler step, weight decay, cosine schedule, averaged weights, log odds of classical
    fits, of documents too, missing signals, scans that say nothing. Multiplicative attention: which fusion is best was not
    told apart, and an update runs it every time."""
    return replace(
        paper(),
        name="reference",
        fusion="multiplicative",
        vitals_layers=1,
        batch=64,
        learning_rate=3e-4,
        weight_decay=0.05,
        epochs=2,
        patience=2,
        cosine=True,
        average=0.99,
        dropout=0.3,
        drop_signals=0.5,
        snapshots=0.3,
        boosted=("in-hospital-mortality", "sepsis-6h"),
        trees=1170,
        bags=9,
        linear=("in-hospital-mortality", "critical-course", "lung-nodule"),
        plain_scans=0.2,
        train_share=0.75,
        validation_share=0.10,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"paper": paper, "reference": reference}
