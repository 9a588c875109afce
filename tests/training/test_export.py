"""An artifact's ONNX parts and golden outputs are caches: made again from its weights, they are the same."""

import hashlib
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer

from models import artifact, backends, golden
from models.network import Architecture, Network
from models.program import build_network
from models.trees import NEVER
from models.window import BINS, R, V
from training.export import _onnx, renew
from training.walked import walked


@pytest.fixture(scope="module")
def renewed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("renewed") / "artifact"
    shutil.copytree(artifact.locate("reference"), folder)
    renew(folder)
    return folder


def test_a_renewed_artifact_is_whole_and_serves(renewed):
    assert backends.serve(renewed, "onnx").refused == ()
    backends.load(renewed, "torch")


def test_what_the_weights_say_is_kept(renewed):
    before, after = artifact.load(artifact.locate("reference")), artifact.load(renewed)
    assert before.contents["model.safetensors"] == after.contents["model.safetensors"]
    assert before.card.thresholds == after.card.thresholds
    assert before.about["metrics"] == after.about["metrics"]
    assert set(before.about) == set(after.about)


def test_parts_export_to_the_same_bytes_each_time_and_name_nothing_of_this_machine(renewed):
    found = artifact.load(renewed)
    network = build_network(found)
    examples = golden.part_inputs(found.golden(), Tokenizer.from_str(found.contents["tokenizer.json"].decode()))
    for part in ("vitals", "fusion"):
        assert _onnx(network.part(part), examples[part]) == found.contents[f"{part}.onnx"]
    for part in artifact.PARTS:
        data = found.contents[f"{part}.onnx"]
        assert b"/" + b"site-packages" not in data and b".py" not in data
        model = onnx.load_from_string(data)
        assert {given.type.tensor_type.shape.dim[0].dim_param for given in model.graph.input} == {"batch"}


def test_the_card_names_the_renewed_files(renewed):
    found = artifact.load(renewed)
    for part in ("vitals", "notes", "scans"):
        assert found.card.encoder_hashes[part] == hashlib.sha256(found.contents[f"{part}.onnx"]).hexdigest()


def test_walked_trees_answer_as_the_tensors_do_whatever_is_missing():
    torch.manual_seed(0)
    vitals = Network(Architecture(width=16, boosted=("in-hospital-mortality", "sepsis-6h"), trees=40)).vitals.eval()
    trees = vitals.odds.trees
    trees.feature.random_(0, 5 * V)
    trees.threshold.normal_(1, 2)
    trees.threshold[:, :5, 3:] = torch.inf  # only absence decides
    trees.threshold[:, 5:9, 1] = NEVER  # a leaf that ends early
    trees.missing_left.random_(0, 2)
    trees.leaf.normal_()
    trees.start.copy_(torch.tensor([-1.0, 2.0]))
    rng = np.random.default_rng(0)
    known = rng.integers(0, 2, (70, 1, V))
    given = {
        "bins": np.tile(known, 2) * np.concatenate([rng.normal(1, 2, (70, BINS, V)), np.ones((70, BINS, V))], -1),
        "summary": np.abs(np.round(rng.normal(1, 2, (70, R, V)))) * known,
    }
    given = {name: array.astype(np.float32) for name, array in given.items()}
    data = _onnx(walked(vitals), given)
    assert [node.domain for node in onnx.load_from_string(data).graph.node].count("ai.onnx.ml") == 1
    told = onnxruntime.InferenceSession(data).run(None, given)[0]
    wanted = vitals(*(torch.from_numpy(array) for array in given.values())).detach().numpy()
    assert np.ptp(wanted[:, -2:]) > 1
    np.testing.assert_allclose(told, wanted, atol=1e-4)
