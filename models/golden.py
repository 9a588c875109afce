"""Golden inputs: made from a seed, masked and empty ones among them; and the check that a backend answers alike.

Tolerances are absolute, per precision. Embeddings are of order 1, as their last step normalises them. Errors of the
shipped artifact stand at one half to three quarters of them where its layers are rounded to fp16 or bf16
(`tests/models/test_backends.py`), far below for fp32 (`benchmarks/engine.json`, `errors`), where only the order of
additions differs. What they mean for a patient: a probability may move by 0.0001 in fp32, 0.001 in fp16 and 0.0025 in
bf16. They are narrow enough that a backend is refused which rounds raw measurements to bf16 before the network has
normalised them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.inputs import Inputs, of_fusion, of_notes, of_scans, of_vitals
from models.kinds import KINDS
from models.predictor import Predictor
from models.signals import SIGNALS
from models.window import HOUR_MS, HOURS, MODALITIES, SLOTS, PatientWindow, V, WindowBatch, build_window, stack


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far, absolutely, an output may be off the reference's. A contribution is a difference of two probabilities."""

    embedding: float
    probability: float

    def of(self, name: str) -> float:
        return self.embedding if name in MODALITIES else self.probability


TOLERANCES = {
    "fp32": Tolerance(1e-4, 1e-4),
    "fp16": Tolerance(8e-3, 1e-3),
    "bf16": Tolerance(4e-2, 2.5e-3),
}
"""A probability off by 0.001 changes the last of the three digits that people see. An artifact whose heads are steep is
refused in bf16; the shipped one passes (`tests/models/test_backends.py`)."""
ROWS = 6
MEASUREMENTS = 100
"""Of row 1; row 2 has twice as many, and so on."""

_LOW, _HIGH = (np.array([getattr(signal, end) for signal in SIGNALS]) for end in ("low", "high"))
TEXTS = (
    "Patient alert and oriented, denies pain. Lungs clear.",
    "Intubated, on pressors, lactate rising; family meeting held today.",
    "x",
    "Word " * 400,
    "No acute distress. Afebrile overnight. Plan: wean oxygen, out of bed to chair.",
    "Urosepsis. Blood cultures positive. Hypotension despite fluids.",
)


class GoldenMismatch(Exception):
    """A backend does not give the reference's outputs: it must not serve."""


def inputs(width: int, centre: NDArray[Any], spread: NDArray[Any], seed: int = 7) -> dict[str, NDArray[Any]]:
    """Inputs of every part, [ROWS, ...]. Row 0 of the windows is empty; fusion row 0 has nothing present.

    Measurements lie around `centre` by twice `spread` ([V] each, the network's own normalisation): a backend that rounds
    a raw pH of 7.35 must not pass because the golden pH was so far off that it is clipped anyway.
    """
    rng = np.random.default_rng(seed)
    windows = stack([_window(rng, row * MEASUREMENTS, centre, spread) for row in range(ROWS)])
    present = (rng.random((ROWS, len(SLOTS))) < 0.5).astype(np.float32)
    present[0], present[1] = 0, 1
    return {
        **of_vitals(windows),
        "pixels": rng.random((ROWS, 224, 224)).astype(np.float16).astype(np.float32),
        "tokens": rng.normal(0, 1, (ROWS, len(SLOTS), width)).astype(np.float32),
        "present": present,
        "age_h": (rng.random((ROWS, len(SLOTS))) * 72).astype(np.float32),
    }


def _window(rng: np.random.Generator, count: int, centre: NDArray[Any], spread: NDArray[Any]) -> PatientWindow:
    """The window of so many measurements of all signals over somewhat more than its hours."""
    time_ms = np.sort(rng.integers(0, int(1.2 * HOURS * HOUR_MS), count))
    signal = rng.integers(0, V, count)
    value = np.clip(rng.normal(np.asarray(centre)[signal], 2 * np.asarray(spread)[signal]), _LOW[signal], _HIGH[signal])
    anchor_ms = int(time_ms[-1]) if count else 0
    return build_window(time_ms, signal, value.astype(np.float32), anchor_ms)


def kinds() -> list[str]:
    """The DICOM modality of each golden picture."""
    return [KINDS[row % len(KINDS)] for row in range(ROWS)]


def part_inputs(given: Mapping[str, NDArray[Any]], tokenizer: Tokenizer) -> dict[str, Inputs]:
    """The golden inputs of each part, by the part's name and the names its network gives them."""
    return {
        "vitals": of_vitals(_batch(given)),
        "notes": of_notes(tokenizer, TEXTS),
        "scans": of_scans(given["pixels"], kinds()),
        "fusion": of_fusion(given["tokens"], given["present"], given["age_h"]),
    }


def outputs(predictor: Predictor, given: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What a predictor makes of the golden inputs."""
    fused = predictor.fuse(given["tokens"], given["present"], given["age_h"])
    return {
        "out_vitals": predictor.encode_vitals(_batch(given)),
        "out_notes": predictor.encode_notes(TEXTS),
        "out_scans": predictor.encode_scans(given["pixels"], kinds()),
        "out_probability": fused.probability,
        "out_contribution": fused.contribution,
    }


def errors(predictor: Predictor, golden: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """The largest absolute difference from the reference, by output; infinite where a shape differs or a number is none.

    `end_to_end` is how far probabilities move when they rest on this backend's own embeddings instead of the reference's.
    """
    found = {name.removeprefix("out_"): (answer, golden[name]) for name, answer in outputs(predictor, golden).items()}
    worst = {name: _worst(answer, expected) for name, (answer, expected) in found.items()}
    if all(np.isfinite(worst[name]) for name in MODALITIES):
        own, reference = ({name: found[name][which] for name in MODALITIES} for which in (0, 1))
        worst["end_to_end"] = _worst(_probability(predictor, own), _probability(predictor, reference))
    return worst


def check(predictor: Predictor, golden: Mapping[str, NDArray[Any]], precision: str = "fp32") -> None:
    """Raises `GoldenMismatch` where an output is off by more than the precision's tolerance."""
    for name, worst in errors(predictor, golden).items():
        limit = TOLERANCES[precision].of(name)
        if not worst <= limit:
            raise GoldenMismatch(
                f"{name} differs from the reference by {worst:.2g}, in {precision} at most {limit:g} may be"
            )


def _batch(given: Mapping[str, NDArray[Any]]) -> WindowBatch:
    return WindowBatch(*(given[field.name] for field in fields(WindowBatch)))


def _worst(answer: NDArray[Any], expected: NDArray[Any]) -> float:
    if answer.shape != expected.shape or not np.isfinite(answer).all():
        return float("inf")
    return float(np.abs(answer - expected).max())


def _probability(predictor: Predictor, embeddings: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """[ROWS, C] with every slot holding the row's own embedding of its modality, fresh and present."""
    tokens = np.stack([embeddings[name] for name in SLOTS], axis=1)
    present = np.ones(tokens.shape[:2], np.float32)
    return predictor.fuse(tokens, present, np.zeros_like(present)).probability
