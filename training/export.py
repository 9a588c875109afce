"""A trained network to an artifact folder. Owns writing; `models/artifact.py` reads and checks."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from safetensors.torch import save as save_safetensors
from tokenizers import Tokenizer

from models import artifact, golden
from models.backends.torch_eager import TorchPredictor
from models.calibration import Calibration
from models.conformal import Conformal
from models.network import Network
from models.program import build_network, export_part
from training.walked import walked


def export(
    network: Network,
    tokenizer: Tokenizer,
    calibration: Calibration,
    thresholds: Mapping[str, Mapping[str, float]],
    about: Mapping[str, Any],
    folder: Path,
    conformal: Conformal | None = None,
) -> None:
    """Writes safetensors, ONNX parts, tokenizer, golden outputs of the torch reference, and the card with hashes."""
    network = network.eval().cpu()
    folder.mkdir(parents=True, exist_ok=True)
    contents: dict[str, bytes] = {
        "model.safetensors": save_safetensors({k: v.contiguous() for k, v in network.state_dict().items()}),
        "tokenizer.json": tokenizer.to_str().encode(),
    }
    vitals = network.vitals
    given = golden.inputs(network.architecture.width, vitals.mean.numpy(), vitals.std.numpy())
    for part, examples in golden.part_inputs(given, tokenizer).items():
        contents[f"{part}.onnx"] = _onnx(network.part(part), examples)
        if part == "vitals":
            contents[artifact.WALKED] = _onnx(walked(vitals), examples)
    body: dict[str, Any] = {
        **about,
        "architecture": network.architecture.to_json(),
        "calibration": {"scale": calibration.scale.tolist(), "shift": calibration.shift.tolist()},
        "thresholds": thresholds,
        "conformal": None if conformal is None else conformal.to_json(),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }
    (folder / "golden.npz").write_bytes(b"")
    reference = TorchPredictor(
        artifact.Artifact(
            card=artifact.Card("", {}, network.architecture.conditions, network.architecture.width, {}),
            calibration=calibration,
            architecture=network.architecture.to_json(),
            contents=contents,
            about={},
        )
    )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **given, **golden.outputs(reference, given))
    contents["golden.npz"] = buffer.getvalue()
    body["sha256"]["golden.npz"] = hashlib.sha256(contents["golden.npz"]).hexdigest()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    body = orjson.loads(orjson.dumps(body))
    body["card_sha256"] = artifact.body_hash(body)
    (folder / "card.json").write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


def renew(folder: Path) -> None:
    """Makes ONNX parts, golden outputs and hashes of an artifact again, from its weights. Deterministic.

    The model's hash changes if any of them does, for workers a new model.
    """
    found = artifact.load(folder)
    own = {"architecture", "calibration", "thresholds", "conformal", "sha256", "card_sha256"}
    about = {name: value for name, value in found.about.items() if name not in own}
    tokenizer = Tokenizer.from_str(found.contents["tokenizer.json"].decode())
    export(
        build_network(found), tokenizer, found.calibration, found.card.thresholds, about, folder, found.card.conformal
    )


def _onnx(module: torch.nn.Module, examples: Mapping[str, np.ndarray]) -> bytes:
    """The part's exported program as ONNX with a dynamic batch; weights inside, no paths or names of this machine."""
    program = torch.onnx.export(
        export_part(module, examples),
        dynamo=True,
        input_names=list(examples),
        output_names=["out"],
        dynamic_shapes={name: {0: "batch"} for name in examples},
        verbose=False,
    )
    model = program.model_proto
    for node in model.graph.node:  # stack traces name files of the machine that exported
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    return model.SerializeToString(deterministic=True)
