"""National Early Warning Score 2, the rule-based score beside the model's.

Source: Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017, chart 1, SpO2 scale 1. Parameters
that were not charted count 0, as on the paper chart; with none charted there is no score.
"""

from collections.abc import Mapping

_BANDS: dict[str, tuple[tuple[float, int], ...]] = {
    # (upper bound, inclusive, of the band; points)
    "respiratory_rate": ((8, 3), (11, 1), (20, 0), (24, 2), (float("inf"), 3)),
    "spo2": ((91, 3), (93, 2), (95, 1), (float("inf"), 0)),
    "systolic": ((90, 3), (100, 2), (110, 1), (219, 0), (float("inf"), 3)),
    "heart_rate": ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (float("inf"), 3)),
    "temperature": ((35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), (float("inf"), 2)),
}
_ROUNDED = {"respiratory_rate": 0, "spo2": 0, "systolic": 0, "heart_rate": 0, "temperature": 1}
_GCS_PARTS = ("gcs_eye", "gcs_verbal", "gcs_motor")
READ = (*_BANDS, "fio2", "gcs", *_GCS_PARTS)
"""Signals that the score reads."""
ROOM_AIR_PERCENT = 21.0
ALERT_GCS = 15


def score(latest: Mapping[str, float]) -> int | None:
    """The score of the newest value of each signal (names and units of `models.signals`), 0 to 20.

    Supplemental oxygen is FiO2 over room air; consciousness is taken from the Glasgow Coma Scale: below 15 is CVPU.
    """
    charted = False
    points = 0
    for name, bands in _BANDS.items():
        if name in latest:
            charted = True
            value = round(latest[name], _ROUNDED[name])
            points += next(score for bound, score in bands if value <= bound)
    if "fio2" in latest:
        charted = True
        points += 2 if latest["fio2"] > ROOM_AIR_PERCENT else 0
    parts = [latest.get(name) for name in _GCS_PARTS]
    total = latest.get("gcs") if None in parts else sum(part for part in parts if part is not None)
    if total is not None:
        charted = True
        points += 3 if total < ALERT_GCS else 0
    return points if charted else None
