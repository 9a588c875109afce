import shutil

import pytest

from models import artifact, backends, golden


def test_the_shipped_artifact_is_whole_and_small():
    folder = artifact.locate("reference")
    found = artifact.load(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 25 << 20
    assert set(found.card.thresholds) == set(found.card.conditions)
    assert found.about["limits"] and found.about["licences"]


@pytest.mark.parametrize("name", ["card.json", *artifact.FILES])
def test_one_flipped_bit_is_noticed(name, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(artifact.locate("reference"), folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(artifact.ArtifactCorrupt):
        artifact.load(folder)


def test_a_missing_file_is_noticed(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(artifact.locate("reference"), folder)
    (folder / "fusion.onnx").unlink()
    with pytest.raises(artifact.ArtifactCorrupt):
        backends.load(folder)


def test_a_backend_that_answers_otherwise_may_not_serve(predictor):
    expected = artifact.load(artifact.locate("reference")).golden()
    expected["out_vitals"] = expected["out_vitals"] + 1e-3
    with pytest.raises(golden.GoldenMismatch):
        golden.check(predictor, expected)
