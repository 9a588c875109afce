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
from models.kinds import one_hot
from models.network import Network
from models.tokens import SENTENCES, WORDS
from models.window import WINDOW_FIELDS


def export(
    network: Network,
    tokenizer: Tokenizer,
    calibration: Calibration,
    thresholds: Mapping[str, Mapping[str, float]],
    about: Mapping[str, Any],
    folder: Path,
) -> None:
    """Writes safetensors, ONNX parts, tokenizer, golden outputs of the torch reference, and the card with hashes."""
    network = network.eval().cpu()
    folder.mkdir(parents=True, exist_ok=True)
    contents: dict[str, bytes] = {
        "model.safetensors": save_safetensors({k: v.contiguous() for k, v in network.state_dict().items()}),
        "tokenizer.json": tokenizer.to_str().encode(),
    }
    given = golden.inputs(network.architecture.width)
    for part, (module, arguments) in _parts(network, given).items():
        contents[f"{part}.onnx"] = _onnx(module, arguments)
    body: dict[str, Any] = {
        **about,
        "architecture": network.architecture.to_json(),
        "calibration": {"scale": calibration.scale.tolist(), "shift": calibration.shift.tolist()},
        "thresholds": thresholds,
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


def _parts(network: Network, given: Mapping[str, np.ndarray]) -> dict[str, tuple[torch.nn.Module, dict[str, Any]]]:
    """Each part with named example inputs of two rows."""
    ids = np.ones((2, SENTENCES, WORDS), np.int64)
    return {
        "vitals": (network.vitals, {name: given[name][:2] for name in WINDOW_FIELDS}),
        "notes": (network.notes, {"ids": ids}),
        "scans": (network.scans, {"pixels": given["pixels"][:2, None], "kind": one_hot(["CR", "CT"])}),
        "fusion": (network.fusion, {name: given[name][:2] for name in ("tokens", "present", "age_h")}),
    }


def _onnx(module: torch.nn.Module, arguments: Mapping[str, np.ndarray]) -> bytes:
    """The part with a dynamic batch; weights inside, no paths or names of this machine."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    tensors = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arguments.values())
    program = torch.onnx.export(
        module,
        tensors,
        dynamo=True,
        input_names=list(arguments),
        output_names=["out"],
        dynamic_shapes=tuple({0: batch} for _ in tensors),
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
