import numpy as np

from training.kept import Kept


def test_what_was_made_is_read_again_until_its_key_changes(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"told": np.arange(3.0), "stay": np.array(["a", "bc"])}

    first, again = Kept(tmp_path / "kept", "k1")("Only vitals+notes 0", make), Kept(tmp_path / "kept", "k1")
    told = again("Only vitals+notes 0", make)
    assert len(made) == 1 and set(told) == {"told", "stay"}
    np.testing.assert_array_equal(told["told"], first["told"])
    assert told["stay"].tolist() == ["a", "bc"]
    again("another", make)
    Kept(tmp_path / "kept", "k2")("Only vitals+notes 0", make)
    assert len(made) == 3
    assert not list(tmp_path.rglob("*.part"))
