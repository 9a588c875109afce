"""A small made-up cohort whose ill breathe and beat faster, for tests of what learns."""

from collections.abc import Iterator

import numpy as np
import torch

from models.vision import FEATURES, shrunk
from streaming.clock import HOUR_MS
from training.documents import Views
from training.stays import EPOCH_MS, Picture, Stay, note_event, vitals_event

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


def documented(count: int = 120, seed: int = 0) -> Iterator[Stay]:
    """Patients with a note and a picture each, two in three with vitals; most notes say what will come, most pulses do."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        ill = rng.random() < 0.4
        said = ill if rng.random() < 0.85 else not ill
        text = f"{'septic shock' if said else 'no distress'} ward {number % 5} bed {number}"
        events = [note_event(f"p{number}", 0, EPOCH_MS, text)]
        pulse = 80.0 + 30 * ill + rng.normal(0, 10)
        if number % 3:
            events.append(vitals_event(f"p{number}", 1, EPOCH_MS, [("8867-4", pulse, "/min")]))
        picture = Picture(EPOCH_MS, np.zeros((224, 224), np.float32), "DX")
        label = {"critical-course": float(ill)}
        yield Stay(f"p{number}", f"p{number}", "test", events, label, [EPOCH_MS], [picture])


def pictured(count: int, tells: float = 1.0, seed: int = 2) -> Iterator[Stay]:
    """A CT picture each, every second with a nodule, which this share of the pictures shows."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.random((224, 224), np.float32) * 0.2
        label = float(number % 2)
        pixels[90:130, 90:130] += 0.7 * label * (rng.random() < tells)
        picture = Picture(EPOCH_MS, pixels, "CT")
        yield Stay(f"s{number}", f"s{number}", "test", [], {"lung-nodule": label}, [EPOCH_MS], [picture])


def shrunk_views(pictures: np.ndarray) -> Views:
    """Of pictures [P, 224, 224], without the trunk's features."""
    return Views(torch.zeros(len(pictures), FEATURES), shrunk(torch.from_numpy(pictures).unsqueeze(1)))


def views_of(label: np.ndarray, seed: int = 1) -> Views:
    """Features of pictures, one a patient, that tell the label [N] a little."""
    features = np.random.default_rng(seed).normal(size=(len(label), FEATURES)).astype(np.float32)
    features[:, :60] += 0.8 * label[:, None]
    return Views(torch.from_numpy(features), torch.zeros(len(label), 1, 56, 56))
