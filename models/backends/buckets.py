"""Rows in buckets: engines of fixed shape take 1, 2, 4, ... 64 rows. NumPy only.

Rows that nobody asked for are zeros: nothing present, nothing measured. No part lets rows see each other.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact
from models.backends.parts import PartsPredictor
from models.inputs import Inputs, contiguous
from models.predictor import F32

BUCKETS = (1, 2, 4, 8, 16, 32, 64)


def cut(rows: int, buckets: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(start, stop, bucket) over all rows: full largest buckets, then the smallest that holds what is left."""
    start = 0
    while start < rows:
        bucket = next((size for size in sorted(buckets) if size >= rows - start), max(buckets))
        stop = min(rows, start + bucket)
        yield start, stop, bucket
        start = stop


def padded(array: NDArray[Any], bucket: int) -> NDArray[Any]:
    """[bucket, ...] with zeros after the rows of [B, ...], B at most the bucket."""
    if len(array) == bucket:
        return array
    whole = np.zeros((bucket, *array.shape[1:]), array.dtype)
    whole[: len(array)] = array
    return whole


class BucketedPredictor(PartsPredictor):
    """A `Predictor` over `run_bucket`, which takes exactly as many rows as the bucket."""

    def __init__(self, artifact: Artifact, buckets: Sequence[int] = BUCKETS) -> None:
        super().__init__(artifact)
        self.buckets = tuple(buckets)

    @abstractmethod
    def run_bucket(self, part: str, bucket: int, inputs: Inputs) -> F32:
        """The part's output [bucket, ...] of inputs [bucket, ...]."""

    def only(self, bucket: int) -> Self:
        """The same predictor confined to one bucket, so that each engine can be checked by itself."""
        one = copy.copy(self)
        one.buckets = (bucket,)
        return one

    def run(self, part: str, inputs: Inputs) -> F32:
        whole = contiguous(inputs)
        rows = len(next(iter(whole.values())))
        return np.concatenate(
            [
                self.run_bucket(part, bucket, {name: padded(array[a:b], bucket) for name, array in whole.items()})[
                    : b - a
                ]
                for a, b, bucket in cut(rows, self.buckets)
            ]
        )
