from models.conditions import CONDITIONS, NAMES


def test_names_are_unique():
    assert len(set(NAMES)) == len(NAMES)


def test_a_condition_that_needs_a_scan_is_asked_only_with_one():
    nodule = CONDITIONS[NAMES.index("lung-nodule")]
    assert nodule.asked(["CR", "CT"])
    assert not nodule.asked(["CR"])
    assert not nodule.asked([])
    assert CONDITIONS[NAMES.index("in-hospital-mortality")].asked([])
