"""LUNA16: 50 x 50 px crops of lung CTs around nodule candidates; nodule or not.

The file's number is the candidate's row in LUNA16's list, which is sorted by scan, so a block of neighbouring rows holds
whole scans: `group` is the block, which keeps a patient's candidates together (at most the scan on each border is cut).
Where scans begin the crops do not tell; `cluster` is a stretch of the list as long as a scan is on average.
The data set's own split (`split_of`) is by candidate: there patients do cross. The rotated copies of training nodules
(row + 1,000,000 and + 2,000,000) are not read: training turns its pictures itself, inside the fold.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from models.picture import to_square
from streaming.clock import HOUR_MS
from training.stays import EPOCH_MS, Picture, Stay

CONDITION = "lung-nodule"
SPLITS = ("train", "val", "test")
SCAN = 620
"""Rows of the candidates' list a scan, on average: 551,065 of 888 scans."""
BLOCK = 25_000
"""Rows of the list a group: about 40 scans."""


def read(root: Path) -> Iterator[Stay]:
    """One stay a labelled crop, of whichever splits the archives hold."""
    from PIL import Image

    for path in sorted(root.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            for split in SPLITS:
                labels = f"{split}labels.txt"
                if labels not in names:
                    continue
                for line in archive.read(labels).decode().splitlines():
                    name, label = line.split()
                    grey = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("L"), np.float32) / 255.0
                    row = int(PurePosixPath(name).stem.removeprefix("image_"))
                    yield Stay(
                        f"luna16-{split}-{row}",
                        f"luna16-{row // BLOCK}",
                        "luna16",
                        [],
                        {CONDITION: float(label)},
                        [EPOCH_MS + HOUR_MS],
                        [Picture(EPOCH_MS, to_square(grey), "CT")],
                        cluster=f"luna16-{row // BLOCK}-{row % BLOCK // SCAN}",
                    )


def split_of(patient: str) -> str:
    """The data set's own split of one of its stays: train, val or test."""
    return patient.split("-")[1]
