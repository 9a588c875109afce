"""A made-up cohort, for the demo on a bare machine: vitals and labs that drift, notes, small radiographs.

Nobody's data. Some patients deteriorate, so that alerts appear. Deterministic for a seed.
"""

import io
import math
import random
from collections.abc import Iterator

import numpy as np
import orjson
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from models.signals import SIGNALS, by_name
from streaming.clock import HOUR_MS, MINUTE_MS
from streaming.envelope import from_ms
from streaming.mimic import Outgoing

START_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
ILL_SHARE = 0.3

_NORMAL = {
    "heart_rate": (78, 6, 55),
    "respiratory_rate": (15, 2, 18),
    "spo2": (97, 1, -14),
    "systolic": (122, 8, -45),
    "mean_pressure": (86, 6, -32),
    "temperature": (36.9, 0.2, 2.2),
    "gcs": (15, 0.2, -8),
}
"""name: usual value, spread, change at the height of the illness."""
_LABS = {"lactate": (1.2, 0.3, 7.0), "creatinine": (0.9, 0.2, 2.8), "urea_nitrogen": (15, 4, 60), "wbc": (8, 1.5, 14)}
_WELL = "Alert and oriented, comfortable on room air. Lungs clear. Plan: continue, likely step down."
_ILL = "Lethargic, increasing work of breathing. Hypotensive despite fluids, lactate rising. Plan: escalate, cultures."


def cohort(patients: int, hours: int, seed: int) -> Iterator[Outgoing]:
    """Events of all patients in order of time; everybody is admitted within the first hour."""
    events = [event for number in range(patients) for event in _patient(number, hours, seed)]
    events.sort(key=lambda event: (event.virtual_ms, event.patient, event.id))
    yield from events


def _patient(number: int, hours: int, seed: int) -> Iterator[Outgoing]:
    rng = random.Random(f"{seed}/{number}")
    patient = f"synthetic-{number:05d}"
    begin = rng.randrange(60) * MINUTE_MS
    ill = number % 10 < ILL_SHARE * 10
    onset_h, counter = hours * rng.uniform(0.3, 0.6), 0

    def event(kind: str, at_ms: int, value: bytes) -> Outgoing:
        nonlocal counter
        counter += 1
        at = START_MS + at_ms
        return Outgoing(kind, f"{patient}/{counter}", "synthetic", patient, f"{patient}/stay", at, at, at_ms, value)

    def severity(at_ms: int) -> float:
        grown = ((at_ms - begin) / HOUR_MS - onset_h) / max(1.0, hours * 0.3)
        return 1 / (1 + math.exp(-6 * (grown - 0.5))) if ill else 0.0

    def observations(at_ms: int, table: dict[str, tuple[float, float, float]]) -> bytes:
        found = []
        for name, (usual, spread, change) in table.items():
            signal = SIGNALS[by_name[name]]
            value = min(max(rng.gauss(usual + change * severity(at_ms), spread), signal.low), signal.high)
            found.append((signal.loinc, round(value, 1), signal.ucum))
        return _vitals(found, START_MS + at_ms)

    age, male = SIGNALS[by_name["age"]], SIGNALS[by_name["male"]]
    static = [(age.loinc, float(rng.randrange(35, 92)), "a"), (male.loinc, float(rng.random() < 0.5), "1")]
    yield event("vitals", begin, _vitals(static, START_MS + begin))
    at = begin
    while at < begin + hours * HOUR_MS:
        at += rng.randrange(4, 12) * MINUTE_MS
        yield event("vitals", at, observations(at, _NORMAL))
        if rng.random() < 0.03:
            yield event("vitals", at + 1, observations(at, _LABS))
        if rng.random() < 0.01:
            text = _ILL if severity(at) > 0.4 else _WELL
            yield event("notes", at + 2, orjson.dumps({"note_id": f"{patient}/n{at}", "text": text}))
    scan_at = begin + 2 * HOUR_MS + rng.randrange(60) * MINUTE_MS
    yield event("scans", scan_at, radiograph(rng.randrange(1 << 30), ill))


def _vitals(measured: list[tuple[str, float, str]], at_ms: int) -> bytes:
    moment = from_ms(at_ms)
    return orjson.dumps({"observations": [{"code": c, "value": v, "unit": u, "time": moment} for c, v, u in measured]})


def radiograph(seed: int, hazy: bool) -> bytes:
    """A small CR in DICOM Part 10: two dark lungs in a bright chest, hazy when ill. [128, 128], 12 bits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    lungs = sum(np.exp(-(((x - side) / 0.32) ** 4 + ((y + 0.05) / 0.6) ** 4)) for side in (-0.42, 0.42))
    grey = 0.75 - (0.35 if hazy else 0.55) * lungs + rng.normal(0, 0.02, x.shape)
    pixels = (np.clip(grey, 0, 1) * 4095).astype("<u2")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(seed), "instance"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = ComputedRadiographyImageStorage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=[str(seed), "study"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[str(seed), "series"])
    data.Modality, data.PhotometricInterpretation = "CR", "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit = 1, 16, 12, 11
    data.PixelRepresentation = 0
    data.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()
