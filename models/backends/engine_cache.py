"""Where built engines lie, and under what name. No torch, no TensorRT.

An engine serves one model, part, bucket and precision, on one kind of GPU, as one set of versions built it: all of that
is in the name, so that an engine of anything else is never found.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

RECIPE = 1
"""Of how `tensorrt.build` asks for an engine; one more whenever that changes."""


@dataclass(frozen=True, slots=True)
class EngineKey:
    """`versions` by library; `compute_capability` such as (9, 0)."""

    model_hash: str
    part: str
    bucket: int
    precision: str
    versions: Mapping[str, str]
    compute_capability: tuple[int, int]

    def path(self, cache: Path) -> Path:
        """The engine's file; the readable part of its name is for people."""
        named = orjson.dumps([RECIPE, asdict(self)], option=orjson.OPT_SORT_KEYS)
        digest = hashlib.sha256(named).hexdigest()[:32]
        return cache / f"{self.part}-{self.bucket}-{self.precision}-{digest}.engine"


def write(path: Path, engine: bytes) -> None:
    """The whole file or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(engine)
    partial.replace(path)
