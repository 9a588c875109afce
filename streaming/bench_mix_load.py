"""What `bench mix` sends, and when: notes and scans from the open data or made up, and the order of a round's events."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streaming.attached import read_notes, read_scans
from streaming.synthetic import radiograph

WORDS = "Alert and oriented, comfortable on room air. Lungs clear, lactate rising. Plan: escalate, cultures. "


@dataclass(frozen=True, slots=True)
class Mix:
    """Events/s of each kind, how many notes come at once, and what notes and scans hold; `real`: none is made up."""

    vitals: int
    notes: float
    scans: float
    burst: int
    texts: Sequence[str]
    files: Sequence[bytes]
    real: bool

    @classmethod
    def of(cls, data: Path, vitals: int, notes: float, scans: float, burst: int = 1) -> "Mix":
        """Real notes and DICOM files where the open data lies in `data`; else made-up ones."""
        folders = data / "eicu_demo", data / "dicom"
        if all(folder.is_dir() for folder in folders):
            return cls(vitals, notes, scans, burst, read_notes(folders[0]), read_scans(folders[1]), True)
        texts = [WORDS * (1 + number % 8) for number in range(64)]
        files = [radiograph(seed, seed % 3 == 0) for seed in range(16)]
        return cls(vitals, notes, scans, burst, texts, files, False)

    def schedule(self, seconds: float, load: str) -> list[tuple[float, str]]:
        """(seconds after the start, kind) in order; a scan comes when no note does."""
        rates = {"vitals": (self.vitals, 1, 0.5)}
        if load == "mix":
            rates |= {"notes": (self.notes, self.burst, 0.5), "scans": (self.scans, 1, 0.9)}
        return sorted(
            ((n // at_once + phase) * at_once / rate, kind)
            for kind, (rate, at_once, phase) in rates.items()
            for n in range(int(rate * seconds))
        )
