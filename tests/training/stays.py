"""A small made-up cohort whose ill breathe and beat faster, for tests of what learns."""

from collections.abc import Iterator

import numpy as np

from streaming.clock import HOUR_MS
from training.stays import EPOCH_MS, Stay, vitals_event

HOURS = 4


def stays(count: int = 60, seed: int = 0) -> Iterator[Stay]:
    """Every third is ill; hours of sepsis come at the end of an ill stay."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        ill = number % 3 == 0
        events = []
        for hour in range(HOURS):
            rate, breath = rng.normal(120 if ill else 80, 5), rng.normal(28 if ill else 15, 2)
            measured = [("8867-4", rate, "/min"), ("9279-1", breath, "/min")]
            events.append(vitals_event(f"p{number}", hour, EPOCH_MS + hour * HOUR_MS, measured))
        yield Stay(
            f"p{number}",
            f"p{number}",
            "test",
            events,
            {"in-hospital-mortality": float(ill)},
            [EPOCH_MS + hour * HOUR_MS for hour in range(HOURS)],
            hourly={"sepsis-6h": [0.0, 0.0, float(ill), float(ill)]},
        )
