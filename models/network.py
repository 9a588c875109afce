"""The whole network: the three encoders and the fusion, as training sees them."""

from dataclasses import asdict, dataclass

from torch import nn

from models.conditions import BY_NAME, NAMES
from models.fusion import EachLeftOut, make_fusion
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
    linear: tuple[str, ...] = ()
    fusion: str = "self"
    conditions: tuple[str, ...] = NAMES

    @property
    def of_vitals(self) -> tuple[str, ...]:
        """Conditions whose log odds the vitals token ends with: those with trees, then those with a linear fit."""
        rest = (name for name in self.linear if name not in self.boosted and not BY_NAME[name].needs)
        return (*self.boosted, *rest)

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
            linear=len(architecture.of_vitals) - len(architecture.boosted),
        )
        linear = [architecture.conditions.index(name) for name in architecture.linear]
        self.notes = NoteEncoder(architecture.vocabulary, architecture.width, conditions=len(linear))
        self.scans = ScanEncoder(architecture.width, conditions=len(linear))
        self.fusion = make_fusion(
            architecture.fusion,
            len(architecture.conditions),
            architecture.width,
            [architecture.conditions.index(name) for name in architecture.of_vitals],
            linear,
        )

    def part(self, name: str) -> nn.Module:
        """A part as it is served: an encoder, or the fusion, which also answers without each modality."""
        return EachLeftOut(self.fusion) if name == "fusion" else self.get_submodule(name)
