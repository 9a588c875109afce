"""The whole network: the three encoders and the fusion, as training sees them."""

from dataclasses import asdict, dataclass

from torch import nn

from models.conditions import NAMES
from models.fusion import make_fusion
from models.text import NoteEncoder
from models.vision import ScanEncoder
from models.vitals import VitalsEncoder


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything needed to build the modules whose weights an artifact holds."""

    width: int = 64
    vocabulary: int = 4000
    vitals_layers: int = 2
    vitals_dropout: float = 0.1
    boosted: tuple[str, ...] = ()
    trees: int = 0
    fusion: str = "self"
    conditions: tuple[str, ...] = NAMES

    def to_json(self) -> dict[str, object]:
        return asdict(self)


class Network(nn.Module):
    """vitals, notes, scans: encoders to [B, D]; fusion: tokens to logits [B, C]."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.vitals = VitalsEncoder(
            architecture.width,
            architecture.vitals_layers,
            dropout=architecture.vitals_dropout,
            boosted=len(architecture.boosted),
            trees=architecture.trees,
        )
        self.notes = NoteEncoder(architecture.vocabulary, architecture.width)
        self.scans = ScanEncoder(architecture.width)
        self.fusion = make_fusion(
            architecture.fusion,
            len(architecture.conditions),
            architecture.width,
            [architecture.conditions.index(name) for name in architecture.boosted],
        )
