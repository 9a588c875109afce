"""Arrays that took long to make, kept on disk by name, so that an interrupted run goes on where it was."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Keep = Callable[[str, Callable[[], Arrays]], Arrays]
"""(name, how it is made) -> the arrays of that name."""


def under(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Those whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def at_once(name: str, make: Callable[[], Arrays]) -> Arrays:
    """Keeps nothing."""
    return make()


class Kept:
    """A `Keep` that makes what its folder has not, or has under another key: of other data, settings or code."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def __call__(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        path = self._folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as held:
                if str(held["key"]) == self._key:
                    return {entry: held[entry] for entry in held.files if entry != "key"}
        made = make()
        self._folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:  # a name would get another ending
            np.savez_compressed(file, key=np.array(self._key), **made)
        part.replace(path)
        return made
