"""The exported programs: what ONNX parts and engines are made from. Weights and architecture in, `torch.export` out.

A program is made again from safetensors whenever it is needed, never read from a file: `.pt2` files hold pickles.
"""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.export import ExportedProgram

from models.artifact import Artifact
from models.fusion import Fusion
from models.network import Architecture, Network
from models.vitals import VitalsEncoder

MOST_ROWS = 4096
Module = TypeVar("Module", bound=nn.Module)

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def build_network(artifact: Artifact) -> Network:
    """The network an artifact holds, for inference, on the CPU."""
    settings = dict(artifact.architecture)
    settings |= {name: tuple(settings[name]) for name in ("conditions", "boosted", "linear") if name in settings}
    network = Network(Architecture(**settings))
    network.load_state_dict(load_safetensors(artifact.contents["model.safetensors"]))
    return network.eval()


def export_part(
    module: nn.Module, examples: Mapping[str, NDArray[Any]], rows: int | None = None, device: str = "cpu"
) -> ExportedProgram:
    """A part as a program whose inputs are called as in `examples` ([2 or more, ...] each).

    `rows` fixes the batch; None leaves it dynamic, from 1 to `MOST_ROWS`, one dimension shared by all inputs. Deterministic
    for a version of torch. Raises what `torch.export` raises when the part branches on data.
    """
    at = 2 if rows is None else rows
    tensors = {
        name: torch.from_numpy(np.resize(array, (at, *array.shape[1:]))).to(device) for name, array in examples.items()
    }
    batch = torch.export.Dim("batch", min=1, max=MOST_ROWS)
    shapes = {name: {0: batch} for name in tensors} if rows is None else None
    with torch.no_grad():
        return torch.export.export(module, tuple(tensors.values()), dynamic_shapes=shapes, strict=False)


class _Rounded(nn.Module):
    """A layer that multiplies in a lower precision, between inputs and outputs in fp32."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = layer.to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.to(self.dtype)).float()


def in_precision(network: Module, precision: str) -> Module:
    """A copy of a network or part whose linear and convolution layers run in `precision`.

    The fusion stays fp32 whole: it costs next to nothing and its rounding errors go straight into the probabilities. All
    else, normalisation above all, stays fp32 too: casting the whole network would round raw values first, and bf16
    cannot tell a pH of 7.35 from 7.36.
    """
    found = copy.deepcopy(network)
    if precision != "fp32":
        _round(found, DTYPES[precision])
    return found


def _round(module: nn.Module, dtype: torch.dtype) -> None:
    if isinstance(module, Fusion | VitalsEncoder):
        return
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear | nn.Conv2d):
            setattr(module, name, _Rounded(child, dtype))
        else:
            _round(child, dtype)
