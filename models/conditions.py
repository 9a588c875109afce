"""The one table of what the model is asked: a condition a row. Their order is the order of the model's outputs.

Networks, artifacts and training take conditions from here; append, never insert. No torch.
"""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Condition:
    """One question to the model.

    needs: DICOM modalities one of which must be at hand for it to be asked at all; empty: any data will do.
    hourly: labelled, trained and measured at every snapshot of a stay, otherwise measured once, at its last.
    """

    name: str
    needs: frozenset[str] = frozenset()
    hourly: bool = False

    def asked(self, scan_kinds: Collection[str]) -> bool:
        """Whether it can be asked of a patient whose standing scans are of these DICOM modalities."""
        return not self.needs or not self.needs.isdisjoint(scan_kinds)


CONDITIONS: tuple[Condition, ...] = (
    Condition("in-hospital-mortality"),
    Condition("sepsis-6h", hourly=True),
    Condition("critical-course"),
    Condition("lung-nodule", needs=frozenset({"CT"})),
)

BY_NAME = {condition.name: condition for condition in CONDITIONS}

NAMES: tuple[str, ...] = tuple(condition.name for condition in CONDITIONS)
