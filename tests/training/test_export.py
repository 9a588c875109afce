"""An artifact's ONNX parts and golden outputs are caches: made again from its weights, they are the same."""

import hashlib
import shutil

import onnx
import pytest
from tokenizers import Tokenizer

from models import artifact, backends, golden
from models.program import build_network
from training.export import _onnx, renew


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
        assert _onnx(getattr(network, part), examples[part]) == found.contents[f"{part}.onnx"]
    for part in artifact.PARTS:
        data = found.contents[f"{part}.onnx"]
        assert b"/" + b"site-packages" not in data and b".py" not in data
        model = onnx.load_from_string(data)
        assert {given.type.tensor_type.shape.dim[0].dim_param for given in model.graph.input} == {"batch"}


def test_the_card_names_the_renewed_files(renewed):
    found = artifact.load(renewed)
    for part in ("vitals", "notes", "scans"):
        assert found.card.encoder_hashes[part] == hashlib.sha256(found.contents[f"{part}.onnx"]).hexdigest()
