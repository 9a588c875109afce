"""The seam's calls as named inputs of the four parts. A part's inputs are called as its network's `forward` calls them.

NumPy only; every array is [B, ...], B at least 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.kinds import one_hot
from models.tokens import tokenize
from models.window import WINDOW_FIELDS, WindowBatch

F32 = NDArray[np.float32]
Inputs = Mapping[str, NDArray[Any]]


def of_vitals(batch: WindowBatch) -> Inputs:
    return {name: getattr(batch, name) for name in WINDOW_FIELDS}


def of_notes(tokenizer: Tokenizer, texts: Sequence[str]) -> Inputs:
    return {"ids": tokenize(tokenizer, texts)}


def of_scans(pixels: F32, kinds: Sequence[str]) -> Inputs:
    return {"pixels": pixels[:, None], "kind": one_hot(kinds)}


def of_fusion(tokens: F32, present: F32, age_h: F32) -> Inputs:
    return {"tokens": tokens, "present": present, "age_h": age_h}


def contiguous(inputs: Inputs) -> dict[str, NDArray[Any]]:
    """The same inputs in row-major order, as runtimes that share memory need them."""
    return {name: np.ascontiguousarray(array) for name, array in inputs.items()}
