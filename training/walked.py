"""The boosted trees as one operator of ai.onnx.ml, for ONNX Runtime alone: it walks three nodes of a tree, where the
tensors of `models/trees.py`, which every other engine takes, ask all seven. Same trees, same answer to rounding."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from models.trees import DEPTH, NODES, BoostedTrees
from models.vitals import VitalsEncoder

_ALL = 2 ** (DEPTH + 1) - 1


class WalkedTrees(nn.Module):
    """Takes and gives what `BoostedTrees` does. Only to be exported to ONNX: it computes nothing here."""

    def __init__(self, trees: BoostedTrees) -> None:
        super().__init__()
        self.conditions = trees.threshold.shape[0]
        self.attributes = _attributes(trees)

    def forward(self, features: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            "ai.onnx.ml::TreeEnsembleRegressor",
            [features],
            attrs=self.attributes,
            dtype=torch.float32,
            shape=(features.shape[0], self.conditions),
            version=3,
        )


def walked(vitals: VitalsEncoder) -> VitalsEncoder:
    """A copy whose trees, where it has any, are walked."""
    found = copy.deepcopy(vitals)
    if found.odds is not None:
        found.odds.trees = WalkedTrees(found.odds.trees)
    return found


def _attributes(trees: BoostedTrees) -> dict[str, Any]:
    """Of TreeEnsembleRegressor, version 3: every tree a whole heap of `NODES` inner nodes and their leaves."""
    conditions, count, _ = trees.threshold.shape
    feature = trees.feature.view(-1, NODES)
    threshold, leaf = trees.thresholds().flatten(0, 1), trees.leaf.flatten(0, 1)
    every = conditions * count
    leaves = _ALL - NODES

    def heaps(of_nodes: Tensor, at_leaves: Any) -> list[Any]:
        filled = torch.full((every, leaves), at_leaves, dtype=of_nodes.dtype)
        return torch.cat([of_nodes, filled], 1).flatten().tolist()

    node = torch.arange(NODES).expand(every, NODES)
    return {
        "nodes_treeids": torch.arange(every).repeat_interleave(_ALL).tolist(),
        "nodes_nodeids": list(range(_ALL)) * every,
        "nodes_modes": (["BRANCH_LEQ"] * NODES + ["LEAF"] * leaves) * every,
        "nodes_featureids": heaps(feature, 0),
        "nodes_values": heaps(threshold, 0.0),
        "nodes_missing_value_tracks_true": heaps(trees.missing_left.long().view(-1, NODES), 0),
        "nodes_truenodeids": heaps(2 * node + 1, 0),
        "nodes_falsenodeids": heaps(2 * node + 2, 0),
        "target_treeids": torch.arange(every).repeat_interleave(leaves).tolist(),
        "target_nodeids": list(range(NODES, _ALL)) * every,
        "target_ids": torch.arange(conditions).repeat_interleave(count * leaves).tolist(),
        "target_weights": leaf.flatten().tolist(),
        "base_values": trees.start.tolist(),
        "n_targets": conditions,
        "aggregate_function": "SUM",
    }
