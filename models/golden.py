"""Golden inputs: made from a seed, masked and empty ones among them; and the check that a backend answers alike."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.kinds import KINDS
from models.predictor import Predictor
from models.window import BINS, SLOTS, WINDOW_FIELDS, F, H, V, WindowBatch

TOLERANCE = 1e-4
ROWS = 6
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


def inputs(width: int, seed: int = 7) -> dict[str, NDArray[Any]]:
    """Inputs of every part, [ROWS, ...]. Row 0 of the windows is empty; fusion row 0 has nothing present."""
    rng = np.random.default_rng(seed)
    mask = (rng.random((ROWS, BINS, V)) < 0.2).astype(np.float32)
    mask[0] = 0
    last_mask = (rng.random((ROWS, V)) < 0.7).astype(np.float32)
    last_mask[0] = 0
    present = (rng.random((ROWS, len(SLOTS))) < 0.5).astype(np.float32)
    present[0], present[1] = 0, 1
    return {
        "values": (rng.normal(60, 40, (ROWS, BINS, V)) * mask).astype(np.float32),
        "mask": mask,
        "last": (rng.normal(60, 40, (ROWS, V)) * last_mask).astype(np.float32),
        "last_age_h": (rng.random((ROWS, V)) * 48 * last_mask).astype(np.float32),
        "last_mask": last_mask,
        "figures": _figures(rng, last_mask),
        "pixels": rng.random((ROWS, 224, 224)).astype(np.float16).astype(np.float32),
        "tokens": rng.normal(0, 1, (ROWS, len(SLOTS), width)).astype(np.float32),
        "present": present,
        "age_h": (rng.random((ROWS, len(SLOTS))) * 72).astype(np.float32),
    }


def _figures(rng: np.random.Generator, measured: NDArray[np.float32]) -> NDArray[np.float32]:
    """[ROWS, F, V]: counts that grow with the horizon, then values, 0 where nothing was measured."""
    count = np.cumsum(rng.integers(0, 3, (ROWS, H, V)), axis=1) * measured[:, None]
    value = rng.normal(60, 40, (ROWS, F - H, V)) * (count[:, -1:] > 0)
    return np.concatenate([count, value], axis=1).astype(np.float32)


def kinds() -> list[str]:
    """The DICOM modality of each golden picture."""
    return [KINDS[row % len(KINDS)] for row in range(ROWS)]


def outputs(predictor: Predictor, given: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What a predictor makes of the golden inputs."""
    window = WindowBatch(*(given[name] for name in WINDOW_FIELDS))
    fused = predictor.fuse(given["tokens"], given["present"], given["age_h"])
    return {
        "out_vitals": predictor.encode_vitals(window),
        "out_notes": predictor.encode_notes(TEXTS),
        "out_scans": predictor.encode_scans(given["pixels"], kinds()),
        "out_probability": fused.probability,
        "out_contribution": fused.contribution,
    }


def check(predictor: Predictor, golden: dict[str, NDArray[Any]]) -> None:
    """Raises `GoldenMismatch` where a part's output is off by more than `TOLERANCE`."""
    for name, answer in outputs(predictor, golden).items():
        worst = float(np.abs(answer - golden[name]).max()) if answer.shape == golden[name].shape else float("inf")
        if not worst <= TOLERANCE:
            raise GoldenMismatch(f"{name.removeprefix('out_')} differs from the reference by {worst:.2g}")
