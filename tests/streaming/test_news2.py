import pytest

from streaming.news2 import score


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("respiratory_rate", {8: 3, 9: 1, 11: 1, 12: 0, 20: 0, 21: 2, 24: 2, 25: 3}),
        ("spo2", {91: 3, 92: 2, 93: 2, 94: 1, 95: 1, 96: 0}),
        ("systolic", {90: 3, 91: 2, 100: 2, 101: 1, 110: 1, 111: 0, 219: 0, 220: 3}),
        ("heart_rate", {40: 3, 41: 1, 50: 1, 51: 0, 90: 0, 91: 1, 110: 1, 111: 2, 130: 2, 131: 3}),
        ("temperature", {35.0: 3, 35.1: 1, 36.0: 1, 36.1: 0, 38.0: 0, 38.1: 1, 39.0: 1, 39.1: 2}),
        ("fio2", {21: 0, 28: 2}),
        ("gcs", {15: 0, 14: 3}),
    ],
)
def test_every_band_has_the_points_of_the_chart(name, points):
    for value, expected in points.items():
        assert score({name: value}) == expected, (name, value)


def test_nothing_charted_is_no_score():
    assert score({}) is None
    assert score({"urine": 100}) is None


def test_the_parts_of_the_coma_scale_add_up():
    assert score({"gcs_eye": 4, "gcs_verbal": 5, "gcs_motor": 6}) == 0
    assert score({"gcs_eye": 4, "gcs_verbal": 4, "gcs_motor": 6}) == 3
    assert score({"gcs_eye": 4}) is None


def test_the_worst_patient_scores_twenty():
    worst = {
        "respiratory_rate": 30,
        "spo2": 80,
        "fio2": 60,
        "systolic": 70,
        "heart_rate": 140,
        "gcs": 8,
        "temperature": 34,
    }
    assert score(worst) == 20
