"""The artifact: a folder of safetensors, ONNX parts, tokenizer, golden inputs and outputs, and a JSON card.

The card names the SHA-256 of every other file and its own body's; a bit flipped anywhere is noticed before it serves.
Nothing is loaded by pickle. Owns reading and checking; leaves writing to `training/export.py`.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.calibration import Calibration
from models.conformal import Conformal
from models.predictor import Card

PARTS = ("vitals", "notes", "scans", "fusion")
WALKED = "vitals.walked.onnx"
"""The vitals part for ONNX Runtime alone, its trees one operator that walks them; `vitals.onnx` is for any other."""
FILES = ("model.safetensors", "tokenizer.json", "golden.npz", *(f"{part}.onnx" for part in PARTS), WALKED)


class ArtifactCorrupt(Exception):
    """A file of the artifact is missing or is not the one its card names."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A checked artifact. `contents` holds exactly the bytes whose hashes were checked."""

    card: Card
    calibration: Calibration
    architecture: Mapping[str, Any]
    contents: Mapping[str, bytes]
    about: Mapping[str, Any]

    def golden(self) -> dict[str, NDArray[Any]]:
        """Golden inputs and the reference's outputs, by name."""
        with np.load(io.BytesIO(self.contents["golden.npz"]), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def locate(name: str) -> Path:
    """The folder of an artifact: `reference` is the one that ships with the package."""
    if name == "reference":
        return Path(str(files("models").joinpath("reference")))
    return Path(name)


def body_hash(body: Mapping[str, Any]) -> str:
    """SHA-256 of a card without its `card_sha256`, in canonical JSON: the model's hash."""
    rest = {key: value for key, value in body.items() if key != "card_sha256"}
    return hashlib.sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def load(folder: Path) -> Artifact:
    """Reads and checks an artifact.

    Raises:
        ArtifactCorrupt: naming the file, when anything is missing or altered.
    """
    try:
        about = orjson.loads((folder / "card.json").read_bytes())
        if about["card_sha256"] != body_hash(about):
            raise ArtifactCorrupt("card.json was altered")
        contents = {name: (folder / name).read_bytes() for name in FILES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(f"artifact at {folder.name} cannot be read ({type(error).__name__})") from None
    for name, data in contents.items():
        if hashlib.sha256(data).hexdigest() != about["sha256"].get(name):
            raise ArtifactCorrupt(f"{name} is not the file its card names")
    card = Card(
        model_hash=about["card_sha256"],
        encoder_hashes={part: about["sha256"][f"{part}.onnx"] for part in PARTS[:3]},
        conditions=tuple(about["architecture"]["conditions"]),
        width=about["architecture"]["width"],
        thresholds=about["thresholds"],
        conformal=Conformal.from_json(about["conformal"]) if about.get("conformal") else None,
    )
    calibration = Calibration(
        np.array(about["calibration"]["scale"], np.float64), np.array(about["calibration"]["shift"], np.float64)
    )
    return Artifact(card, calibration, about["architecture"], contents, about)
